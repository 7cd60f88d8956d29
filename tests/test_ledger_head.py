from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from fedunlearn.errors import ClientError
from fedunlearn.key_files import PrivateKey
from fedunlearn.ledger_head import KeyRotation, SignedHead, from_record, last_key, to_record

RUN, TIME = "0" * 31 + "1", "2026-11-21T10:00:00.000000+00:00"


def head(key: PrivateKey, number: int = 7) -> SignedHead:
    return SignedHead(RUN, number, f"{number:064x}", TIME, "").signed(key)


def rotation(old: PrivateKey, new: PrivateKey, run: str = RUN) -> KeyRotation:
    return KeyRotation(run, old.public_key, new.public_key, TIME).signed(old)


def test_a_head_holds_as_it_was_signed_and_no_other_way() -> None:
    key, other = PrivateKey.generate(), PrivateKey.generate()
    signed = head(key)
    assert signed.holds() and signed.public_key == key.public_key
    for changed in (
        replace(signed, number=8),
        replace(signed, hash="f" * 64),
        replace(signed, run="f" * 32),
        replace(signed, time=TIME.replace("10", "11")),
        replace(signed, public_key=other.public_key),
        replace(signed, signature=head(other).signature),
        replace(signed, signature=""),
    ):
        assert not changed.holds()


def test_a_record_is_read_back() -> None:
    first, second = PrivateKey.generate(), PrivateKey.generate()
    sent = head(second), [rotation(first, second)]
    assert from_record(to_record(*sent)) == sent


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"head": "[]", "rotations": "[]"},
        {"head": "{}", "rotations": "[]"},
        {"head": "no JSON", "rotations": "[]"},
        {**to_record(head(PrivateKey.generate()), []), "rotations": "{}"},
        {**to_record(head(PrivateKey.generate()), []), "rotations": '[{"run":1}]'},
        to_record(replace(head(PrivateKey.generate()), number=0), []),
        to_record(replace(head(PrivateKey.generate()), number=True), []),
        to_record(replace(head(PrivateKey.generate()), hash="../../x"), []),
    ],
)
def test_what_is_no_head_is_refused(record: dict) -> None:
    with pytest.raises(ClientError):
        from_record(record)


def test_the_last_key_follows_from_the_first() -> None:
    keys = [PrivateKey.generate() for _ in range(4)]
    changes = [rotation(old, new) for old, new in pairwise(keys)]
    for known in range(4):
        assert last_key(keys[known].public_key, RUN, changes) == keys[3].public_key
    assert last_key(keys[0].public_key, RUN, []) == keys[0].public_key


@pytest.mark.parametrize("wrong", ["signature", "gap", "run", "thief"])
def test_a_change_of_keys_must_be_signed_by_the_key_before(wrong: str) -> None:
    first, second, third = (PrivateKey.generate() for _ in range(3))
    changes = {
        "signature": [replace(rotation(first, second), new=third.public_key)],
        "gap": [rotation(first, second), rotation(third, first)],
        "run": [rotation(first, second, run="f" * 32)],
        "thief": [KeyRotation(RUN, first.public_key, third.public_key, TIME).signed(third)],
    }[wrong]
    with pytest.raises(ClientError, match="not signed with the key before it"):
        last_key(first.public_key, RUN, changes)
