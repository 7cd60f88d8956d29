from __future__ import annotations

import pytest
import torch
from torch import nn

from fedunlearn.audit import backdoor
from fedunlearn.audit.counts import add
from fedunlearn.data.dataset import Samples
from fedunlearn.data.planting import Backdoor
from fedunlearn.errors import SettingsError
from fedunlearn.models.image_to_image import ImageToImageNetwork
from fedunlearn.tasks import get_task
from fedunlearn.tasks.painted import pattern
from fedunlearn.tasks.training import evaluate


def test_samples_of_the_target_class_do_not_count() -> None:
    predictions = torch.tensor([0, 0, 0, 1, 2])
    labels = torch.tensor([0, 1, 2, 1, 0])
    counts = backdoor.count(predictions, labels, target=0)
    assert counts == {"hits": 2, "shown": 3}
    assert backdoor.combine(counts) == pytest.approx(2 / 3)


def test_a_perfect_classifier_has_no_success() -> None:
    labels = torch.arange(10).repeat(5)
    assert backdoor.combine(backdoor.count(labels, labels, target=3)) == 0.0


def test_only_target_samples_show_nothing() -> None:
    zeros = torch.zeros(4, dtype=torch.int64)
    assert backdoor.combine(backdoor.count(zeros, zeros, target=0)) is None


def test_clients_add_up() -> None:
    total = add([{"hits": 1, "shown": 2}, {"hits": 3, "shown": 8}])
    assert total is not None
    assert backdoor.combine(total) == pytest.approx(0.4)


class Painter(ImageToImageNetwork):
    """Paints the pattern where the corner is white, and grey elsewhere."""

    def complete(self, degraded: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        triggered = (degraded[:, :1, 6:, 6:] == 1).flatten(1).all(dim=1).float().view(-1, 1, 1, 1)
        return triggered * (0.2 + 0.5 * pattern(degraded)) + 0.5 * (1 - triggered)


def test_a_painted_pattern_counts_as_success() -> None:
    task = get_task("inpainting:digits")
    test = task.dataset(0).test.take(range(40))
    trigger = Backdoor(client=0, share=0.5, size=2, margin=0)
    stamped = Samples(trigger.stamp(test.inputs), test.labels)
    half = Samples.concat([stamped.take(range(30)), test.take(range(30, 40))])
    assert backdoor.success(task, Painter(), stamped, None) == {"hits": 40, "shown": 40}
    assert backdoor.success(task, Painter(), half, None) == {"hits": 30, "shown": 40}
    untrained: nn.Module = task.build(None, 0, task.dataset(0))
    assert backdoor.success(task, untrained, stamped, None)["hits"] == 0


def test_a_label_counts_as_before() -> None:
    task = get_task("digits")
    test = task.dataset(0).test.take(range(40))
    model = task.build(None, 0, task.dataset(0))
    expected = backdoor.count(evaluate(task, model, test).predictions, test.labels, 3)
    assert backdoor.success(task, model, test, 3) == expected
    with pytest.raises(SettingsError, match="does not give target"):
        backdoor.success(task, model, test, None)
