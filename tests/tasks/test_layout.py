from __future__ import annotations

import torch

from fedunlearn.channels.layout import channel_layout
from fedunlearn.tasks import get_task
from fedunlearn.tasks.layout import fed, layout_of


def test_a_classifier_is_fed_the_inputs() -> None:
    task = get_task("digits")
    dataset = task.dataset(0)
    model = task.build(None, 0, dataset)
    inputs = task.inputs(dataset.test.inputs[:2])
    assert fed(task, inputs) is inputs
    assert layout_of(task, model, dataset) == channel_layout(model, inputs)


def test_a_network_that_completes_is_fed_what_is_left_of_an_image() -> None:
    task = get_task("inpainting:digits")
    dataset = task.dataset(0)
    inputs = task.inputs(dataset.test.inputs[:2])
    given = fed(task, inputs)
    assert given.shape == (2, 2, 8, 8) and torch.equal(given[:, 1:].sum(dim=(1, 2, 3)), torch.full((2,), 16.0))
    layout = layout_of(task, task.build(None, 0, dataset), dataset)
    assert layout.output_layer == "output" and len(layout.groups) == 6
