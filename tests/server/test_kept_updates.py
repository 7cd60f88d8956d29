from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from fedunlearn.errors import CorruptModel, RequestError, SettingsError, UnknownName
from fedunlearn.federation import Federation
from fedunlearn.server.comparing import kept_for
from fedunlearn.server.history import history_of
from fedunlearn.server.kept_updates import KEPT, UpdateKeeper, rounds_between
from fedunlearn.strategies.federated.stored_rounds import retained_mean
from fedunlearn.strategies.method import methods
from fedunlearn.strategies.running_mean import RunningMean
from fedunlearn.strategies.serving import Job

RECIPE = dict(
    clients=3, partition="iid", rounds=4, local_epochs=1, learning_rate=0.1, class_harm=1.0, workers=0, cohort=1
)


@pytest.fixture(scope="module")
def kept_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept") / "run"
    Federation.simulate("digits", **RECIPE, prepare_for="fedrecover,federaser,quickdrop", out=folder).train()
    return folder


@pytest.fixture
def kept(kept_run: Path, tmp_path: Path) -> Federation:
    return Federation.open(shutil.copytree(kept_run, tmp_path / "run"))


JOB = Job(("client-1-1",), (1,), frozenset({"client"}))


def test_the_smallest_interval_of_all_that_are_named_counts() -> None:
    assert rounds_between([]) == rounds_between(["quickdrop"]) == 0
    assert rounds_between(["federaser"]) == 2 and rounds_between(["federaser", "conda"]) == 1


def test_names_that_are_wrong_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="'federazer'"):
        Federation.simulate("digits", prepare_for="federazer", out=tmp_path / "run")
    with pytest.raises(SettingsError, match="method 'retrain' needs nothing done in training; those that do: conda"):
        Federation.simulate("digits", prepare_for="federaser,retrain", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_keeping_changes_no_model(kept: Federation, tmp_path: Path) -> None:
    plain = Federation.simulate("digits", **RECIPE, out=tmp_path / "plain")
    plain.train(rounds=2)
    digests = [[row.digest_after for row in one._session().ledger.rounds("main")[:2]] for one in (plain, kept)]
    assert digests[0] == digests[1]
    assert not any(KEPT in row.metrics for row in plain._session().ledger.rounds("main"))


def test_the_mean_of_what_was_kept_is_the_next_model(kept: Federation) -> None:
    session = kept._session()
    history = history_of(session, JOB, 4)
    assert history.rounds() == (1, 2, 3, 4) and history.lacking(1) == ""
    for row in session.ledger.rounds("main"):
        updates = list(history.updates(row.number))
        assert [one.client for one in updates] == [0, 1, 2]
        mean = RunningMean({name: tensor.numpy() for name, tensor in updates[0].model.items()})
        for one in updates:
            mean.add({name: tensor.numpy() for name, tensor in one.model.items()}, one.weight)
        after = session.models.load(row.digest_after)
        assert all((after[name].numpy() == array).all() for name, array in mean.result().items())


def test_of_a_longer_interval_only_those_rounds_are_kept(tmp_path: Path) -> None:
    federation = Federation.simulate("digits", **RECIPE, prepare_for="federaser", out=tmp_path / "run")
    federation.train()
    history = history_of(federation._session(), JOB, 4)
    assert history.rounds() == (1, 3) and history.lacking(2) == ""
    assert history.lacking(1) == "this run kept only those of rounds 1, 3 of 4"
    federation.request_deletion(client=1)
    with pytest.raises(RequestError, match=r"'fedrecover' needs the updates .* only those of rounds 1, 3 of 4: train"):
        federation.unlearn(method="fedrecover")
    [request] = federation.requests()
    assert request.state == "pending"  # nothing ran


def test_a_killed_training_goes_on_with_what_was_kept(
    kept: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = UpdateKeeper.named

    def die(self: UpdateKeeper, number: int) -> dict[str, Any]:
        if number == 3:
            raise KeyboardInterrupt  # all updates of the round are stored, and its row is not written
        return named(self, number)

    halves = Federation.simulate("digits", **RECIPE, prepare_for="fedrecover", out=tmp_path / "halves")
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(UpdateKeeper, "named", die)
        halves.train()
    again = Federation.open(tmp_path / "halves")
    assert len(again._session().ledger.rounds("main")) == 2
    again.train()
    found = [[row.metrics[KEPT] for row in one._session().ledger.rounds("main")] for one in (again, kept)]
    assert found[0] == found[1]
    assert again.verify_ledger().problems == ()


def test_a_run_that_keeps_nothing_says_what_to_do(federation: Federation) -> None:
    federation.request_deletion(client=1)
    with pytest.raises(RequestError, match="this run kept none: train with --prepare-for federaser, or use a method"):
        federation.unlearn(method="federaser")
    with pytest.raises(RequestError, match=r"clients prepare .* did not: train with --prepare-for quickdrop, or use"):
        federation.unlearn(method="quickdrop")
    assert [one.state for one in federation.requests()] == ["pending"]


def test_a_changed_or_missing_update_is_found(kept: Federation) -> None:
    session = kept._session()
    digest = session.ledger.rounds("main")[1].metrics[KEPT]["2"]["digest"]
    path = session.models.path(digest)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    [problem] = kept.verify_ledger().problems
    assert "what client 2 sent in round 2 of main" in problem.sentence
    history = history_of(session, JOB, 4)
    with pytest.raises(CorruptModel, match="holds model"):
        list(history.updates(2))
    path.unlink()
    [problem] = kept.verify_ledger().problems
    assert "is missing" in problem.sentence
    assert history.lacking(1) == "1 of the files that this run kept are gone, erased or lost"
    with pytest.raises(CorruptModel, match="put back a copy"):
        list(history.updates(2))


def test_what_a_client_sent_before_it_asked_for_something_else_is_left_out(kept: Federation) -> None:
    kept.request_deletion(client=0, classes=[3])
    kept.unlearn(method="fine-tune", rounds=1)
    kept.train(rounds=5)
    history = history_of(kept._session(), JOB, 5)
    senders = [[one.client for one in history.updates(number)] for number in history.rounds()]
    assert senders == [[1, 2]] * 4 + [[0, 1, 2]]
    own = Job(("client-0-1",), (0,), frozenset({"classes"}))
    assert [one.client for one in history_of(kept._session(), own, 4).updates(1)] == [0, 1, 2]


def test_erasing_takes_what_the_target_sent_and_prepared_and_all_that_descends_from_it(kept: Federation) -> None:
    session = kept._session()
    rows = session.ledger.rounds("main")
    request = kept.request_deletion(client=1)
    kept.unlearn(request, method="retrain", rounds=1)
    prepared = {client: list((kept.folder / "clients" / str(client) / "prepared").iterdir()) for client in range(3)}
    assert all(len(files) == 1 for files in prepared.values())
    plan = kept.erase(request)
    assert "what client 1 sent in round 1 of main" in [one.what for one in plan.models]
    assert plan.clients["1"]["files"] == plan.clients["0"]["files"] + 1
    done = kept.erase(request, dry_run=False)
    assert done.finished
    models = session.models
    # What the others sent in the first round was computed from a model that had seen nobody's data.
    assert [models.has(rows[0].metrics[KEPT][str(c)]["digest"]) for c in range(3)] == [True, False, True]
    assert not any(models.has(one["digest"]) for row in rows[1:] for one in row.metrics[KEPT].values())
    assert [bool(list((kept.folder / "clients" / str(c) / "prepared").glob("*"))) for c in range(3)] == [
        True,
        False,
        True,
    ]
    assert kept.verify_ledger().problems == ()
    kept.request_deletion(client=0)
    with pytest.raises(RequestError, match="are gone, erased or lost: train with --prepare-for conda, or use"):
        kept.unlearn("client-0-1", method="conda")
    kept.erase(request, dry_run=False)
    assert kept.verify_ledger().problems == ()


def test_what_was_kept_counts_as_stored_for_a_method_that_needs_it(kept: Federation) -> None:
    request = kept.request_deletion(client=1)
    kept.unlearn(request, method="conda")
    document = kept.compare(request, retrain=False).document
    session = kept._session()
    branch = next(one for one in session.ledger.branches() if one.settings.get("method") == "conda")
    history = kept_for(session, JOB, branch)
    sizes = {digest: session.models.path(digest).stat().st_size for digest in history}
    stored = document["models"]["unlearned"]["cost"]["stored_bytes"]
    own = {branch.head}
    assert len(history) == 4 + 4 * 3
    assert stored == sum(sizes.values()) + sum(session.models.path(one).stat().st_size for one in own - history)
    assert document["models"]["fine-tuned"]["cost"]["stored_bytes"] < sum(sizes.values())


def test_fedrecover_asks_only_in_exact_rounds(kept: Federation) -> None:
    request = kept.request_deletion(client=1)
    [summary] = kept.unlearn(request, method="fedrecover", warm_up=1, period=9)
    session = kept._session()
    rounds = session.ledger.rounds(summary.branch)
    assert [row.participants for row in rounds] == [(0, 2), (0, 2)]  # rounds 1 and 4 of four
    # Nothing is known of the curvature after the first round, which repeats what was: updates stand as they were sent.
    history = history_of(session, JOB, 4)
    from fedunlearn.strategies.federated.fedrecover import advanced

    state = _state(session, request.id, summary.branch)
    estimated = advanced(state, [2, 3]).model
    for name, tensor in state.model.items():
        moved = sum((retained_mean(state, number)[name] - history.model(number)[name]).double() for number in (2, 3))
        assert abs(estimated[name].double() - (tensor.double() + moved)).max() < 1e-6


def _state(session, id: str, branch: str):
    from dataclasses import replace

    from fedunlearn.config import UnlearnSettings
    from fedunlearn.server.branches import job_for, with_supplies, wrapped_strategy

    job = job_for([session.ledger.request(id)])
    row = session.ledger.rounds(branch)[0]
    model = session.models.load(row.digest_after)
    settings = UnlearnSettings(method="fedrecover", options={"warm_up": 1, "period": 9})
    return replace(with_supplies(wrapped_strategy(session).state_for(job, model, settings), session, job), model=model)


def test_every_method_that_asks_for_it_is_served_what_it_needs() -> None:
    for name in methods.names():
        needs = methods.get(name).needs
        assert ("stored-updates" in needs) == bool(rounds_between([name])), name
