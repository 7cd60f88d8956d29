from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.channels.ablated_accuracy import accuracy_drops
from fedunlearn.channels.attribution import attribute
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import ClientError, SettingsError
from fedunlearn.strategies.estimate import Estimate, Facts, estimate
from fedunlearn.strategies.federated.selective_channels_paper import _train_perturbed, wrong_labels
from fedunlearn.strategies.method import ClientReply, methods
from fedunlearn.tasks.training import TrainingSettings

NAME = "selective-channels-paper"


def ablation(settings: UnlearnSettings):
    return methods.get(NAME).phases(settings, 2)[0]


def mean_rise(work, samples, layer: str, channel: int) -> float:
    """The rise of the loss without a channel, with its weights at zero."""
    model, module = work.model, dict(work.model.named_modules())[layer]
    before = work.task.loss(model, samples.inputs, samples.labels).mean()
    kept = module.weight[channel].clone(), module.bias[channel].clone()
    module.weight[channel], module.bias[channel] = 0.0, 0.0
    after = work.task.loss(model, samples.inputs, samples.labels).mean()
    module.weight[channel], module.bias[channel] = kept
    return float(after - before)


@torch.no_grad()
def test_importance_is_the_rise_for_the_class_less_that_for_the_rest(make_work) -> None:
    work = make_work()
    reply = ablation(work.settings).compute(work)
    assert reply.metrics == {"num-examples": 30}
    for layer, channels in (("0", 3), ("3", 4)):
        for channel in range(channels):
            own, others = (mean_rise(work, samples, layer, channel) for samples in (work.forget, work.retain))
            assert reply.arrays[layer][channel] == pytest.approx(own - others, abs=1e-5)


def test_without_specificity_or_by_accuracy_it_is_the_plain_measure(make_work) -> None:
    work = make_work(options={"specificity": 0})
    found = ablation(work.settings).compute(work).arrays
    plain = attribute(work.model, work.task.loss, [(work.forget.inputs, work.forget.labels)], work.layout, "ablation")
    assert all(np.array_equal(found[layer], one.numpy()) for layer, one in plain.items())
    literal = make_work(options={"specificity": 0, "importance": "accuracy"})
    found = ablation(literal.settings).compute(literal).arrays
    drops = accuracy_drops(work.model, work.task.predict, work.forget.inputs, work.forget.labels, work.layout)
    assert all(np.allclose(found[layer], one.numpy()) for layer, one in drops.items())


def test_holders_count_by_their_samples_and_each_layer_gives_its_share(place) -> None:
    settings = UnlearnSettings(method=NAME, rounds=1)
    state = place.state("class-everywhere", settings)
    layout = state.layout
    one, two = ({group.layer: np.zeros(group.channels, np.float32) for group in layout.groups} for _ in range(2))
    first = layout.groups[0].layer
    one[first][[3, 5]], two[first][[5, 7]] = [4.0, 1.0], [1.0, 2.0]
    # Weights 20 and 60: channel 3 has 1.0, channel 5 has 1.0, channel 7 has 1.5.
    replies = [
        ClientReply(client, "target", arrays, {"num-examples": samples})
        for client, arrays, samples in ((0, one, 20), (2, two, 60))
    ]
    mask = ablation(settings).combine(state, replies).mask
    assert {layer: len(chosen) for layer, chosen in mask.selected.items()} == {
        group.layer: math.ceil(0.1 * group.channels) for group in layout.groups
    }
    assert mask.selected[first].tolist() == [3, 7]
    wider = place.state("class-everywhere", settings.model_copy(update={"ratio": {first: 0.5}}))
    mask = ablation(settings).combine(wider, replies).mask
    assert len(mask.selected[first]) == 8 and mask.count() == 8


@given(st.integers(2, 12), st.integers(0, 1000))
def test_a_wrong_label_is_a_label_and_never_the_right_one(classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (50,), generator=generator)
    wrong = wrong_labels(labels, classes, generator)
    assert bool((wrong != labels).all()) and bool((wrong >= 0).all()) and int(wrong.max()) < classes


def test_what_goes_is_trained_on_under_wrong_labels_beside_what_stays(make_work) -> None:
    work = make_work()
    training = _train_perturbed.training(work)
    assert len(training.samples) == 78
    assert torch.equal(training.samples.labels[:48], work.retain.labels)
    assert torch.equal(training.samples.inputs[48:], work.forget.inputs)
    assert not (training.samples.labels[48:] == work.forget.labels).any()


@pytest.mark.parametrize("variant", ["decentralised", "centralised"])
def test_frozen_rows_are_bit_identical_and_the_rest_is_not(place, variant: str) -> None:
    settings = UnlearnSettings(method=NAME, rounds=2, options={"variant": variant})
    state, witness = place.serve("class-everywhere", settings)
    portion = state.mask.portion(state.layout)
    for name, tensor in state.model.items():
        rows = portion.rows.get(name, torch.empty(0, dtype=torch.int64))
        moving = (
            torch.ones(len(tensor), dtype=torch.bool) if rows is None else torch.zeros(len(tensor), dtype=torch.bool)
        )
        if rows is not None:
            moving[rows] = True
        assert torch.equal(tensor[~moving], place.model[name][~moving])
        assert not torch.equal(tensor[moving], place.model[name][moving])
    rounds = [report.phase.to for report in witness.reports[1:]]
    assert rounds == (["all", "all"] if variant == "decentralised" else ["target"])


def test_no_sample_takes_part_in_the_centralised_variant(make_work) -> None:
    settings = UnlearnSettings(method=NAME, options={"variant": "centralised", "noise": 40})
    phase = methods.get(NAME).phases(settings, 2)[1]

    whole = make_work().forget
    some = whole.take((whole.labels == 1).nonzero().squeeze(1))

    def trained(**changes):
        changes = {"forget": some, **changes}
        work = make_work(settings=settings, generator=torch.Generator().manual_seed(3), **changes)
        reply = phase.compute(work)
        work.model.load_state_dict(work.base)
        return reply.arrays

    one = trained()
    work = make_work()
    blank = Samples(torch.zeros_like(some.inputs), some.labels)
    two = trained(forget=blank, retain=blank)
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not all(np.array_equal(one[name], work.base[name].numpy()) for name in one)
    with pytest.raises(ClientError, match="every class is to go"):
        trained(forget=whole)


def test_passes_over_noise_are_counted_as_passes_over_the_clients_own(make_work) -> None:
    settings = UnlearnSettings(method=NAME, rounds=3, local_epochs=2, options={"variant": "centralised", "noise": 40})
    whole = make_work().forget
    some = whole.take((whole.labels == 1).nonzero().squeeze(1))
    metrics = methods.get(NAME).phases(settings, 2)[1].compute(make_work(settings=settings, forget=some)).metrics
    assert metrics["num-examples"] * metrics["epochs"] == pytest.approx(40 * 3 * 2)


def test_the_estimate_by_hand() -> None:
    facts = Facts(
        targets=2,
        retaining=5,
        everybody=6,
        fraction=1.0,
        rounds=9,
        training=TrainingSettings(2, 0.1),
        model_bytes=1000,
        channel_bytes=4 * 30,
        seconds_per_epoch=0.5,
    )
    settings = UnlearnSettings(method=NAME, rounds=3, local_epochs=2)
    # Six clients train two epochs in three rounds; two ablate 30 channels twice, each for a third of a pass.
    assert estimate(methods.get(NAME), settings, facts) == Estimate(3, 6 * 3 * 2 * 100 + 240, (36 + 40) * 0.5)
    central = settings.model_copy(update={"options": {"variant": "centralised"}, "ratio": 0.2})
    assert estimate(methods.get(NAME), central, facts) == Estimate(0, 2 * 2 * 200 + 240, (12 + 40) * 0.5)


@pytest.mark.parametrize(
    "options", [{"variant": "both"}, {"importance": "guess"}, {"specificity": -1}, {"samples": 3}, {"noise": 1}]
)
def test_options_are_checked(options) -> None:
    with pytest.raises(SettingsError, match="expected"):
        methods.get(NAME).phases(UnlearnSettings(options=options), 2)
