from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import nn

from fedunlearn.audit import shared_probe
from fedunlearn.audit.counts import add
from fedunlearn.audit.metric import Gathered, metrics
from fedunlearn.audit.shared_probe import DIMENSIONS, PRODUCTS, discriminant, projected, sums
from fedunlearn.audit.subject import Subject


def blobs(seed: int, samples: int, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (samples,), generator=draw)
    middles = 2.0 * torch.randn(classes, DIMENSIONS, generator=torch.Generator().manual_seed(99))
    return middles[labels].double() + torch.randn(samples, DIMENSIONS, generator=draw).double(), labels


def test_is_scikit_learns_discriminant_of_the_pooled_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without shrinkage the two share a definition."""
    monkeypatch.setattr(shared_probe, "SHRINKAGE", 0.0)
    parts = [blobs(seed, 200) for seed in (0, 1)]
    weight, bias = discriminant(add(sums(*part, 3) for part in parts) or {}, 3)
    pooled = [torch.cat(each).numpy() for each in zip(*parts, strict=True)]
    oracle = LinearDiscriminantAnalysis(solver="lsqr").fit(*pooled)
    asked, _ = blobs(5, 50)
    scores = torch.nn.functional.linear(asked, weight, bias).softmax(dim=1)
    assert scores.numpy() == pytest.approx(oracle.predict_proba(asked.numpy()), abs=1e-6)


@given(st.integers(0, 400), st.integers(2, 4))
def test_how_samples_are_shared_out_changes_nothing(cut: int, clients: int) -> None:
    inputs, labels = blobs(3, 600, classes=2)
    order = torch.randperm(600, generator=torch.Generator().manual_seed(cut))
    pieces = [order[number::clients] for number in range(clients)]
    shared = discriminant(add(sums(inputs[piece], labels[piece], 2) for piece in pieces) or {}, 2)
    whole = discriminant(sums(inputs, labels, 2) or {}, 2)
    for one, other in zip(shared, whole, strict=True):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-8)


def test_a_class_with_few_samples_is_left_out() -> None:
    inputs, _ = blobs(0, 45)
    labels = torch.tensor([0] * 25 + [1] * 19 + [2])
    found = sums(inputs, labels, 3)
    assert found is not None and found["total"] == [25, 0, 0] and found["samples"] == 25
    assert found["features"][DIMENSIONS:] == [0.0] * 2 * DIMENSIONS and len(found["products"]) == PRODUCTS
    alone = sums(inputs[:25], labels[:25], 3)
    assert alone is not None and alone["products"] == found["products"]
    assert sums(inputs[25:], labels[25:], 3) is None


def test_features_are_padded_or_projected_alike_for_everybody() -> None:
    narrow = torch.randn(5, 10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(projected(narrow)[:, :10], narrow.double()) and not projected(narrow)[:, 10:].any()
    wide = torch.randn(6, 2000, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(projected(wide)[:3], projected(wide[:3])) and projected(wide).shape == (6, DIMENSIONS)
    apart = torch.cdist(projected(wide[:3]), projected(wide[3:]))
    assert apart.numpy() == pytest.approx(torch.cdist(wide[:3], wide[3:]).numpy(), rel=0.4)


def gathered_from(target: Subject, server: Subject) -> Gathered:
    draw = torch.Generator()
    return Gathered(
        target.sizes,
        target={0: shared_probe.measure(target, draw)},
        remaining={1: shared_probe.measure(replace(target, role="remaining"), draw)},
        server=shared_probe.measure(server, draw),
        forgotten_classes=(3,),
    )


def test_finds_a_class_that_only_the_output_layer_denies(target: Subject, server: Subject) -> None:
    cheat = {name: tensor.clone() for name, tensor in target.model.items()}
    cheat["output.weight"][3], cheat["output.bias"][3] = 0.0, -1e4
    denied = server.evaluate(cheat, server.held_out).predictions
    assert not bool((denied == 3).any())
    honest = shared_probe.combine(gathered_from(target, server))
    cheated = shared_probe.combine(gathered_from(replace(target, model=cheat), replace(server, model=cheat)))
    assert set(honest) == set(metrics.get("probe").values)
    regained = [found.pop("probe.regained").value for found in (honest, cheated)]
    assert cheated == honest
    asked = server.held_out.labels == 3
    own = (server.evaluate(server.model, server.held_out).predictions == 3)[asked].double().mean()
    assert honest["probe"].value is not None
    assert regained == pytest.approx([honest["probe"].value - float(own), honest["probe"].value])
    assert honest["probe"].value is not None and honest["probe"].value > 0.8
    assert honest["probe"].of == int((server.held_out.labels == 3).sum())
    assert honest["probe.overall"].value is not None and honest["probe.overall"].value > 0.85


def test_planted_samples_are_left_out(target: Subject) -> None:
    planted = copy.copy(target.parts)
    planted[:100] = "canaries"
    found = shared_probe.measure(replace(target, parts=planted), torch.Generator())
    labels = target.forget.labels[100:]
    counts = np.bincount(labels, minlength=10)
    if found:
        assert found["total"] == np.where(counts >= 20, counts, 0).tolist()
    else:
        assert counts.max() < 20


def test_nothing_to_fit_is_said(target: Subject, server: Subject) -> None:
    found = shared_probe.measure(server, torch.Generator())
    values = shared_probe.combine(Gathered(target.sizes, {0: {}}, {1: {}}, found))
    assert values["probe"].value is None and "20 samples of a class" in values["probe"].refused


def test_the_model_is_left_alone(target: Subject) -> None:
    before = {name: tensor.clone() for name, tensor in target.model.items()}
    shared_probe.measure(replace(target, role="remaining"), torch.Generator())
    assert all(torch.equal(before[name], tensor) for name, tensor in target.model.items())
    assert isinstance(target.blank, nn.Module)
