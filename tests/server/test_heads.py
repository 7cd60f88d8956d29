from __future__ import annotations

from fedunlearn.clients.heads import HeadStore
from fedunlearn.federation import Federation


def kept(federation: Federation, client: int) -> list[int]:
    known = HeadStore(federation.folder / "clients" / str(client)).known()
    return [] if known is None else [head.number for head in known.heads]


def test_every_client_is_shown_the_ledger_when_a_job_ends(federation: Federation) -> None:
    last = len(federation._session().ledger.entries())
    before = [kept(federation, client) for client in range(3)]
    assert all(numbers and numbers[-1] <= last for numbers in before)
    federation.request_deletion(client=1, classes=[2])
    federation.unlearn(method="retrain", rounds=1)
    entries = federation._session().ledger.entries()
    for client, earlier in enumerate(before):
        now = kept(federation, client)
        assert now[: len(earlier)] == earlier and len(now) > len(earlier)
        # Whatever was recorded until the request was done is bound.
        done = max(entry.number for entry in entries if entry.kind == "request-state")
        assert now[-1] >= done


def test_a_head_is_what_the_ledger_says(federation: Federation) -> None:
    known = HeadStore(federation.folder / "clients" / "2").known()
    assert known is not None
    session = federation._session()
    assert known.run == session.ledger.run and known.key == session.run_key().public_key
    hashes = {entry.number: entry.hash for entry in session.ledger.entries()}
    assert all(hashes[head.number] == head.hash and head.holds() for head in known.heads)
