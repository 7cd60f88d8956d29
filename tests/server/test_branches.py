from __future__ import annotations

from pathlib import Path

import pytest

from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import RequestError
from fedunlearn.federation import Federation
from fedunlearn.server.branches import (
    MAIN,
    BranchPlan,
    base_digest,
    job_for,
    served_digest,
    with_supplies,
    wrapped_strategy,
)

FINE_TUNE = UnlearnSettings(method="fine-tune", rounds=1)


def test_a_branch_is_named_by_all_that_decides_what_it_becomes(federation: Federation) -> None:
    request = federation.request_deletion(client=0)
    federation.unlearn(request, method="fine-tune", rounds=1)
    job = job_for(federation._session().ledger.requests())
    plan = BranchPlan("unlearned", FINE_TUNE)
    names = {
        plan.name(job, "a"),
        plan.name(job, "b"),
        BranchPlan("fine-tuned", FINE_TUNE).name(job, "a"),
        BranchPlan("unlearned", FINE_TUNE, start="c").name(job, "a"),
        BranchPlan("unlearned", FINE_TUNE.model_copy(update={"rounds": 2})).name(job, "a"),
    }
    assert len(names) == 5 and plan.name(job, "a") in names


def test_the_model_that_a_request_found_stays_the_same_after_it_was_served(federation: Federation) -> None:
    session = federation._session()
    original = served_digest(session)
    first = federation.request_deletion(client=0)
    federation.unlearn(first, method="fine-tune", rounds=1)
    between = served_digest(session)
    second = federation.request_deletion(client=1, classes=[1])
    federation.unlearn(second, method="fine-tune", rounds=1)
    jobs = [job_for([session.ledger.request(one.id)]) for one in (first, second)]
    assert [base_digest(session, job) for job in jobs] == [original, between]
    assert served_digest(session) not in (original, between)


def test_what_is_gone_are_the_classes_of_requests_served_before_and_of_its_own(federation: Federation) -> None:
    session = federation._session()
    for asked in ({"classes": [1]}, {"client": 1, "classes": [4]}, {"classes": [2, 3]}):
        federation.unlearn(federation.request_deletion(**asked), method="fine-tune", rounds=1)
    found = []
    for row in session.ledger.requests():
        job = job_for([row])
        state = wrapped_strategy(session).state_for(job, session.models.load(base_digest(session, job)), FINE_TUNE)
        found.append((job.classes, with_supplies(state, session, job).gone))
    assert sorted(found) == [((), (1,)), ((1,), (1,)), ((2, 3), (1, 2, 3))]


def test_jobs_join_targets_and_scopes(federation: Federation) -> None:
    federation.request_deletion(client=2)
    federation.request_deletion(classes=[1])
    federation.unlearn(together=True, method="fine-tune", rounds=1)
    job = job_for(federation._session().ledger.requests())
    assert job.requests == ("class-1", "client-2-1")
    assert job.classes == (1,)
    assert job.targets == (0, 1, 2) and job.scopes == {"client", "class-everywhere"}


def test_before_training_there_is_no_model(tmp_path: Path) -> None:
    federation = Federation.simulate("digits", clients=3, partition="iid", out=tmp_path / "run")
    federation.request_deletion(client=0)
    with pytest.raises(RequestError, match="has not been trained yet"):
        federation.unlearn(method="fine-tune", rounds=1)
    assert federation._session().ledger.branch(MAIN) is None
    assert federation.requests()[0].state == "pending"


def test_the_strategy_is_that_of_the_settings(federation: Federation) -> None:
    strategy = wrapped_strategy(federation._session(), first_round=3)
    assert (type(strategy.inner).__name__, strategy.rounds, strategy.first_round) == ("FedAvg", 2, 3)
