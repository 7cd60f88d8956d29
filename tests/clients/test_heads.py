from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedunlearn.clients.heads import KEPT, HeadStore
from fedunlearn.errors import ClientError, RunFolderError
from fedunlearn.key_files import PrivateKey
from fedunlearn.ledger_head import KeyRotation, SignedHead

RUN, TIME = "ab" * 16, "2026-11-21T10:00:00+00:00"
KEY = PrivateKey.generate()


def head(number: int, key: PrivateKey = KEY, run: str = RUN, content: int = 0) -> SignedHead:
    return SignedHead(run, number, f"{number + content:064x}", TIME, "").signed(key)


@pytest.fixture
def store(tmp_path: Path) -> HeadStore:
    return HeadStore(tmp_path)


def numbers(store: HeadStore) -> list[int]:
    known = store.known()
    return [] if known is None else [one.number for one in known.heads]


def test_heads_are_kept_in_order(store: HeadStore, tmp_path: Path) -> None:
    assert store.known() is None
    for number in (3, 7, 7, 20):
        store.accept(head(number), [])
    assert numbers(store) == [3, 7, 20]
    known = HeadStore(tmp_path).known()
    assert known is not None and known.first_key == known.key == KEY.public_key and known.run == RUN
    assert (tmp_path / "heads.json").stat().st_mode & 0o777 == 0o600


def test_the_last_heads_are_kept(store: HeadStore) -> None:
    for number in range(1, KEPT + 6):
        store.accept(head(number), [])
    assert numbers(store) == list(range(6, KEPT + 6))


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (head(6), "has gone back: it showed entry 7 before and shows 6 now"),
        (head(7, content=1), "was rewritten: entry 7 is another one"),
        (head(8, key=PrivateKey.generate()), "not signed with the key that this client knows it by"),
        (replace(head(8), hash="f" * 64), "not signed with the key"),
        (replace(head(8), signature=head(9).signature), "not signed with the key"),
        (head(8, run="cd" * 16), "this client's folder belongs to run"),
    ],
)
def test_a_head_that_does_not_follow_is_refused(store: HeadStore, refused: SignedHead, why: str) -> None:
    store.accept(head(7), [])
    with pytest.raises(ClientError, match=why):
        store.accept(refused, [])
    assert numbers(store) == [7]
    store.accept(head(8), [])


def test_the_first_head_must_be_signed_too(store: HeadStore) -> None:
    with pytest.raises(ClientError):
        store.accept(replace(head(1), signature=head(2).signature), [])
    assert store.known() is None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shown=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 1)), max_size=8))
def test_whatever_is_shown_what_is_kept_only_grows(tmp_path_factory, shown: list[tuple[int, int]]) -> None:
    store = HeadStore(tmp_path_factory.mktemp("client"))
    last: tuple[int, int] | None = None
    for number, content in shown:
        try:
            store.accept(head(number, content=content), [])
            accepted = True
        except ClientError:
            accepted = False
        assert accepted == (last is None or number > last[0] or (number, content) == last)
        last = (number, content) if accepted else last
    kept = numbers(store)
    assert kept == sorted(set(kept))


def test_a_new_key_is_taken_when_the_old_one_signed_it(store: HeadStore) -> None:
    second, third, thief = (PrivateKey.generate() for _ in range(3))
    changes = [
        KeyRotation(RUN, old.public_key, new.public_key, TIME).signed(old)
        for old, new in ((KEY, second), (second, third))
    ]
    store.accept(head(1), [])
    forged = KeyRotation(RUN, KEY.public_key, thief.public_key, TIME).signed(thief)
    with pytest.raises(ClientError, match="not signed with the key before it"):
        store.accept(head(2, key=thief), [forged])
    store.accept(head(2, key=second), changes[:1])
    store.accept(head(3, key=third), changes)
    with pytest.raises(ClientError, match="not signed with the key"):
        store.accept(head(4), changes)
    known = store.known()
    assert known is not None and (known.first_key, known.key) == (KEY.public_key, third.public_key)


@pytest.mark.parametrize("content", [[], {}, {"heads": [1]}, {"run": "r", "first_key": "k", "key": "k", "heads": [{}]}])
def test_a_damaged_file_is_told(store: HeadStore, tmp_path: Path, content: object) -> None:
    (tmp_path / "heads.json").write_text(json.dumps(content))
    with pytest.raises(RunFolderError, match="holds no ledger heads"):
        store.accept(head(1), [])
