from __future__ import annotations

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.recovery import local_recipe
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
    assert counts == {c: len(place.sites[c].training_samples()) for c in (0, 2)}
    assert {a.metrics["epochs"] for a in witness.reports[0].outcome.answers} == {1}
