"""The controls of our own method: every ranking, attribution method, forget step and ratio works by its name."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from fedunlearn.channels.attribution import attribution_methods
from fedunlearn.channels.packing import digest_state
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import ClientError
from fedunlearn.federation import Federation
from fedunlearn.strategies.localisation import RANKINGS
from fedunlearn.strategies.selective_channels import STEPS

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
    assert forgot == (STEPS[step] is not None)


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
