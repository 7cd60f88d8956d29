from __future__ import annotations

import pytest

from fedunlearn.config import UnlearnSettings
from fedunlearn.federation import Federation
from fedunlearn.server import jobs
from fedunlearn.server.branches import MAIN, SERVED

FINE_TUNE = UnlearnSettings(method="fine-tune", rounds=2)


class Killed(BaseException):
    """Stands for a process that ends."""


def stop_at(phase: str, step: int):
    def stop(progress) -> None:
        if (progress.phase, progress.step) == (phase, step):
            raise Killed

    return stop


def test_a_training_that_ends_half_way_goes_on(federation: Federation) -> None:
    with pytest.raises(Killed):
        federation.train(5, on_progress=stop_at("train", 4))
    ledger = federation._session().ledger
    assert [row.number for row in ledger.rounds(MAIN)] == [1, 2, 3, 4]
    assert federation.train(5).rounds == 5


@pytest.mark.parametrize("command", ["unlearn", "train"])
def test_an_unlearning_that_ends_half_way_goes_on_with_its_own_settings(federation: Federation, command: str) -> None:
    request = federation.request_deletion(client=0, classes=[1])
    session = federation._session()

    def work(grid, session):
        return jobs.unlearn(grid, session, FINE_TUNE)

    def stop(progress) -> None:
        raise Killed

    with pytest.raises(Killed):
        federation._run(work, "unlearn", stop)
    assert session.ledger.request(request.id).state == "running"
    [branch] = session.ledger.branches(request.id)
    assert (branch.state, len(session.ledger.rounds(branch.name))) == ("running", 1)
    if command == "unlearn":
        federation.unlearn_with(None, FINE_TUNE)
    else:
        # The target has heard of it and announces it no more, so the server must remember.
        federation.train(3)
    [branch] = session.ledger.branches(request.id)
    assert (branch.state, branch.settings["method"]) == ("done", "fine-tune")
    assert len(session.ledger.rounds(branch.name)) == 2
    assert session.ledger.request(request.id).state == "done"
    [served] = session.ledger.events(SERVED)
    assert served.detail["to"] == branch.head
    if command == "train":
        assert session.ledger.last_round(MAIN).digest_before == branch.head  # type: ignore[union-attr]


def test_retraining_for_comparison_leaves_the_served_model(federation: Federation) -> None:
    request = federation.request_deletion(client=0)
    federation.unlearn(request, method="fine-tune", rounds=1)
    before = federation._session().ledger.branch(MAIN)

    def work(grid, session):
        return [jobs.retrain(grid, session, [request.id], rounds) for rounds in (1, 1, None)]

    first, again, whole = federation._run(work, "test", None)
    assert first == again and first.state == "done"
    assert [first.kind, whole.kind] == ["retrained-shorter", "retrained"]
    assert federation._session().ledger.branch(MAIN) == before
