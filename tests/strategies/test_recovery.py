from __future__ import annotations

import pytest

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.recovery import FRESH_ROWS_RATE, SETTLING, Recovery, local_recipe
from fedunlearn.tasks.training import TrainingSettings


def test_a_request_changes_epochs_and_rate_and_nothing_else() -> None:
    own = TrainingSettings(local_epochs=5, learning_rate=0.1, momentum=0.7, weight_decay=0.01, batch_size=9)
    recipe = local_recipe(own, UnlearnSettings(local_epochs=2))
    assert (recipe.local_epochs, recipe.learning_rate) == (2, 0.1)
    assert (recipe.momentum, recipe.weight_decay, recipe.batch_size) == (0.7, 0.01, 9)
    assert local_recipe(own, UnlearnSettings(learning_rate=0.5)).learning_rate == 0.5


def test_only_retained_samples_count(place) -> None:
    _, witness = place.serve("classes", UnlearnSettings(method="fine-tune", rounds=1))
    counts = {a.client: a.metrics["num-examples"] for a in witness.reports[0].outcome.answers}
    assert counts == {c: len(place.sites[c].training_samples()) for c in place.staying}
    assert {a.metrics["epochs"] for a in witness.reports[0].outcome.answers} == {1}


@pytest.mark.parametrize(
    ("settings", "multiples"),
    [
        ({"rounds": 3, "ratio": 0.5}, [FRESH_ROWS_RATE, FRESH_ROWS_RATE, FRESH_ROWS_RATE * SETTLING]),
        ({"rounds": 1, "ratio": 0.5}, [FRESH_ROWS_RATE]),
        ({"rounds": 2, "ratio": 0.0}, [1.0, 1.0]),
    ],
)
def test_only_fresh_rows_settle_in_the_last_of_several_rounds(
    place, monkeypatch: pytest.MonkeyPatch, settings: dict, multiples: list[float]
) -> None:
    rates = []

    def remember(recovery, work):
        rates.append(recovery.recipe(work).learning_rate)
        return training(recovery, work)

    training = Recovery.training
    monkeypatch.setattr(Recovery, "training", remember)
    place.serve("client", UnlearnSettings(**settings))
    own, clients = place.session.training.learning_rate, len(rates) // len(multiples)
    assert rates == pytest.approx([multiple * own for multiple in multiples for _ in range(clients)]) and clients > 1
