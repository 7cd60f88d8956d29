from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn import functional

from fedunlearn.errors import ClientError
from fedunlearn.strategies.centralised.salun import salient
from fedunlearn.strategies.passes import wrong_labels


def saliency(model, samples, batch_size: int) -> dict[str, torch.Tensor]:
    """|sum over batches of the gradient|."""
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for start in range(0, len(samples), batch_size):
        model.zero_grad()
        part = slice(start, start + batch_size)
        functional.cross_entropy(model(samples.inputs[part]), samples.labels[part]).backward()
        for name, parameter in model.named_parameters():
            total[name] += parameter.grad
    return {name: one.abs() for name, one in total.items()}


def largest_half(sizes: dict[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """A threshold over all weights together."""
    everything = torch.cat([one.flatten() for one in sizes.values()])
    threshold = everything.sort(descending=True).values[int(share * len(everything)) - 1]
    return {name: one >= threshold for name, one in sizes.items()}


def centralised(tiny, model, forget, retain, share: float, rounds: int, epochs: int, momentum: float):
    """The whole algorithm on one machine: per epoch a pass over random labels, then one over what is retained."""
    mask = largest_half(saliency(model, forget, 8), share)
    for number in range(1, rounds + 1):
        generator = tiny.generator_of("train.joint", number)
        for _ in range(epochs):
            relabelled = wrong_labels(forget.labels, tiny.CLASSES, generator)
            for inputs, labels in ((forget.inputs, relabelled), (retain.inputs, retain.labels)):
                velocity = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
                for batch in torch.randperm(len(labels), generator=generator).split(8):
                    model.zero_grad()
                    functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
                    with torch.no_grad():
                        for name, parameter in model.named_parameters():
                            velocity[name] = momentum * velocity[name] + parameter.grad
                            parameter -= 0.1 * velocity[name] * mask[name]
    return mask, model


@pytest.mark.parametrize(("rounds", "epochs", "momentum"), [(1, 1, 0.0), (3, 2, 0.0), (2, 2, 0.9)])
def test_with_one_client_it_is_the_centralised_algorithm(tiny, rounds: int, epochs: int, momentum: float) -> None:
    forget, retain = tiny.samples(24, 1), tiny.samples(44, 2)
    recipe = replace(tiny.PLAIN, momentum=momentum)
    client = tiny.Client(forget=forget, retain=retain)
    served = tiny.serve(tiny.network(), [client], "salun", rounds, recipe, epochs, share=0.5)
    mask, model = centralised(tiny, tiny.network(), forget, retain, 0.5, rounds, epochs, momentum)
    original = tiny.network().state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.allclose(served.model[name], tensor, rtol=0, atol=1e-6), name
        assert torch.equal(served.model[name][~mask[name]], original[name][~mask[name]]), name
        assert not torch.equal(served.model[name], original[name]), name


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_weights_that_are_not_salient_stay_to_the_bit(tiny, share: float, weight_decay: float) -> None:
    recipe = replace(tiny.PLAIN, momentum=0.9, weight_decay=weight_decay)
    clients = [
        tiny.Client(forget=tiny.samples(24, 1), retain=tiny.samples(30, 2)),
        tiny.Client(retain=tiny.samples(50, 3)),
        tiny.Client(retain=tiny.samples(50, 4)),
    ]
    served = tiny.serve(tiny.network(), clients, "salun", 2, recipe, share=share)
    original = tiny.network().state_dict()
    moved = sum(int((served.model[name] != tensor).sum()) for name, tensor in original.items())
    everything = sum(tensor.numel() for tensor in original.values())
    assert moved == int(share * everything)
    # Nor do they move on a client.
    mask = largest_half(saliency(tiny.network(), clients[0].forget, 8), share)
    for _, replies in served.replies[1:]:
        for reply in replies:
            for name, tensor in original.items():
                kept = ~mask[name].numpy()
                assert np.array_equal(reply.arrays[name][kept], tensor.numpy()[kept]), name


@given(hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(-5, 5, width=32)), st.floats(0.01, 1.0))
def test_as_many_are_salient_as_asked_for_and_they_are_the_largest(values: np.ndarray, share: float) -> None:
    gradients = {"a": values[: len(values) // 2], "b": values[len(values) // 2 :].reshape(1, -1)}
    mask = salient(gradients, share)
    chosen = np.concatenate([mask["a"].ravel(), mask["b"].ravel()])
    assert chosen.sum() == int(share * len(values))
    assert {name: one.shape for name, one in mask.items()} == {name: one.shape for name, one in gradients.items()}
    sizes = np.abs(values)
    if chosen.any() and not chosen.all():
        assert sizes[chosen].min() >= sizes[~chosen].max()


def test_the_mask_goes_down_a_bit_a_weight(tiny) -> None:
    clients = [tiny.Client(forget=tiny.samples(24, 1)), tiny.Client(retain=tiny.samples(30, 2))]
    served = tiny.serve(tiny.network(), clients, "salun")
    after, (phase, _) = served.states[0], served.replies[1]
    sent = phase.down(after).arrays
    weights = tiny.network().state_dict()
    assert {name: array.nbytes for name, array in sent.items()} == {
        f"salient:{name}": -(-tensor.numel() // 8) for name, tensor in weights.items()
    }


def test_gradients_of_few_samples_are_withheld(tiny) -> None:
    clients = [tiny.Client(forget=tiny.samples(19, 1)), tiny.Client(retain=tiny.samples(30, 2))]
    with pytest.raises(ClientError, match="fewer than 20 forgotten samples"):
        tiny.serve(tiny.network(), clients, "salun")


def test_epochs_and_samples_of_a_target_count(tiny) -> None:
    clients = [
        tiny.Client(forget=tiny.samples(24, 1), retain=tiny.samples(30, 2)),
        tiny.Client(retain=tiny.samples(9, 3)),
    ]
    served = tiny.serve(tiny.network(), clients, "salun", local_epochs=3)
    told = [(reply.metrics["num-examples"], reply.metrics["epochs"]) for reply in served.replies[1][1]]
    assert told == [(54, 3), (9, 3)]
