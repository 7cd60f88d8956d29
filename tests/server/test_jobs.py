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


@pytest.mark.parametrize(
    ("by_class", "told"),
    [
        ({"a": 0.0, "b": 1.0, "c": 0.0, "d": 0.0}, True),
        ({"a": 0.0, "b": 1.0, "c": 0.2, "d": 0.0}, False),
        ({"a": 0.5, "b": None, "c": 0.5}, True),
        ({"a": 0.6, "b": None, "c": 0.6}, False),
        ({}, False),
        (None, False),  # a task that answers with no classes
    ],
)
def test_a_model_that_only_guesses_is_told_of(by_class: dict[str, float | None] | None, told: bool) -> None:
    assert (jobs.learned_nothing({"test_accuracy_by_class": by_class}) is not None) is told


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_where_one_class_alone_is_tested_nothing_is_said_of_learning(right: float) -> None:
    sentence = jobs.learned_nothing({"test_accuracy_by_class": {"a": right, "b": None}})
    assert sentence is not None and "all test samples are of one of the 2 classes" in sentence
    assert "guessing" not in sentence


def test_a_training_that_learns_nothing_says_so(tmp_path, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"clients": 3, "rounds": 1, "workers": 0, "cohort": 1, "seed": 1}
    Federation.simulate("digits", **settings, learning_rate=5.0, out=tmp_path / "dead").train()
    [line] = [record.getMessage() for record in caplog.records if record.name == "fedunlearn.server.jobs"]
    assert "guessing among 10 classes gives 10.0%" in line and "lower learning rate, or more rounds" in line


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
