from __future__ import annotations

import pytest

from fedunlearn.benchmark_cell import choose_client
from fedunlearn.config import FederationSettings
from fedunlearn.data.holding import holding
from fedunlearn.errors import SettingsError
from fedunlearn.tasks import get_task


def test_the_largest_client_has_most_samples() -> None:
    settings = FederationSettings(task="digits", clients=4, partition="dirichlet:0.5", seed=1)
    dataset = get_task("digits").dataset(1)
    sizes = [len(holding(settings, client, dataset)) for client in range(4)]
    assert sizes[choose_client("largest", settings)] == max(sizes)


def test_the_holder_of_half_of_two_classes_holds_them() -> None:
    settings = FederationSettings(task="digits", clients=4, partition="dirichlet:0.1", seed=1)
    dataset = get_task("digits").dataset(1)
    own = holding(settings, choose_client("half-of-two-classes", settings), dataset)
    total = dataset.train.labels.bincount(minlength=10).tolist()
    assert sum(count >= total[label] / 2 for label, count in own.classes_held().items()) >= 2


def test_a_rule_that_nobody_fits_is_told() -> None:
    settings = FederationSettings(task="digits", clients=4, partition="iid")
    with pytest.raises(SettingsError, match="no client fits 'half-of-two-classes' with partition 'iid'"):
        choose_client("half-of-two-classes", settings)
    with pytest.raises(SettingsError, match="expected a number, 'largest' or"):
        choose_client("smallest", settings)


def test_a_rule_leaves_out_who_has_asked_before() -> None:
    settings = FederationSettings(task="digits", clients=4, partition="dirichlet:0.5", seed=1)
    first = choose_client("largest", settings)
    second = choose_client("largest", settings, [first])
    dataset = get_task("digits").dataset(1)
    sizes = [len(holding(settings, client, dataset)) for client in range(4)]
    assert first != second and sizes[second] == sorted(sizes)[-2]
