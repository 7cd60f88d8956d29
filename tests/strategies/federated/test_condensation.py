from __future__ import annotations

import pytest
import torch

from fedunlearn.strategies.federated.condensation import gradient_distance, match_gradients, starting_images


def test_the_distance_by_hand() -> None:
    real = [torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]), torch.tensor([3.0, 4.0])]
    same = gradient_distance(real, [3 * one for one in real])
    assert float(same) == pytest.approx(0.0, abs=1e-6)
    other = [torch.tensor([[0.0, 5.0], [0.0, -1.0], [1.0, 1.0]]), torch.tensor([4.0, 3.0])]
    # Rows: orthogonal 1, opposite 2, nothing to compare 0; the vector: 1 - 24/25.
    assert float(gradient_distance(real, other)) == pytest.approx(1 + 2 + 0 + 1 / 25)


def test_matching_brings_the_gradients_nearer_and_leaves_the_model(make_work) -> None:
    work = make_work()
    inputs = work.retain.inputs[work.retain.labels == 1]
    generator = torch.Generator().manual_seed(2)
    start = starting_images(inputs, 2, generator)
    after = match_gradients(work.task, work.model, inputs, 1, start, steps=10, rate=0.05)

    def distance(images: torch.Tensor) -> float:
        gradients = []
        for batch in (inputs, images):
            loss = work.task.loss(work.model, batch, torch.ones(len(batch), dtype=torch.int64)).mean()
            gradients.append(list(torch.autograd.grad(loss, list(work.model.parameters()))))
        return float(gradient_distance(*gradients))

    assert distance(after) < distance(start)
    assert after.shape == start.shape and not after.requires_grad
    assert all(torch.equal(tensor, work.base[name]) for name, tensor in work.model.state_dict().items())
    assert work.model.training and all(parameter.grad is None for parameter in work.model.parameters())


def test_no_sample_is_a_start() -> None:
    inputs = torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    start = starting_images(inputs, 5, torch.Generator().manual_seed(2))
    nearest = torch.cdist(start.flatten(1), inputs.flatten(1)).min()
    assert start.shape == (5, 1, 4, 4)
    assert float(nearest) > 0.1
    assert torch.allclose(
        starting_images(inputs, 4000, torch.Generator().manual_seed(2)).mean(dim=0), inputs.mean(dim=0), atol=0.02
    )
