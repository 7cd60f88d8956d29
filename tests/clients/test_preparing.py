from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fedunlearn.clients.preparing import prepare, prepared_path, read_prepared
from fedunlearn.clients.site import Site
from fedunlearn.errors import CorruptModel
from fedunlearn.strategies.method import Preparation, TrainingHook, methods


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Preparation]:
    """What a method that counts its own rounds was given in each of them."""
    found: list[Preparation] = []

    def count(preparation: Preparation) -> dict[str, np.ndarray]:
        found.append(preparation)
        return {"rounds": preparation.prepared.get("rounds", np.zeros(1, np.float32)) + 1}

    own = replace(methods.get("fedau"), training_hook=TrainingHook(prepare=count))  # type: ignore[type-var]
    monkeypatch.setattr("fedunlearn.clients.preparing.methods.get", lambda name: own)
    return found


def test_a_round_goes_on_from_the_one_before_unless_samples_have_gone(
    site_of: Callable[[int], Site], seen: list[Preparation]
) -> None:
    site = replace(site_of(1), prepare_for=("fedau",))
    samples = site.training_samples()
    fewer = samples.take(range(1, len(samples)))
    for number, those in enumerate((samples, samples, fewer, fewer), start=1):
        prepare(site, site.blank, those, number)
    known = [float(one.prepared["rounds"][0]) if one.prepared else 0.0 for one in seen]
    # What was made of a sample that has gone is nothing to go on from.
    assert known == [0, 1, 0, 1]
    assert read_prepared(site.folder, "fedau")["rounds"].tolist() == [2]


def test_a_damaged_file_is_told_when_it_is_needed_and_replaced_in_the_next_round(
    site_of: Callable[[int], Site], seen: list[Preparation]
) -> None:
    site = replace(site_of(1), prepare_for=("fedau",))
    path = prepared_path(site.folder, "fedau")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no arrays")
    with pytest.raises(CorruptModel, match="train one more round"):
        read_prepared(site.folder, "fedau")
    prepare(site, site.blank, site.training_samples(), 1)
    assert read_prepared(site.folder, "fedau")["rounds"].tolist() == [1]
