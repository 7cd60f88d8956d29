"""Decouple and retain on tiny images: phases, threshold, stopping, noise; and one client against one machine."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedunlearn.audit.error_histogram import histogram, quantile
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import ClientError, SettingsError
from fedunlearn.strategies.decoupling import Ascent, decouple
from fedunlearn.strategies.decoupling_claim import Claim
from fedunlearn.strategies.method import methods
from fedunlearn.tasks.outputs import errors
from fedunlearn.tasks.training import TrainingSettings, train_locally

STEPS = {"step": 20.0, "clip": 0.01, "max_steps": 60}
RECIPE = TrainingSettings(local_epochs=1, learning_rate=1.0, momentum=0.9, batch_size=16)


@pytest.fixture(scope="module")
def learned(tiny):
    """A model that completes the images."""
    model = tiny.network()
    seen = Samples.concat([tiny.samples(24, 1), tiny.samples(60, 2), tiny.samples(40, 3)])
    train_locally(tiny.TASK, model, seen, replace(RECIPE, local_epochs=60), torch.Generator().manual_seed(0))
    return model


@pytest.fixture(scope="module")
def clients(tiny):
    return [
        tiny.Client(forget=tiny.samples(24, 1), held_out=tiny.samples(30, 11)),
        tiny.Client(retain=tiny.samples(60, 2), held_out=tiny.samples(30, 12)),
        tiny.Client(retain=tiny.samples(40, 3), held_out=tiny.samples(25, 13)),
    ]


def test_the_target_alone_decouples_and_the_others_alone_retain(tiny, learned, clients) -> None:
    served = tiny.serve(learned, clients, "decouple-retain", rounds=2, **STEPS)
    asked = [(phase.message, [reply.client for reply in replies]) for phase, replies in served.replies]
    assert asked == [("query.errors", [1, 2]), ("train.decouple", [0]), *[("train.recover", [1, 2])] * 2]
    [[told]] = served.of("train.decouple")
    assert told.metrics["displaced"] >= 0.95
    assert told.metrics["batches"] == told.metrics["epochs"] < STEPS["max_steps"]
    forget = clients[0].forget
    error = [float(errors(tiny.TASK, tiny.loaded(s.model), forget).mean()) for s in served.states]
    assert error[1] > error[0] > 0 and error[1] > error[-1]


def test_the_threshold_is_the_quantile_of_the_others_held_out_errors(tiny, learned, clients) -> None:
    served = tiny.serve(learned, clients, "decouple-retain", **STEPS)
    others = torch.cat([errors(tiny.TASK, learned, client.held_out) for client in clients[1:]])
    threshold = float(served.states[0].arrays["decouple-retain/threshold"][0])
    assert threshold == quantile(histogram(others), 0.95)
    exact = float(others.sort().values[math.ceil(0.95 * len(others)) - 1])
    assert exact <= threshold <= exact * 1.024


def test_one_client_in_a_federation_is_one_machine(tiny, learned) -> None:
    """The target, which keeps nothing, and one other: the same two phases, written down on one machine."""
    forget, retain, held_out = tiny.samples(24, 1), tiny.samples(60, 2), tiny.samples(30, 12)
    clients = [tiny.Client(forget=forget), tiny.Client(retain=retain, held_out=held_out)]
    served = tiny.serve(learned, clients, "decouple-retain", rounds=2, **STEPS)
    model = tiny.loaded(learned.state_dict())
    threshold = quantile(histogram(errors(tiny.TASK, model, held_out)), 0.95)
    decouple(tiny.TASK, model, forget, Ascent(20.0, 0.01, 60), threshold, tiny.generator_of("train.decouple", 1))
    for number in (2, 3):
        train_locally(tiny.TASK, model, retain, tiny.PLAIN, tiny.generator_of("train.recover", number, 1))
    for name, tensor in model.state_dict().items():
        # The server's mean of one rounds.
        assert torch.allclose(served.model[name], tensor, atol=1e-6), name


def test_ascent_only_is_the_first_phase(tiny, learned, clients) -> None:
    alone = tiny.serve(learned, clients, "ascent-only", **STEPS)
    both = tiny.serve(learned, clients, "decouple-retain", **STEPS)
    for name, tensor in alone.model.items():
        assert torch.equal(tensor, both.states[1].model[name]), name


def test_retention_stops_when_the_error_has_settled_or_is_back(tiny, learned, clients) -> None:
    run = {
        stop: tiny.serve(learned, clients, "decouple-retain", rounds=40, training=RECIPE, stop=stop, **STEPS)
        for stop in ("settled", "original", "never")
    }
    rounds = {stop: len(served.of("train.recover")) for stop, served in run.items()}
    assert rounds["never"] == 40 > max(rounds["settled"], rounds["original"])
    held_out = [client.held_out for client in clients[1:]]

    def error(state: dict) -> float:
        return float(torch.cat([errors(tiny.TASK, tiny.loaded(state), one) for one in held_out]).mean())

    before, after = error(learned.state_dict()), error(run["original"].model)
    served = run["original"]
    trained = [state for state, (phase, _) in zip(served.states, served.replies, strict=True) if phase.trains]
    # Bins round what is compared.
    assert after <= 1.025 * before
    assert 1.015 * before < error(trained[-2].model)


def test_noise_is_what_the_claim_says(tiny, learned, clients) -> None:
    options = {"epsilon": 1.0, "gradient_bound": 1.0, "convexity": 10.0, **STEPS}
    served = tiny.serve(learned, clients, "ascent-only", **options)
    plain = tiny.serve(learned, clients, "ascent-only", **STEPS)
    expected = Claim.of(UnlearnSettings(options=options)).deviation(24, 100)
    [[told]] = served.of("train.decouple")
    assert told.metrics["sigma"] == pytest.approx(expected)
    noise = torch.cat([(served.model[name] - plain.model[name]).flatten() for name in plain.model])
    assert (noise != 0).all() and float(noise.std()) == pytest.approx(expected, rel=0.1)


def test_confined_to_channels_the_rest_stays_to_the_bit(tiny, learned, clients) -> None:
    more = [*clients, tiny.Client(retain=tiny.samples(40, 4), held_out=tiny.samples(25, 14))]
    served = tiny.serve(learned, more, "decouple-retain", channels="selected", **STEPS)
    mask = served.states[-1].mask
    assert mask is not None and mask.count()
    rows = served.states[-1].portion.rows["encoder.weight"]
    frozen = np.setdiff1d(np.arange(6), [] if rows is None else rows.numpy())
    assert len(frozen)
    assert torch.equal(served.model["encoder.weight"][frozen], learned.state_dict()["encoder.weight"][frozen])


def test_the_target_may_climb_in_adapters_that_are_merged_before_retention(tiny, learned, clients) -> None:
    options = {"channels": "adapters", "rank": 4, "step": 2e5, "clip": 1e-5, "max_steps": 60}
    served = tiny.serve(learned, clients, "decouple-retain", **options)
    threshold, decoupled, retained = served.states
    [[told]] = served.of("train.decouple")
    # B alone, of every layer but the output: its outputs times the rank.
    assert {name: array.shape for name, array in told.arrays.items()} == {
        name: tensor.shape for name, tensor in threshold.adapters.factors.items()
    }
    assert sum(array.size for array in told.arrays.values()) < sum(t.numel() for t in decoupled.model.values()) / 2
    # Four directions of one layer come that far.
    assert told.metrics["displaced"] > 0.5
    assert decoupled.adapters is None and retained.adapters is None
    moved = sum(float(np.square(array).sum()) for array in told.arrays.values()) ** 0.5
    assert 0 < moved <= Ascent.of(UnlearnSettings(options=options)).bound
    # Retention moves all, the decoder's bias included, which has no adapter.
    before = learned.state_dict()
    assert torch.equal(decoupled.model["decoder.bias"], before["decoder.bias"])
    assert not torch.equal(retained.model["decoder.bias"], before["decoder.bias"])


def test_few_samples_are_not_told_of(tiny, learned, clients) -> None:
    few = [tiny.Client(forget=tiny.samples(19, 1)), *clients[1:]]
    [[told]] = tiny.serve(learned, few, "ascent-only", **STEPS).of("train.decouple")
    assert set(told.metrics) == {"num-examples", "batches", "epochs"}
    with pytest.raises(ClientError, match="holds out fewer than 20"):
        tiny.serve(learned, [clients[0], tiny.Client(retain=tiny.samples(60, 2))], "ascent-only")


@pytest.mark.parametrize(
    "option",
    [{"step": 0}, {"clip": -1.0}, {"max_steps": 0}, {"check_every": 0.5}, {"stop": "soon"}, {"channels": "few"}],
)
def test_an_option_that_is_none_is_refused(option) -> None:
    with pytest.raises(SettingsError, match="expected"):
        methods.get("decouple-retain").phases(UnlearnSettings(options=option), 3)
