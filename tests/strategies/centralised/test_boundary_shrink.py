from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedunlearn.data.dataset import Samples
from fedunlearn.strategies.nearest_label import nearest_wrong_labels


def test_labels_by_hand(tiny) -> None:
    """A linear model of two inputs: the step goes against the recorded class along both axes."""
    model = nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[4.0, 0.0], [0.0, 2.0], [-1.0, 0.5]]))
    # Of a sample of class 0 at (0.5, 0.05) the second input rises by 0.5: class 1 then has 1.1, class 2 less.
    # At (0.5, -0.9) it rises to -0.4: class 1 has -0.8, class 2 -0.2 at the first input 0.0.
    inputs = torch.tensor([[0.5, 0.05], [0.5, -0.9], [-1.0, 1.0]])
    labels = torch.tensor([0, 0, 1])
    found = nearest_wrong_labels(tiny.TASK, model, Samples(inputs, labels), 0.5)
    expected = []
    for one, label in zip(inputs, labels, strict=True):
        given = one.clone().requires_grad_()
        functional.cross_entropy(model(given)[None], label[None]).backward()
        moved = (one + 0.5 * given.grad.sign()).clamp(float(inputs.min()), float(inputs.max()))
        order = model(moved).argsort(descending=True).tolist()
        expected.append(next(c for c in order if c != int(label)))
    assert found.tolist() == expected == [1, 2, 2]


@pytest.mark.parametrize("bound", [0.01, 0.1, 3.0])
def test_labels_are_wrong_ones(tiny, bound: float) -> None:
    some = tiny.samples(300, 1)
    found = nearest_wrong_labels(tiny.TASK, tiny.network(), some, bound)
    assert (found != some.labels).all() and len(found.unique()) == tiny.CLASSES


def test_the_target_is_taught_the_labels_of_the_original_model(tiny) -> None:
    """A batch of everything, one step; then the model is the target's own, and recovery begins from it."""
    model, forget = tiny.network(), tiny.samples(24, 1)
    clients = [tiny.Client(forget=forget), tiny.Client(retain=tiny.samples(30, 2))]
    served = tiny.serve(model, clients, "boundary-shrink", training=replace(tiny.PLAIN, batch_size=64), forget_rate=2.0)
    labels = nearest_wrong_labels(tiny.TASK, tiny.network(), forget, 0.1)
    slopes = torch.autograd.grad(functional.cross_entropy(model(forget.inputs), labels), list(model.parameters()))
    for (name, weight), slope in zip(model.named_parameters(), slopes, strict=True):
        assert torch.allclose(served.states[0].model[name], weight.detach() - 0.2 * slope, atol=1e-6), name
    assert [phase.to for phase, _ in served.replies] == ["target", "remaining"]


def test_a_class_is_left(tiny) -> None:
    """After the target's passes the forget set is no longer answered as before."""
    forget = tiny.samples(60, 1, classes=[0])
    clients = [tiny.Client(forget=forget), tiny.Client(retain=tiny.samples(60, 2, classes=[1, 2]))]
    start = tiny.serve(tiny.network(), [tiny.Client(retain=tiny.samples(90, 3))], "fine-tune", rounds=10).model
    served = tiny.serve(tiny.loaded(start), clients, "boundary-shrink", rounds=1, forget_epochs=5, forget_rate=1.0)
    accuracies = [
        float((tiny.loaded(model)(forget.inputs).argmax(1) == 0).float().mean()) for model in (start, served.model)
    ]
    assert accuracies[0] > 0.7 and accuracies[1] < 0.3
