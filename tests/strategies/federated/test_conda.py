from __future__ import annotations

import pytest
import torch

from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import SettingsError
from fedunlearn.strategies.federated.conda import contributions, dampened
from fedunlearn.strategies.federated.stored_rounds import flat
from fedunlearn.strategies.method import methods


def settings(**options: float) -> UnlearnSettings:
    return UnlearnSettings(method="conda", options=options)  # type: ignore[arg-type]


def test_dampening_by_hand() -> None:
    model = torch.tensor([10.0, 10.0, 10.0, 10.0, 10.0])
    target = torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    others = torch.tensor([2.0, 0.5, 0.1, 1.0, 0.0], dtype=torch.float64)
    found = dampened(model, target, others, cutoff=1.0, factor=0.8, upper=0.3)
    # Ratios 2, 0.5, 0.1, infinite, 0: the second would be multiplied by 0.4, and is by no more than 0.3.
    assert torch.allclose(found, torch.tensor([10.0, 3.0, 0.8, 10.0, 0.0]))


def test_contributions_are_absolute_changes_summed_over_rounds_of_one_client_on_average(place) -> None:
    state = place.state("client", settings())
    target, others = contributions(state)
    expected = {client: torch.zeros_like(target) for client in range(5)}
    for number in (1, 2):
        sent = flat(state.history.model(number)).double()
        for update in state.history.updates(number):
            expected[update.client] += (sent - flat(update.model).double()).abs()
    assert torch.allclose(target, expected[1])
    assert torch.allclose(others, sum(expected[client] for client in (0, 2, 3, 4)) / 4)  # type: ignore[arg-type]


def test_only_parameters_of_which_the_target_has_more_than_its_share_shrink(place) -> None:
    state, witness = place.serve("client", settings())
    target, others = contributions(place.state("client", settings()))
    before, after = flat(place.model), flat(state.model)
    small = others / target < 0.5
    assert 0 < small.sum() < len(small)
    assert torch.equal(after[~small], before[~small])
    assert bool((after[small].abs() <= 0.25 * before[small].abs() + 1e-12).all())
    assert [report.phase.message for report in witness.reports] == ["query.count"]


def test_a_cutoff_of_next_to_nothing_takes_only_what_nobody_else_contributed_to(place) -> None:
    state, _ = place.serve("client", settings(cutoff=1e-12))
    target, others = contributions(place.state("client", settings()))
    changed = flat(state.model) != flat(place.model)
    assert bool((others[changed] == 0).all()) and bool((target[changed] > 0).all())
    assert changed.sum() < 0.01 * len(changed)


@pytest.mark.parametrize("name", ["cutoff", "lambda", "upper"])
def test_options_are_above_0(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        methods.get("conda").phases(settings(**{name: 0.0}), 2)
