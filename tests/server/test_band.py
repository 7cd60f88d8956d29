from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fedunlearn.errors import ClientError
from fedunlearn.federation import Federation
from fedunlearn.local_clients import with_clients
from fedunlearn.server.band import (
    RECORDED,
    Band,
    BandPlan,
    Member,
    best_band,
    known_band,
    lacking,
    record_members,
    retrain_member,
)
from fedunlearn.server.branches import BranchPlan, run_branch, served_digest, wrapped_strategy
from fedunlearn.server.life_cycle import gather
from fedunlearn.server.session import Session
from fedunlearn.strategies.roster import Roster, call_roll

ROUNDS = 2


def plan_of(session: Session, rounds: int = ROUNDS) -> BandPlan:
    """The plan for the run as it stands, once the server has taken in what was filed."""

    def work(grid) -> BandPlan:
        roster, _ = gather(grid, session.ledger, 60.0)
        return BandPlan.of(session, roster, rounds)

    return with_clients(session, work)


def train(session: Session, plan: BandPlan, number: int) -> Member:
    return with_clients(
        session,
        lambda grid: retrain_member(grid, session, call_roll(grid, 60.0), plan, served_digest(session), number),
    )


@pytest.fixture
def asked(federation: Federation) -> Federation:
    federation.request_deletion(client=0)
    return federation


def test_members_are_found_again_and_are_all_different(asked: Federation) -> None:
    session = asked._session()
    plan = plan_of(session)
    assert known_band(session, plan).members == () and lacking(Band(plan, ()), 3) == [1, 2, 3]
    made = [train(session, plan, number) for number in (2, 1)]
    band = known_band(session, plan)
    assert band.members == (made[1], made[0]) and lacking(band, 4) == [3, 4]
    assert len({member.digest for member in made}) == len({member.seed for member in made}) == 2
    assert train(session, plan, 2).digest == made[0].digest
    assert band.first(1).members == (made[1],)
    assert band.document()["digests"] == [made[1].digest, made[0].digest]


def test_a_member_is_a_retraining_with_another_start_and_other_shuffling(asked: Federation) -> None:
    """The oracle is the branch that `compare` retrains, begun with the member's name instead of its own."""
    session = asked._session()
    plan = plan_of(session)
    member = train(session, plan, 1)
    strategy = wrapped_strategy(session)
    model = session.models.load(served_digest(session))
    settings = Federation.open(asked.folder).settings
    states = [
        strategy.state_for(plan.job, model, BranchPlan("x", _retrain(settings.local_epochs)).settings, name)
        for name in ("band-1", "band-2", "retrained")
    ]
    assert states[0].seed == member.seed and len({state.seed for state in states}) == 3
    weights = {name for name, tensor in states[0].fresh.items() if tensor.is_floating_point() and tensor.dim() > 1}
    assert all(not states[0].fresh[name].equal(states[1].fresh[name]) for name in weights)
    branch = with_clients(
        session,
        lambda grid: run_branch(
            grid, session, _roster(grid, session), plan.job, BranchPlan("band-1", _retrain(settings.local_epochs))
        ),
    )
    assert branch.head == member.digest


def _retrain(local_epochs: int):
    from fedunlearn.config import UnlearnSettings

    return UnlearnSettings(method="retrain", rounds=ROUNDS, local_epochs=local_epochs)


def _roster(grid, session: Session) -> Roster:
    return gather(grid, session.ledger, 60.0)[0]


def test_what_is_damaged_or_lost_is_not_a_member(asked: Federation) -> None:
    session = asked._session()
    plan = plan_of(session)
    for number in (1, 2, 3):
        train(session, plan, number)
    one, two, three = sorted(session.folder.audit.glob("band-*.json"))
    one.write_text('{"member": 3}')
    content = json.loads(two.read_text())
    two.write_text(json.dumps({**content, "key": "0" * 64}))
    assert [member.number for member in known_band(session, plan).members] == [3]
    session.models.remove(json.loads(three.read_text())["member"]["digest"])
    assert known_band(session, plan).members == ()


def test_the_key_is_that_of_everything_that_decides_the_models(asked: Federation) -> None:
    session = asked._session()
    plan = plan_of(session)
    keys = {
        plan.key,
        plan_of(session, rounds=3).key,
        replace(plan, packages={**plan.packages, "torch": "1.0"}).key,
        replace(plan, settings={**plan.settings, "learning_rate": 0.5}).key,
        replace(plan, retained={**plan.retained, "1": 3}).key,
        replace(plan, requests={}).key,
    }
    assert len(keys) == 6 and plan_of(session).key == plan.key
    assert not {"workers", "engine", "timeout", "cohort"} & set(plan.settings)
    asked.request_deletion(client=1, classes=[1])
    later = plan_of(session)
    assert later.key != plan.key and later.job.requests == ("client-0-1", "client-1-1")
    assert later.job.targets == (0, 1) and later.job.scopes == {"client", "classes"}


def test_a_finished_band_without_later_requests_is_preferred(asked: Federation) -> None:
    session = asked._session()
    first = plan_of(session)
    train(session, first, 1)
    asked.request_deletion(client=1, classes=[1])
    later = plan_of(session)
    assert best_band(session, later, {"client-0-1"}, size=1).plan == first
    assert best_band(session, later, {"client-0-1"}, size=0).plan == first
    # It knows what the judged model has forgotten, or it is too small: then a band is made for the run as it stands.
    assert best_band(session, later, {"client-0-1", "client-1-1"}, size=1) == Band(later, ())
    assert best_band(session, later, {"client-0-1"}, size=2) == Band(later, ())
    train(session, later, 1)
    assert best_band(session, later, {"client-1-1"}, size=1).plan == later


def test_data_that_left_meanwhile_stops_a_member(asked: Federation) -> None:
    session = asked._session()
    plan = plan_of(session)
    asked.request_deletion(client=1, classes=[1])
    with pytest.raises(ClientError, match="clients hold other data than when the band was begun"):
        train(session, plan, 1)


def test_a_member_that_lacks_a_client_is_none(asked: Federation, tmp_path: Path) -> None:
    session = asked._session()
    plan = plan_of(session)

    def work(grid) -> Member:
        roster = call_roll(grid, 60.0)
        away = replace(roster.members[2], node=4711)
        there = replace(roster, members={**roster.members, 2: away})
        return retrain_member(grid, session, there, plan, served_digest(session), 1)

    with pytest.raises(ClientError, match="would lack the data of client 2"):
        with_clients(session, work)
    assert known_band(session, plan).members == ()


def test_members_are_recorded_once(asked: Federation) -> None:
    session = asked._session()
    plan = plan_of(session)
    band = Band(plan, (Member(1, 3, "a" * 64, 0.5, "now"),))
    record_members(session, band)
    record_members(session, replace(band, members=(*band.members, Member(2, 4, "b" * 64, 0.5, "now"))))
    assert [event.detail["number"] for event in session.ledger.events(RECORDED)] == [1, 2]
