from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedunlearn.channels.packing import digest_state
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import ClientError
from fedunlearn.strategies.by_role import kept
from fedunlearn.strategies.centralised.fisher_forgetting import variance
from fedunlearn.strategies.centralised.importance import fisher_diagonal
from fedunlearn.strategies.method import ClientReply, methods


def fisher_by_hand(model, samples) -> dict[str, torch.Tensor]:
    """Expected over classes, mean over samples, one backward pass each."""
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for position in range(len(samples)):
        chances = model(samples.inputs[position : position + 1]).softmax(1)[0]
        for label in range(len(chances)):
            model.zero_grad()
            model(samples.inputs[position : position + 1]).log_softmax(1)[0, label].backward()
            for name, parameter in model.named_parameters():
                total[name] += chances[label].detach() * parameter.grad**2 / len(samples)
    return total


def test_the_fisher_information_by_hand(tiny) -> None:
    model, some = tiny.network(), tiny.samples(25, 1)
    phase = methods.get("fisher-forgetting").phases(UnlearnSettings(), 3)[0]
    work = tiny.work_of(tiny.start(model, UnlearnSettings()), tiny.Client(retain=some), 0, phase, 0)
    found = fisher_diagonal(work, some)
    for name, expected in fisher_by_hand(model, some).items():
        assert torch.allclose(found[name], expected, atol=1e-6), name


def test_of_a_linear_softmax_it_is_known_in_closed_form(tiny) -> None:
    """For the output layer's bias the Fisher information is p (1 - p), averaged over samples."""
    model, some = tiny.network(), tiny.samples(30, 2)
    phase = methods.get("fisher-forgetting").phases(UnlearnSettings(), 3)[0]
    work = tiny.work_of(tiny.start(model, UnlearnSettings()), tiny.Client(retain=some), 0, phase, 0)
    chances = model(some.inputs).softmax(1)
    assert torch.allclose(fisher_diagonal(work, some)["2.bias"], (chances * (1 - chances)).mean(0), atol=1e-5)


def test_the_variance_by_hand() -> None:
    # A filter's weights share the mean of their bounded inverses: (1 / 0.5 + 1 / 0.25) / 2 and (1000 + 1000) / 2.
    fisher = torch.tensor([[0.5, 0.25], [0.0, 1e-9]])
    assert torch.allclose(variance(fisher, 0.1, output=False), torch.tensor([[0.3, 0.3], [100.0, 100.0]]))
    # Ten times as much in the output layer, whose inverses are bounded by 100.
    assert torch.allclose(variance(fisher, 0.1, output=True), torch.tensor([[3.0, 3.0], [100.0, 100.0]]))
    # And ten times as much in vectors.
    assert torch.allclose(variance(torch.tensor([0.5, 0.0]), 0.1, output=False), torch.tensor([2.0, 1000.0]))
    assert variance(torch.rand(4, 3, 2, 2), 0.1, output=False).shape == (4, 3, 2, 2)


def test_noise_is_seeded_and_of_the_stated_size(tiny) -> None:
    model = tiny.network()
    clients = [tiny.Client(retain=tiny.samples(40, 2)), tiny.Client(retain=tiny.samples(80, 3))]
    one, again = (tiny.serve(model, clients, "fisher-forgetting", alpha=1e-4) for _ in range(2))
    louder = tiny.serve(model, clients, "fisher-forgetting", alpha=4e-4)
    assert digest_state(one.model) == digest_state(again.model) != digest_state(louder.model)
    for name, weight in model.named_parameters():
        # The same noise, twice as large.
        assert torch.allclose(louder.model[name] - weight, 2 * (one.model[name] - weight), atol=1e-5), name
    assert one.states[-1].arrays == {} and not kept(one.states[-1], "fisher")


def test_the_noise_has_the_variance_that_the_fisher_information_gives(tiny) -> None:
    """Over many seeds, for one weight of each tensor."""
    model, some = tiny.network(), tiny.samples(40, 2)
    phase = methods.get("fisher-forgetting").phases(UnlearnSettings(), 3)[0]
    state = tiny.start(model, UnlearnSettings(options={"alpha": 1e-3}))
    reply = phase.compute(tiny.work_of(state, tiny.Client(retain=some), 0, phase, 0))
    replies = [ClientReply(0, "remaining", reply.arrays, reply.metrics)]
    models = [phase.combine(replace(state, seed=seed), replies).model for seed in range(200)]
    for name, fisher in fisher_by_hand(model, some).items():
        noise = torch.stack([one[name] - state.base[name] for one in models])
        expected = variance(fisher, 1e-3, name.startswith("2."))
        ratios = noise.var(dim=0) / expected
        assert float(ratios.min()) > 0.6 and float(ratios.max()) < 1.6, name
        assert float(ratios.mean()) == pytest.approx(1.0, abs=0.1)


def test_clients_with_few_samples_withhold_theirs(tiny) -> None:
    with pytest.raises(ClientError, match="fewer than 20 retained samples"):
        tiny.serve(tiny.network(), [tiny.Client(retain=tiny.samples(19, 1))], "fisher-forgetting")
