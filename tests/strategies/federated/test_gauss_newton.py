from __future__ import annotations

import torch
from torch import nn

from fedunlearn.data.dataset import Samples
from fedunlearn.strategies.federated.gauss_newton import gauss_newton_diagonal
from fedunlearn.tasks.classification import ClassificationTask

TASK = ClassificationTask("tiny", "none")


def test_a_linear_model_by_hand() -> None:
    model = nn.Linear(2, 3)
    inputs = torch.tensor([[1.0, 2.0], [0.5, -1.0]])
    found = gauss_newton_diagonal(TASK, model, Samples(inputs, torch.tensor([0, 2])))
    answers = model(inputs).softmax(dim=1).detach().double()
    # For class i and input j: x_j^2 p_i (1 - p_i), in the mean over the samples.
    spread = answers * (1 - answers)
    assert torch.allclose(found["weight"], spread.T @ inputs.double().square() / 2, atol=1e-7)
    assert torch.allclose(found["bias"], spread.mean(dim=0), atol=1e-7)


def test_a_deep_model_by_its_jacobian(make_work) -> None:
    work = make_work()
    samples = work.forget.take(range(70 % len(work.forget)))
    found = gauss_newton_diagonal(TASK, work.model, samples)
    wanted = {name: torch.zeros_like(parameter) for name, parameter in work.model.named_parameters()}
    for one in samples.inputs:
        logits = work.model(one[None])[0]
        answers = logits.softmax(dim=0).detach()
        # J' (diag p - p p') J, one parameter at a time.
        jacobians = [torch.autograd.grad(logits[c], list(work.model.parameters()), retain_graph=True) for c in range(3)]
        for position, name in enumerate(wanted):
            rows = torch.stack([jacobian[position] for jacobian in jacobians])
            mean = torch.tensordot(answers, rows, dims=1)
            wanted[name] += torch.tensordot(answers, (rows - mean).square(), dims=1) / len(samples)
    for name, tensor in wanted.items():
        assert torch.allclose(found[name].float(), tensor, rtol=1e-3, atol=1e-6), name


def test_labels_have_no_part_and_the_model_is_left_alone(make_work) -> None:
    work = make_work()
    other = Samples(work.forget.inputs, (work.forget.labels + 1) % 3)
    one, two = (gauss_newton_diagonal(TASK, work.model, samples) for samples in (work.forget, other))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert work.model.training
    assert all(torch.equal(tensor, work.base[name]) for name, tensor in work.model.state_dict().items())
