from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional

from fedunlearn.strategies.nearest_label import nearest_wrong_labels


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
