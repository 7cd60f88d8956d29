"""Shadows: other originals, unlearned in the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from fedunlearn import shadows
from fedunlearn.errors import FedunlearnError
from fedunlearn.federation import Federation
from fedunlearn.local_clients import with_clients
from fedunlearn.reports.verdict_table import sentences
from fedunlearn.server.band import BandPlan
from fedunlearn.server.judging import case_of
from fedunlearn.server.lineage import lineage
from fedunlearn.server.session import Session
from fedunlearn.shadows import Shadows, shadows_of
from fedunlearn.strategies.roster import call_roll
from fedunlearn.tasks import get_task

ID = "client-0-1"


@pytest.fixture
def served(federation: Federation) -> Federation:
    """Another client's request was served before the audited one."""
    for asked in (federation.request_deletion(client=1, classes=[5]), federation.request_deletion(client=0)):
        federation.unlearn(asked, method="fine-tune", rounds=1)
    return federation


def made(session: Session, size: int) -> Shadows:
    case = case_of(session, [ID])
    plan = with_clients(session, lambda grid: BandPlan.of(session, call_roll(grid, 60.0), case.rounds))
    return shadows_of(session, case, plan, size, processes=0)


def test_they_are_made_once_and_again_where_one_is_lost(served: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    session = served._session()
    first = made(session, 1)
    both = made(session, 2)
    assert both.members[0] == first.members[0] and both.why == ""
    digests = {one.digest for one in both.members}
    assert len(digests) == len({one.seed for one in both.members}) == 2
    assert case_of(session, [ID]).branch.head not in digests
    # The one that is damaged comes out as it was; nothing of how they were made is left.
    path = next((served.folder / "audit").glob("shadow-*-002.json"))
    path.write_text("{")
    assert [one.digest for one in made(session, 2).members] == [one.digest for one in both.members]
    assert not [path for path in (served.folder / "audit").glob("shadow-*") if path.is_dir()]

    def nothing(*_: Any) -> None:
        raise FedunlearnError("nothing may be trained here.")

    monkeypatch.setattr("fedunlearn.shadows.map_jobs", nothing)
    assert made(session, 2).members[0] == first.members[0]


def test_their_originals_knew_the_forget_set_and_not_what_others_had_forgotten(
    served: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    serve = shadows.serve

    def watched(grid: Any, roster: Any, method: Any, state: Any, job: Any, *rest: Any) -> Any:
        seen.append((roster.members[0].retained, roster.members[1].retained))
        return serve(grid, roster, method, state, job, *rest)

    monkeypatch.setattr(shadows, "serve", watched)
    session = served._session()
    made(session, 1)
    whole = [len(served._holding(client).training_positions()) for client in (0, 1)]
    forgotten = next(one.count for one in served.requests() if one.id == "client-1-1")
    training, unlearning = seen
    assert training[0] == whole[0] and unlearning[0] == 0
    assert whole[1] - forgotten <= training[1] == unlearning[1] < whole[1]


def test_an_audit_in_full_makes_them_and_the_ledger_and_erasing_know_them(
    served: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedunlearn.server.describing.measurable", lambda tier: ["u_lira_auc"])
    document = served.audit(ID, "full", 3, processes=0, restore=False).document
    (digest,) = document["shadows"]["digests"]
    refused = document["described"]["u_lira_auc"]["refused"]
    assert document["shadows"]["size"] == 1 and "needs 8" in refused
    line = lineage(served._session().ledger.entries())
    assert line.descends(digest, ID) and not line.descends(digest, "client-1-1")
    assert not served.verify_ledger().problems
    assert digest in [one.name for one in served.erase(ID).models]


def test_what_cannot_be_made_says_why(served: Federation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    session = served._session()
    monkeypatch.setattr("fedunlearn.shadows.methods.get", lambda name: _Needy())
    assert "kept of a shadow's training" in made(session, 1).why
    monkeypatch.undo()
    (served.folder / "clients" / "2").rename(tmp_path / "elsewhere")
    why = made_without_clients(session)
    assert "only a simulation" in why
    document = {"verdict": "pass", "why": ".", "band": {"size": 3}, "shadows": {"why": why}}
    assert any(why in sentence for sentence in sentences(document))


def test_a_federation_that_started_from_a_model_has_shadows_too(tmp_path: Path) -> None:
    task = get_task("digits")
    start = tmp_path / "start.safetensors"
    safetensors.torch.save_file(dict(task.build("lenet", 5, task.dataset(0)).state_dict()), start)
    settings = {"clients": 3, "partition": "iid", "rounds": 1, "class_harm": 1.0, "workers": 0}
    federation = Federation.simulate("digits", init=str(start), out=tmp_path / "run", **settings)
    federation.train()
    federation.unlearn(federation.request_deletion(client=0), method="fine-tune", rounds=1)
    (shadow,) = made(federation._session(), 1).members
    assert federation._session().models.has(shadow.digest)


def made_without_clients(session: Session) -> str:
    case = case_of(session, [ID])
    return shadows_of(session, case, BandPlan({}, 1, {}, {}, {}), 1, processes=0).why


class _Needy:
    needs = frozenset({"stored-updates"})
