from __future__ import annotations

import numpy as np
import pytest
import torch

from fedunlearn.channels.layout import channel_layout
from fedunlearn.clients.preparing import read_prepared
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import ClientError
from fedunlearn.strategies.federated.quickdrop import condense, synthetic_samples
from fedunlearn.strategies.method import Preparation, methods
from fedunlearn.tasks.training import evaluate


def preparation(work, samples: Samples, prepared=None, seed: int = 1) -> Preparation:
    return Preparation(
        task=work.task,
        model=work.model,
        layout=channel_layout(work.model, samples.inputs[:2]),
        classes=3,
        samples=samples,
        training=work.training,
        round=1,
        prepared=prepared or {},
        generator=torch.Generator().manual_seed(seed),
    )


def test_about_one_image_in_a_hundred_and_one_at_least(make_work) -> None:
    work = make_work()
    counts = {0: 201, 1: 20, 2: 19}
    labels = torch.cat([torch.full((count,), label) for label, count in counts.items()])
    samples = Samples(torch.rand(len(labels), 1, 4, 4), labels)
    images = condense(preparation(work, samples))
    assert {name: array.shape for name, array in images.items()} == {"images:0": (3, 1, 4, 4), "images:1": (1, 1, 4, 4)}
    assert {array.dtype for array in images.values()} == {np.dtype(np.float32)}


def test_a_round_goes_on_from_the_images_of_the_round_before(make_work) -> None:
    work = make_work()
    samples = Samples.concat([work.retain, work.retain])
    first = condense(preparation(work, samples))
    later = condense(preparation(work, samples, first, seed=2))
    anew = condense(preparation(work, samples, seed=2))
    moved = [np.linalg.norm(later[name] - first[name]) for name in first]
    fresh = [np.linalg.norm(anew[name] - first[name]) for name in first]
    assert all(0 < one < other for one, other in zip(moved, fresh, strict=True))
    # What is trained on no longer is condensed no longer.
    rest = work.retain.take((work.retain.labels != 2).nonzero().squeeze(1))
    assert set(condense(preparation(work, Samples.concat([rest, rest]), first))) == {"images:0", "images:1"}


def test_images_of_the_classes_that_occur(make_work) -> None:
    prepared = {f"images:{label}": np.full((label + 1, 1, 4, 4), label, np.float32) for label in (0, 2)}
    found = synthetic_samples(prepared, torch.tensor([2, 2, 1]))
    assert found.labels.tolist() == [2, 2, 2]
    assert bool((found.inputs == 2).all())
    with pytest.raises(ClientError, match="has condensed nothing"):
        synthetic_samples(prepared, torch.tensor([1]))


def test_a_class_is_forgotten_by_its_images_alone(place) -> None:
    """The class goes further down than the others do, after the ascent."""
    settings = UnlearnSettings(method="quickdrop", rounds=1, options={"ascent_epochs": 20, "ascent_rate": 0.05})
    _, witness = place.serve("class-everywhere", settings)
    site = place.sites[3]
    samples = site.holding.samples
    losses = [evaluate(site.task, site.load(model), samples).losses for model in (place.model, witness.after[1].model)]
    rise = losses[1] - losses[0]
    own = samples.labels == 2
    assert float(rise[own].mean()) > 0.1
    assert float(rise[own].mean()) > 2 * float(rise[~own].mean())


def test_a_target_that_has_condensed_nothing_is_told_of(make_work) -> None:
    ask = methods.get("quickdrop").phases(UnlearnSettings(), 2)[0]
    assert ask.to == "target" and not ask.trains
    work = make_work(prepared={"images:0": np.zeros((1, 1, 4, 4), np.float32)})
    assert ask.compute(work).metrics == {"num-examples": 30}
    with pytest.raises(ClientError, match="has condensed nothing"):
        ask.compute(make_work())


def test_images_stay_in_the_clients_folder(place) -> None:
    site = place.sites[0]
    images = read_prepared(site.folder, "quickdrop")
    assert images and all(name.startswith("images:") for name in images)
    place.heard.clear()
    place.serve("client", UnlearnSettings(method="quickdrop", rounds=1))
    told = {name for message in place.heard for name in message.content.array_records["arrays"]}
    assert told == set(place.model)
