from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedunlearn.clients import app as app_module
from fedunlearn.clients.app import client_app
from fedunlearn.clients.inbox import Inbox
from fedunlearn.errors import RequestError, RunFolderError, SettingsError
from fedunlearn.federation import Federation
from fedunlearn.progress import Progress
from fedunlearn.server.branches import MAIN

TINY = {"clients": 3, "partition": "iid", "rounds": 2, "local_epochs": 1, "learning_rate": 0.1, "class_harm": 1.0}
FINE_TUNE = {"method": "fine-tune", "rounds": 1}


def ledger(federation: Federation):
    return federation._session().ledger


def head(federation: Federation) -> str:
    return ledger(federation).branch(MAIN).head


def inbox(federation: Federation, client: int) -> Inbox:
    return Inbox(federation.folder / "clients" / str(client))


Misbehave = Callable[[int, str], None]


def misbehave(monkeypatch: pytest.MonkeyPatch, what: Misbehave) -> None:
    """Every client first calls `what(client, message type)`."""
    honest = client_app()

    class App(ClientApp):
        def __call__(self, message: Message, context: Context) -> Message:
            what(int(context.node_config["partition-id"]), message.metadata.message_type)
            return honest(message, context)

    monkeypatch.setattr(app_module, "client_app", App)


def test_the_whole_path(federation: Federation) -> None:
    original = head(federation)
    steps: list[Progress] = []
    request = federation.request_deletion(client=0, classes=[1, 2])
    assert (request.state, request.scope, request.clients, request.classes) == ("pending", "classes", (0,), (1, 2))
    assert federation.requests() == [request]
    [served] = federation.unlearn(request, rounds=1, on_progress=steps.append)
    assert (served.requests, served.method, served.rounds) == (request.id, "selective-channels", 1)
    assert head(federation) == served.digest != original
    assert federation.requests()[0].state == inbox(federation, 0).get(request.id).state == "done"
    assert steps and steps[-1].step <= steps[-1].total
    retrained = federation.retrain()
    assert retrained.method == "retrain" and retrained.rounds == 2 and head(federation) == served.digest
    comparison = federation.compare()
    document = json.loads(json.dumps(comparison.document))
    assert {"original", "unlearned", "retrained", "fine-tuned", "retrained-same-budget"} == set(document["models"])
    assert document["models"]["original"]["digest"] == original
    assert document["models"]["unlearned"]["digest"] == served.digest
    assert document["models"]["retrained"]["digest"] == retrained.digest
    for model in document["models"].values():
        assert 0 <= model["test_accuracy"] <= 1 and len(model["test_accuracy_by_class"]) == 10
        assert model["forget"]["all"]["count"] == sum(
            int(n) for n in np.bincount(forgotten_labels(federation, request.id))
        )
        assert model["forget"]["triggered"] is None and model["backdoor_success"] is None
        assert model["cost"]["bytes_up"] > 0
    assert document["request"] == {
        "id": request.id,
        "scope": "classes",
        "clients": [0],
        "classes": ["1", "2"],
        "count": request.count,
    }
    assert federation.compare().document["models"]["retrained"]["cost"] == document["models"]["retrained"]["cost"]


def forgotten_labels(federation: Federation, id: str) -> np.ndarray:
    own = federation._holding(0)
    positions = np.setdiff1d(inbox(federation, 0).get(id).positions, own.held_out)
    return own.samples.labels.numpy()[positions]


def test_the_same_seed_gives_the_same_federation(federation: Federation, tmp_path: Path) -> None:
    again = Federation.simulate("digits", out=tmp_path / "again", **TINY)
    assert again.train().digest == head(federation)
    digests = []
    for one in (federation, again):
        one.request_deletion(client=0)
        digests.append(one.unlearn(rounds=1)[0].digest)
    assert digests[0] == digests[1]
    other = Federation.simulate("digits", out=tmp_path / "other", seed=1, **TINY)
    assert other.train().digest != head(federation)


def test_training_that_is_finished_is_not_done_again(federation: Federation) -> None:
    before = ledger(federation).rounds(MAIN)
    assert federation.train().digest == before[-1].digest_after
    assert ledger(federation).rounds(MAIN) == before
    assert federation.train(3).rounds == 3


def test_a_folder_is_gone_on_with_or_refused(federation: Federation) -> None:
    same = {**TINY, "rounds": 5, "engine": "ray"}
    assert Federation.simulate("digits", out=federation.folder, **same).settings.rounds == 5
    with pytest.raises(RunFolderError, match="other settings"):
        Federation.simulate("digits", out=federation.folder, **{**TINY, "seed": 4})


def test_every_scope_is_served(federation: Federation) -> None:
    samples = federation._holding(2).training_positions()[:25].tolist()
    asked = [
        federation.request_deletion(client=2, samples=samples),
        federation.request_deletion(client=0, classes=[3]),
        federation.request_deletion(classes=[4]),
        federation.request_deletion(client=1),
    ]
    assert [one.scope for one in asked] == ["samples", "classes", "class-everywhere", "client"]
    assert asked[2].clients == (0, 1, 2)
    served = federation.unlearn(**FINE_TUNE)
    assert [one.requests for one in served] == [one.id for one in federation.requests()]
    assert {one.state for one in federation.requests()} == {"done"}
    assert head(federation) == served[-1].digest
    # One after the other: each starts from the model that the one before has left.
    bases = [ledger(federation).branch(one.branch).settings["base"] for one in served]
    assert bases[1:] == [one.digest for one in served[:-1]]
    for client in range(3):
        assert {one.state for one in inbox(federation, client).all()} == {"done"}


def test_several_are_served_together(federation: Federation) -> None:
    asked = [federation.request_deletion(client=0), federation.request_deletion(client=2, classes=[5])]
    [served] = federation.unlearn(together=True, ratio=0.5, rounds=1)
    assert served.requests == "+".join(sorted(one.id for one in asked))
    assert {one.state for one in federation.requests()} == {"done"}
    document = federation.compare(retrain=False).document
    assert document["request"]["clients"] == [0, 2]
    assert document["models"]["unlearned"]["digest"] == head(federation) == served.digest


def test_a_request_that_is_done_is_served_again_only_for_comparison(federation: Federation) -> None:
    request = federation.request_deletion(client=0)
    [first] = federation.unlearn(request, **FINE_TUNE)
    [same] = federation.unlearn(request, **FINE_TUNE)
    assert same == first
    [other] = federation.unlearn(request, method="retrain", rounds=1)
    assert other.digest != first.digest
    assert (first.served, other.served) == (True, False)
    assert head(federation) == first.digest
    with pytest.raises(RequestError, match="no open request"):
        federation.unlearn()


def test_a_request_filed_while_training_runs_is_served_between_two_rounds(tmp_path: Path) -> None:
    federation = Federation.simulate("digits", out=tmp_path / "run", **{**TINY, "rounds": 3})

    def file(progress: Progress) -> None:
        if (progress.phase, progress.step) == ("train", 1):
            federation.request_deletion(client=1, classes=[6])

    federation.train(on_progress=file)
    [row] = ledger(federation).requests()
    rounds = ledger(federation).rounds(MAIN)
    # The flag of its next reply tells of it, so that nobody has to be asked in vain.
    assert (row.state, row.arrived_round) == ("done", 2)
    assert inbox(federation, 1).get(row.id).state == "done"
    [branch] = ledger(federation).branches(row.id)
    assert branch.settings["base"] == rounds[1].digest_after
    assert rounds[2].digest_before == branch.head
    assert [one.number for one in rounds] == [1, 2, 3]
    # Its samples are out from the moment of filing, not from that of serving.
    assert rounds[1].digest_before == rounds[0].digest_after


def test_what_was_asked_for_before_the_first_round_is_done_without_unlearning(tmp_path: Path) -> None:
    federation = Federation.simulate("digits", out=tmp_path / "run", **TINY)
    request = federation.request_deletion(client=1, classes=[6])
    federation.train()
    [row] = ledger(federation).requests()
    assert (row.state, inbox(federation, 1).get(request.id).state) == ("done", "done")
    assert ledger(federation).branches(request.id) == [] and ledger(federation).events("unlearned-model-served") == []
    [event] = ledger(federation).events("nothing-to-forget", request.id)
    assert "no round" in event.detail["why"]
    # Nobody trained on its samples, and nothing is left to be erased.
    taken = ledger(federation).rounds(MAIN)[0].metrics["processed"]["1"]
    asked = inbox(federation, 1).get(request.id).positions
    trained = len(np.setdiff1d(federation._holding(1).training_positions(), asked))
    assert taken == federation.settings.local_epochs * trained
    with pytest.raises(RequestError, match="no model has known its samples"):
        federation.compare(request)
    assert federation.erase(request, dry_run=False).models == ()
    assert not federation.verify_ledger().problems


def test_a_class_is_forgotten_everywhere_though_it_was_asked_for_in_the_middle_of_a_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = Federation.simulate("digits", out=tmp_path / "run", **{**TINY, "rounds": 3})
    asked = []

    def file(client: int, kind: str) -> None:
        # Client 0 has answered this round; what it holds of the class must not be left out.
        if (client, kind) == (1, "train") and not asked:
            asked.append(federation.request_deletion(classes=[4]))

    misbehave(monkeypatch, file)
    federation.train(on_progress=None)
    [request] = federation.requests()
    assert (request.state, request.clients) == ("done", (0, 1, 2))
    assert {inbox(federation, client).get(request.id).state for client in range(3)} == {"done"}
    assert ledger(federation).events("announcement-ignored") == []


def test_a_request_that_fails_does_not_end_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = Federation.simulate("digits", out=tmp_path / "run", **{**TINY, "rounds": 3})

    def file(progress: Progress) -> None:
        if (progress.phase, progress.step) == ("train", 1):
            federation.request_deletion(client=1, classes=[6])

    def fail(client: int, kind: str) -> None:
        if kind in ("query.reference", "train.recover"):
            raise ValueError("no")

    misbehave(monkeypatch, fail)
    assert federation.train(on_progress=file).rounds == 3
    [request] = federation.requests()
    assert request.state == "failed" and "nobody answered" in request.reason
    monkeypatch.undo()
    federation.unlearn(**FINE_TUNE)
    assert federation.requests()[0].state == "done"


def test_one_that_fails_does_not_keep_the_others_waiting(federation: Federation) -> None:
    first = federation.request_deletion(client=0, classes=[1])
    with pytest.raises(SettingsError, match="units 0 to 9"):
        federation.unlearn(method="zero-output-unit", rounds=1, unit=99)
    assert federation.requests()[0].state == "failed"
    second = federation.request_deletion(client=1, classes=[1])
    federation.unlearn(second, **FINE_TUNE)
    between = head(federation)
    [served] = federation.unlearn(first, **FINE_TUNE)
    # What is served now has forgotten both.
    assert ledger(federation).branch(served.branch).settings["base"] == between
    assert head(federation) == served.digest
    assert [one.state for one in federation.requests()] == ["done", "done"]


def test_a_target_that_is_gone_is_retrained_away_and_the_ledger_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = Federation.simulate("digits", out=tmp_path / "run", **{**TINY, "clients": 4})
    federation.train()
    request = federation.request_deletion(client=0)

    def gone(client: int, kind: str) -> None:
        if client == 0 and kind == "query.attribute":
            raise SystemExit(1)

    misbehave(monkeypatch, gone)
    # Retraining has no such option, and takes the federation's own rate.
    [served] = federation.unlearn(request, learning_rate=0.5, attribution="ablation")
    assert (served.method, served.rounds) == ("retrain", TINY["rounds"])
    settings = ledger(federation).branch(served.branch).settings
    assert (settings["learning_rate"], settings["options"]) == (None, {})
    [event] = ledger(federation).events("target-gone")
    assert event.request_id == request.id and "client 0" in event.detail["why"]
    assert federation.requests()[0].state == "done" and head(federation) == served.digest
    assert 0 not in ledger(federation).rounds(served.branch)[0].participants


def test_two_clients_that_stay_give_no_reference_and_retrain(federation: Federation) -> None:
    """The mean of two would show each of them the other's attribution."""
    request = federation.request_deletion(client=0)
    [served] = federation.unlearn(request)
    assert (served.method, served.rounds) == ("retrain", TINY["rounds"])
    [event] = ledger(federation).events("reference-refused")
    assert event.request_id == request.id and "needs 3 clients" in event.detail["why"]
    [why] = served.remarks
    assert why.startswith("selective-channels was asked for and could not be run: a reference attribution needs 3")
    assert federation.requests()[0].state == "done" and head(federation) == served.digest


@pytest.mark.parametrize("trouble", ["raises", "hangs", "exits"])
def test_a_client_in_trouble_is_left_out_of_the_round_and_the_ledger_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    import time

    def fail(client: int, kind: str) -> None:
        if client == 1 and kind == "train":
            if trouble == "hangs":
                time.sleep(8)
            raise ValueError("disk on fire") if trouble == "raises" else SystemExit(3)

    misbehave(monkeypatch, fail)
    federation = Federation.simulate("digits", out=tmp_path / "run", timeout=4.0, **{**TINY, "rounds": 1})
    assert federation.train().rounds == 1
    [row] = ledger(federation).rounds(MAIN)
    assert row.participants == (0, 2)
    [(client, sentence)] = row.dropped
    expected = {"raises": "raised ValueError", "hangs": "did not answer within 4 s", "exits": "exit status 3"}
    assert client == 1 and expected[trouble] in sentence
    [event] = ledger(federation).events("client-dropped")
    assert event.detail == {"branch": MAIN, "client": 1, "why": sentence}


def test_training_clients_together_changes_no_digest(tmp_path: Path) -> None:
    heads = []
    for cohort in (1, 3, "auto"):
        federation = Federation.simulate("digits", out=tmp_path / str(cohort), cohort=cohort, workers=0, **TINY)
        federation.train()
        federation.request_deletion(client=1, classes=[2])
        federation.unlearn(**FINE_TUNE)
        heads.append(head(federation))
    assert heads[0] == heads[1] == heads[2]
    assert Federation.simulate("digits", out=tmp_path / "1", cohort=2, workers=0, **TINY).settings.cohort == 2


def test_a_client_that_sends_nan_is_dropped_and_the_round_goes_on(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedunlearn.clients import handlers

    honest = handlers.trained

    def poisoned(message, site, training, result):
        if len(training.samples) == len(federation._holding(2).training_positions()):
            training.model.output.bias.data[0] = float("nan")
        return honest(message, site, training, result)

    sizes = [len(federation._holding(client).training_positions()) for client in range(3)]
    poisoned_clients = [client for client in range(3) if sizes[client] == sizes[2]]
    monkeypatch.setattr(handlers, "trained", poisoned)
    assert len(poisoned_clients) < 3, "the clients cannot be told apart"
    federation.train(3)
    row = ledger(federation).last_round(MAIN)
    assert [client for client, _ in row.dropped] == poisoned_clients
    assert "'output.bias', which holds a number that is not finite" in row.dropped[0][1]
    assert federation._session().models.load(row.digest_after)["output.bias"].isfinite().all()


def test_a_forged_signature_is_refused_and_the_client_hears_it(federation: Federation) -> None:
    before = head(federation)
    request = federation.request_deletion(client=1, classes=[2])
    (federation.folder / "clients" / "1" / "key.pem").unlink()  # another key is made at next use
    with pytest.raises(RequestError, match=f"{request.id} was refused: .*key"):
        federation.unlearn()
    [refused] = federation.requests()
    assert (refused.id, refused.state) == (request.id, "refused") and "key" in refused.reason
    assert inbox(federation, 1).get(request.id).state == "refused"
    assert head(federation) == before
    with pytest.raises(RequestError, match="was refused"):
        federation.unlearn(request.id)
    # The others are not held up by it.
    other = federation.request_deletion(client=0, classes=[2])
    assert federation.unlearn(**FINE_TUNE)[0].requests == other.id


def test_a_target_that_heard_before_the_crash_does_not_hold_up_the_others(federation: Federation) -> None:
    """Killed between two acknowledgements: one target announces the request no more, the other still does."""
    request = federation.request_deletion(classes=[7])
    from fedunlearn.server.life_cycle import take_in
    from fedunlearn.strategies.roster import call_roll

    federation._run(lambda grid, session: take_in(session.ledger, call_roll(grid, 60.0), 2), "test", None)
    ledger(federation).set_request_state(request.id, "running")
    inbox(federation, 0).acknowledge(request.id, "running")
    [served] = federation.unlearn(**FINE_TUNE)
    assert served.requests == request.id
    assert {inbox(federation, client).get(request.id).state for client in range(3)} == {"done"}


def test_whoever_missed_the_end_of_a_request_hears_it_later(federation: Federation) -> None:
    request = federation.request_deletion(client=0, classes=[1])
    federation.unlearn(**FINE_TUNE)
    path = inbox(federation, 0)._path(request.id)
    path.write_text(path.read_text().replace('"done"', '"pending"'))
    branches = ledger(federation).branches(request.id)
    federation.train(3)
    assert inbox(federation, 0).get(request.id).state == "done"
    assert ledger(federation).branches(request.id) == branches


def test_the_report_is_a_page(federation: Federation) -> None:
    federation.request_deletion(client=0, classes=[1])
    federation.unlearn(**FINE_TUNE)
    page = federation.report()
    assert page.is_file() and "<html" in page.read_text()[:500]


def test_the_report_shows_the_last_comparison(federation: Federation) -> None:
    federation.request_deletion(client=0, classes=[1])
    federation.unlearn(**FINE_TUNE)
    compared = json.loads(json.dumps(federation.compare(rounds_after=1).document))
    federation.report()
    assert json.loads((federation.folder / "comparison.json").read_text()) == compared
    # Another method has served it since: what was compared then says nothing of it.
    [served] = federation.unlearn("client-0-1", method="retrain", rounds=1)
    federation.report()
    shown = json.loads((federation.folder / "comparison.json").read_text())
    assert shown["models"]["unlearned"]["digest"] == served.digest and shown["after"] is None


def test_retraining_repeats_the_rounds_that_there_were(federation: Federation) -> None:
    assert federation.train(3).rounds == 3 and federation.settings.rounds == 2
    for classes in ([1], [2]):
        federation.request_deletion(client=0, classes=classes)
        federation.unlearn(**FINE_TUNE)
    federation.train(4)
    # The second request found the model that the first had left behind, after three rounds.
    assert federation.retrain().rounds == 3
    models = federation.compare().document["models"]
    assert models["original"]["cost"]["rounds"] == models["retrained"]["cost"]["rounds"] == 3


def test_requests_that_were_served_together_are_shown_together(federation: Federation) -> None:
    federation.request_deletion(client=0, classes=[1])
    federation.request_deletion(client=1)
    [served] = federation.unlearn(**FINE_TUNE, together=True)
    with pytest.raises(RequestError, match=r"served together with others; name all: client-0-1\+client-1-1"):
        federation.compare("client-1-1")
    asked = federation.compare(served.requests, retrain=False).document["request"]
    assert (asked["scope"], asked["clients"], asked["classes"]) == ("several", [0, 1], ["1"])


def test_training_that_is_over_says_nothing_of_an_unlearned_model(federation: Federation) -> None:
    assert federation.train().test_accuracy is not None
    federation.request_deletion(client=0, classes=[1])
    [served] = federation.unlearn(**FINE_TUNE)
    summary = federation.train()
    assert (summary.digest, summary.test_accuracy) == (served.digest, None)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ray_gives_the_same_digests_as_local(tmp_path: Path) -> None:
    """One start of Ray, which takes two cores half a minute: the request is served before the second round."""
    found = {}
    for engine in ("local", "ray"):
        out = tmp_path / engine
        Federation.simulate("digits", out=out, **TINY).train(1)
        one = Federation.simulate("digits", out=out, engine=engine, **TINY)
        one.request_deletion(client=0, classes=[1, 2])
        found[engine] = [one.train().digest, *((branch.name, branch.head) for branch in ledger(one).branches())]
        assert [request.state for request in one.requests()] == ["done"]
    assert found["ray"] == found["local"] and len(found["ray"]) == 3
