from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from fedunlearn.audit import pretrained_quality
from fedunlearn.audit.metric import Gathered, Sizes


def raising(error: Exception):
    def look(completed: torch.Tensor, images: torch.Tensor) -> float:
        raise error

    return look


def test_what_cannot_be_had_is_refused_and_the_rest_is_told(completion, monkeypatch) -> None:
    """The networks are not downloaded by a test: what looks through them is replaced, and fails as theirs would."""

    def shapes(completed: torch.Tensor, images: torch.Tensor) -> float:
        assert completed.shape == images.shape == (30, 3, 8, 8)
        return 0.5

    looks = {"fid": raising(ModuleNotFoundError("torch-fidelity")), "inception_score": shapes}
    monkeypatch.setattr(pretrained_quality, "LOOKS", {**looks, "clip": raising(OSError("no connection"))})
    few = replace(completion.server, held_out=completion.server.held_out.take(range(30)))
    found = pretrained_quality.measure(few, torch.Generator())
    values = pretrained_quality.combine(Gathered(Sizes(10), server=found))
    assert values["pretrained_quality.inception_score"].value == 0.5
    for name, package in (("pretrained_quality", "torch-fidelity"), ("pretrained_quality.clip", "transformers")):
        assert values[name].value is None
        assert package in values[name].refused and "read proxy_quality." in values[name].refused


@pytest.mark.skipif(find_spec("torch_fidelity") is not None, reason="the package is there, and would download")
def test_without_its_package_torchmetrics_says_so_in_a_way_that_is_caught() -> None:
    images = torch.rand(2, 3, 8, 8)
    with pytest.raises(ImportError, match="Torch-fidelity"):
        pretrained_quality.frechet_inception_distance(images, images)
