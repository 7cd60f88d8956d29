"""The controls of our own method: every ranking, attribution method, forget step and ratio works by its name."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from fedunlearn.channels.attribution import attribution_methods
from fedunlearn.channels.mask import ChannelMask, votes
from fedunlearn.channels.packing import digest_state, pack
from fedunlearn.channels.reset import part_way, reset_rows, reset_values
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import ClientError
from fedunlearn.federation import Federation
from fedunlearn.strategies.localisation import FORGET_RATE, FORGET_RATES, RANKINGS, REWIND, REWINDS
from fedunlearn.strategies.method import ClientReply, methods
from fedunlearn.strategies.nearest_label import nearest_wrong_labels, shrink
from fedunlearn.strategies.selective_channels import STEPS
from fedunlearn.tasks.training import evaluate

RATIOS = (0.01, 0.1, 0.25, 0.5, 1.0)
ATTRIBUTIONS = sorted(set(attribution_methods.names()) - {"deeplift"})
COMBINATIONS = list(product(ATTRIBUTIONS, RANKINGS, STEPS))


@pytest.fixture
def few_samples(monkeypatch) -> None:
    """Clients attribute few samples: ablation takes a forward pass a channel."""
    monkeypatch.setattr("fedunlearn.strategies.localisation.MOST_SAMPLES", 8)


@pytest.mark.slow
@pytest.mark.parametrize(("attribution", "ranking", "step"), COMBINATIONS)
def test_every_control_runs(place, few_samples, attribution: str, ranking: str, step: str) -> None:
    """Each with one of the ratios, taken in turn."""
    ratio = RATIOS[COMBINATIONS.index((attribution, ranking, step)) % len(RATIOS)]
    options = {"attribution": attribution, "ranking": ranking, "forget_step": step}
    state, witness = place.serve("classes", UnlearnSettings(rounds=1, ratio=ratio, options=options))
    assert all(torch.isfinite(tensor).all() for tensor in state.model.values())
    assert not any(report.outcome.dropped for report in witness.reports)
    assert channels(state) == {group.layer: math.ceil(ratio * group.channels) for group in state.layout.groups}
    forgot = any(report.phase.message == "train.forget" for report in witness.reports)
    if step == "shrink":
        assert forgot == any(rate > 0 for rate in rates_said(witness))
    else:
        assert forgot == (STEPS[step] is not None)


def rates_said(witness) -> list[float]:
    """The rates that targets asked for."""
    attributed = [report for report in witness.reports if report.phase.message == "query.attribute"]
    return [answer.metrics[FORGET_RATE] for report in attributed for answer in report.outcome.answers]


@pytest.fixture
def influence(monkeypatch):
    """Has every target read off the influence that is named."""

    def set_to(name: str) -> None:
        monkeypatch.setattr("fedunlearn.strategies.localisation.influence_of", lambda *_: name)

    return set_to


def served(place, step: str, roster=None):
    settings = UnlearnSettings(rounds=2, ratio=0.3, options={"forget_step": step})
    return place.serve("client", settings, **({} if roster is None else {"roster": roster}))


def test_what_is_concentrated_is_given_to_the_nearest_wrong_classes(place, influence) -> None:
    influence("concentrated")
    state, witness = served(place, "shrink")
    number = next(n for n, report in enumerate(witness.reports) if report.phase.message == "train.forget")
    before, after, base = witness.before[number], witness.after[number], witness.before[0]
    # Nothing was reset, and the target changed selected rows and the output layer alone.
    assert digest_state(before.model) == digest_state(base.model)
    moved = {name for name in after.model if not torch.equal(before.model[name], after.model[name])}
    assert moved and moved <= set(after.portion.rows)
    site = place.sites[1]
    forget = site.holding.samples.take(site.forget_positions(place.jobs["client"].requests))
    wrong = nearest_wrong_labels(site.task, site.load(before.model), forget)
    asked = Samples(forget.inputs, wrong)
    losses = [evaluate(site.task, site.load(one.model), asked).losses.mean().item() for one in (before, after)]
    assert losses[1] < losses[0]
    assert FORGET_RATE not in state.arrays


def test_what_was_learned_by_heart_goes_most_of_the_way_back_before_it_is_given(place, influence) -> None:
    influence("by-heart")
    state, witness = served(place, "shrink")
    number = next(n for n, report in enumerate(witness.reports) if report.phase.message == "train.forget")
    base, before = witness.before[0].model, witness.before[number].model
    values = reset_values(state.initial, state.fresh, state.layout)
    there = part_way(base, values, 0.9)
    assert digest_state(before) == digest_state(reset_rows(base, state.mask, state.layout, there))
    assert any(not torch.equal(base[name], before[name]) for name in before)
    # From there the target takes its step, in the same rows.
    after = witness.after[number].model
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert moved and moved <= set(state.portion.rows)


def test_what_has_no_influence_of_its_own_is_reset_where_a_ratio_is_named(place, influence) -> None:
    influence("none")
    shrunk, witness = served(place, "shrink")
    reset, _ = served(place, "reset")
    assert "train.forget" not in [report.phase.message for report in witness.reports]
    assert shrunk.mask.digest() == reset.mask.digest()
    # Phases are numbered alike but for the one that is left out, which the clients' generators follow.
    attributed = next(n for n, report in enumerate(witness.reports) if report.phase.message == "query.attribute")
    values = reset_values(shrunk.initial, shrunk.fresh, shrunk.layout)
    wanted = reset_rows(shrunk.base, shrunk.mask, shrunk.layout, values)
    assert digest_state(witness.after[attributed].model) == digest_state(wanted)


@pytest.mark.parametrize(("scope", "leaves"), [("client", 1), ("class-everywhere", 3)])
def test_channels_are_reset_when_a_target_leaves_before_its_step(
    place, influence, monkeypatch, scope: str, leaves: int
) -> None:
    """Recovery of channels that it did not change would be fine-tuning, which forgets nothing of its samples."""
    influence("concentrated")
    forget = place.sites[leaves].forget_positions(place.jobs[scope].requests)
    gone = place.sites[leaves].holding.samples.take(forget).inputs

    def leave(work, rate):
        if torch.equal(work.forget.inputs, gone):
            raise ClientError("gone")
        return shrink(work, rate)

    monkeypatch.setattr("fedunlearn.strategies.selective_channels.shrink", leave)
    settings = UnlearnSettings(rounds=2, ratio=0.3, options={"forget_step": "shrink"})
    state, witness = place.serve(scope, settings)
    [step] = [report for report in witness.reports if report.phase.message == "train.forget"]
    assert [client for client, _ in step.outcome.dropped] == [leaves]
    recovered = next(n for n, report in enumerate(witness.reports) if report.phase.message == "train.recover")
    sent = witness.reports[recovered].phase.down(witness.before[recovered])
    values = reset_values(state.initial, state.fresh, state.layout)
    wanted = pack(reset_rows(state.base, state.mask, state.layout, values), state.portion)
    assert all((sent.packed[name] == array).all() for name, array in wanted.items())
    assert FORGET_RATE not in state.arrays


def test_numbers_of_a_step_that_are_none_are_cut_back(place) -> None:
    state = place.state("client", UnlearnSettings(ratio=0.3))
    mask = ChannelMask.full(state.layout).cut_back(
        votes([ChannelMask.full(state.layout)], state.layout), 0.3, state.layout
    )
    attribute = methods.get("selective-channels").phases(state.settings, 3)[1]
    for said, kept in ((7.0, max(FORGET_RATES.values())), (-1.0, None), (math.nan, None)):
        reply = ClientReply(1, "target", mask.to_arrays(), {"num-examples": 30, FORGET_RATE: said})
        arrays = attribute.combine(state, [reply]).arrays
        assert (arrays[FORGET_RATE][0] if FORGET_RATE in arrays else None) == kept
    values = reset_values(state.initial or state.fresh, state.fresh, state.layout)
    for said, share in ((7.0, max(REWINDS.values())), (-1.0, 0.0), (math.nan, 0.0)):
        reply = ClientReply(1, "target", mask.to_arrays(), {"num-examples": 30, FORGET_RATE: 0.3, REWIND: said})
        found = attribute.combine(state, [reply]).model
        wanted = reset_rows(state.model, mask, state.layout, part_way(state.model, values, share))
        assert digest_state(found) == digest_state(wanted)


def channels(state) -> dict[str, int]:
    return {group.layer: len(state.mask.selected[group.layer]) for group in state.layout.groups}


@pytest.mark.parametrize("network", ["perceptron", "groupnorm-cnn"])
def test_deeplift_serves_where_captum_has_rules_and_says_so_where_not(tmp_path, network: str) -> None:
    federation = Federation.simulate(
        "digits", clients=5, partition="iid", rounds=1, local_epochs=1, network=network, out=tmp_path / "run"
    )
    federation.train()
    request = federation.request_deletion(client=0, classes=[1])
    settings = {"rounds": 1, "ratio": 0.3, "attribution": "deeplift"}
    if network == "groupnorm-cnn":
        with pytest.raises(ClientError, match=r"GroupNormCNN .*no rule for GroupNorm: use gradient-x-activation"):
            federation.unlearn(request, **settings)
        return
    federation.unlearn(request, **settings)
    selected = federation.compare(retrain=False).document["method"]["selected"]
    assert selected == {"hidden1": "10/32", "hidden2": "5/16"}


@pytest.mark.parametrize("ranking", RANKINGS)
@pytest.mark.parametrize("ratio", [0.05, 0.75])
def test_a_ratio_gives_as_many_channels_whatever_the_ranking(place, ranking: str, ratio: float) -> None:
    settings = UnlearnSettings(rounds=1, ratio=ratio, options={"ranking": ranking})
    state, _ = place.serve("classes", settings)
    assert channels(state) == {group.layer: math.ceil(ratio * group.channels) for group in state.layout.groups}


def test_rankings_choose_other_channels(place) -> None:
    digests = set()
    for ranking in RANKINGS:
        settings = UnlearnSettings(rounds=1, ratio=0.25, options={"ranking": ranking})
        digests.add(place.serve("classes", settings)[0].mask.digest())
    assert len(digests) == len(RANKINGS)


def test_forget_steps_give_other_models(place) -> None:
    digests = set()
    for step in STEPS:
        settings = UnlearnSettings(rounds=1, ratio=0.25, options={"forget_step": step})
        digests.add(digest_state(place.serve("classes", settings)[0].model))
    assert len(digests) == len(STEPS)
