from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fedunlearn.audit.metric import metrics
from fedunlearn.audit.score_attack import matching_positions
from fedunlearn.clients.app import client_app
from fedunlearn.config import run_config_of
from fedunlearn.engines.local import LocalGrid
from fedunlearn.errors import SettingsError, UnknownName
from fedunlearn.federation import Federation
from fedunlearn.server import measuring
from fedunlearn.server.branches import job_for, served_digest
from fedunlearn.server.life_cycle import take_in
from fedunlearn.strategies.roster import Roster, call_roll
from fedunlearn.tasks.randomness import seeded_generator
from fedunlearn.tasks.training import evaluate


@pytest.fixture
def place(federation: Federation) -> Iterator[tuple]:
    federation.request_deletion(client=0)
    session = federation._session()
    run_config = {**run_config_of(federation.settings), "out": str(federation.folder)}
    with LocalGrid(client_app, 3, run_config) as grid:
        roster = call_roll(grid, 60.0)
        job = job_for(take_in(session.ledger, roster, 2))
        yield federation, grid, roster, session, job, session.models.load(served_digest(session))


def test_an_attack_is_what_it_would_be_with_all_data_in_one_place(place) -> None:
    federation, grid, roster, session, job, model = place
    values = measuring.measure(grid, roster, session, job, model, ["membership_auc"], seed=9)
    session.blank.load_state_dict(model)
    own, test = federation._holding(0), session.dataset.test
    forgotten, unseen = own.samples.take(own.training_positions()), own.samples.take(own.held_out)
    wanted = forgotten.labels.bincount(minlength=10)
    chosen = matching_positions(unseen.labels, wanted.tolist(), seeded_generator(9, "membership_auc", "target", 0))
    there = test.labels.bincount(minlength=10)
    weights = (wanted / there)[test.labels].double()
    worth = float(weights.sum() ** 2 / (weights**2).sum())
    weights = torch.cat([weights * worth / weights.sum(), torch.ones(len(chosen), dtype=torch.float64)])
    inside, outside, tested = (evaluate(session.task, session.blank, one).losses for one in (forgotten, unseen, test))
    others = torch.cat([tested, outside[chosen]])
    won = (inside[:, None] < others[None]).double() + 0.5 * (inside[:, None] == others[None]).double()
    exact = float((won * weights).sum() / (weights.sum() * len(inside)))
    area = values["membership_auc"]
    assert area.value == pytest.approx(exact, abs=values["membership_auc.binning"].value)
    assert values["membership_auc.binning"].value < 0.1
    assert area.kind == "rate" and area.of == min(len(inside), int(weights.sum() + 1e-6))
    assert set(values) == set(metrics.get("membership_auc").values)


def test_what_is_not_measured_by_name_is_refused(place) -> None:
    _, grid, roster, session, job, model = place
    with pytest.raises(UnknownName, match="membership_auc"):
        measuring.measure(grid, roster, session, job, model, ["membership"])
    with pytest.raises(SettingsError, match="'cost' is reported by a comparison"):
        measuring.measure(grid, roster, session, job, model, ["cost"])


def test_a_target_that_is_gone_leaves_a_reason(place) -> None:
    _, grid, roster, session, job, model = place
    without = Roster({client: member for client, member in roster.members.items() if client != 0})
    values = measuring.measure(grid, without, session, job, model, ["membership_auc"])
    assert all(value.value is None and "no target client is there" in value.refused for value in values.values())


def test_models_measured_together_are_what_they_are_alone(place) -> None:
    _, grid, roster, session, job, model = place
    other = {name: tensor.clone() for name, tensor in session.fresh(3).items()}
    audited = {"one": measuring.Audited(model), "two": measuring.Audited(other), "again": measuring.Audited(model)}
    together = measuring.measure_each(grid, roster, session, job, audited, ["membership_auc"], seed=4, base=model)
    alone = measuring.measure(grid, roster, session, job, other, ["membership_auc"], before=model, seed=4)
    assert together["one"] == together["again"] != together["two"] == alone


def test_attacks_with_further_models_are_measured_in_one_go(place) -> None:
    """An original, references, and a retrained model that is judged by the others."""
    _, grid, roster, session, job, model = place
    pool = [{name: tensor.clone() for name, tensor in session.fresh(seed).items()} for seed in range(9)]
    audited = {
        "original": measuring.Audited(model, references=pool[1:], before=model),
        "retrained": measuring.Audited(pool[0], references=pool[1:], before=model),
    }
    names = ["lira_auc", "rmia_auc", "entropy_attack", "fedmia_auc", "u_lira_auc"]
    values = measuring.measure_each(grid, roster, session, job, audited, names, base=model)
    for label in audited:
        assert all(values[label][name].value is not None for name in ("lira_auc", "rmia_auc", "entropy_attack"))
        assert "8 other originals" in values[label]["u_lira_auc"].refused
        assert "the updates of 3 remaining clients and was given 2" in values[label]["fedmia_auc"].refused
    assert values["original"]["lira_auc"].value != values["retrained"]["lira_auc"].value


def test_clients_elsewhere_are_not_asked_for_updates_that_another_would_see(place) -> None:
    federation, grid, roster, session, job, model = place
    away = federation.folder / "clients" / "2"
    away.rename(federation.folder / "clients" / "elsewhere")
    values = measuring.measure(grid, roster, session, job, model, ["fedmia_auc"])
    assert "was given 0" in values["fedmia_auc"].refused and "only a simulation" in values["fedmia_auc"].refused
