from __future__ import annotations

import shutil

import pytest

from fedunlearn.channels.packing import digest_state
from fedunlearn.config import UnlearnSettings
from fedunlearn.federation import Federation
from fedunlearn.server.branches import base_digest, job_for, wrapped_strategy
from fedunlearn.server.recorder import LedgerRecorder, _words


@pytest.fixture
def served(federation: Federation):
    request = federation.request_deletion(client=0, classes=[1])
    [branch] = federation.unlearn(request, rounds=2, ratio=0.25)
    return federation, branch


def test_the_ledger_holds_every_phase(served) -> None:
    federation, branch = served
    ledger = federation._session().ledger
    rounds, phases = ledger.rounds(branch.branch), ledger.phases(branch.branch)
    assert [row.number for row in rounds] == [1, 2]
    assert [row.name.partition(":")[2] for row in phases][:2] == ["query.reference", "query.attribute"]
    assert [*rounds, *phases] and all(row.bytes for row in [*rounds, *phases])
    for row in rounds:
        assert row.participants == (0, 1, 2) and set(row.metrics["passes"]) == {"0", "1", "2"}
        assert 0 <= row.metrics["test_accuracy"] <= 1 and row.metrics["forget_loss"] > 0
    digests = {row.digest_after for row in [*rounds, *phases]}
    assert branch.digest in digests and rounds[0].digest_after != rounds[1].digest_after


def test_a_branch_is_taken_up_where_it_ended(served) -> None:
    federation, branch = served
    session = federation._session()
    job = job_for(session.ledger.requests())
    model = session.models.load(base_digest(session, job))
    start = wrapped_strategy(session).state_for(job, model, UnlearnSettings(rounds=2, ratio=0.25), "unlearned")
    recorded = session.ledger.rounds(branch.branch) + session.ledger.phases(branch.branch)  # type: ignore[operator]
    done, state = LedgerRecorder(session, branch.branch, 9).resume(start)
    assert done == max((r.metrics if hasattr(r, "metrics") else r.result)["phase"] for r in recorded) + 1
    assert digest_state(state.model) == branch.digest
    assert state.mask is not None and 0 < state.mask.ratio(state.layout) < 0.5
    assert any(name.startswith("reference:") for name in state.arrays)
    nothing = LedgerRecorder(session, "another", 9).resume(start)
    assert nothing == (0, start)


@pytest.mark.parametrize(
    ("branch", "words"),
    [("client-0-1/retrained/0a1b2c3d", "client-0-1: retrained"), ("a+b+c/unlearned/0a", "a and 2 more: unlearned")],
)
def test_progress_is_told_in_words(branch: str, words: str) -> None:
    assert _words(branch) == words


class Interrupted(Exception):
    """Stands for whatever ends a process between two phases."""


def killed_after(recorded: int, monkeypatch, federation: Federation, *arguments: object) -> None:
    """Run a branch whose process ends once so many phases are recorded."""
    record, seen = LedgerRecorder.record, []

    def stop(self, before, after, report) -> None:
        record(self, before, after, report)
        seen.append(report.number)
        if len(seen) == recorded:
            raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr(LedgerRecorder, "record", stop)
        with pytest.raises(Interrupted):
            federation.run_beside(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("recorded", [2, 3])
def test_a_targets_own_step_is_taken_once_whenever_the_process_ends(
    federation: Federation, tmp_path, monkeypatch, recorded: int
) -> None:
    """Before it the rate that was asked for is known, after it there is none: else the channels would be reset."""
    monkeypatch.setattr("fedunlearn.strategies.localisation.influence_of", lambda *_: "concentrated")
    request = federation.request_deletion(client=0, classes=[1])
    federation.unlearn(request, method="fine-tune", rounds=1)
    settings = UnlearnSettings(rounds=2, ratio=0.25)
    whole = Federation.open(shutil.copytree(federation.folder, tmp_path / "whole"), workers=0)
    federation = Federation.open(federation.folder, workers=0)
    killed_after(recorded, monkeypatch, federation, request, "beside", settings)
    resumed, wanted = (one.run_beside(request, "beside", settings) for one in (federation, whole))
    names = [row.name.partition(":")[2] for row in federation._session().ledger.phases(resumed.name)]
    assert names == ["query.reference", "query.attribute", "train.forget"]
    assert resumed.head == wanted.head


def test_adapters_are_taken_up_where_a_killed_branch_left_them(federation: Federation, monkeypatch) -> None:
    request = federation.request_deletion(classes=[1])
    federation.unlearn(request, method="fine-tune", rounds=1)
    settings = UnlearnSettings(method="gs-lora", rounds=4, options={"mode": "exact", "sparsity": 0.01, "warm_up": 1})
    killed_after(4, monkeypatch, federation, request, "killed", settings)
    killed = federation.run_beside(request, "killed", settings)
    rounds = federation._session().ledger.rounds(killed.name)
    assert [row.metrics["phase"] for row in rounds] == [2, 3, 4, 5]
    # The seed of a branch is its name's: the same phases without an interruption, under the same name.
    other = Federation.simulate(**{**federation.settings.model_dump(), "out": federation.folder.parent / "again"})
    other.train()
    again = other.request_deletion(classes=[1])
    other.unlearn(again, method="fine-tune", rounds=1)
    assert other.run_beside(again, "killed", settings).head == killed.head
