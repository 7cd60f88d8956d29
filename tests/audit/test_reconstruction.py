"""Error, PSNR and similarity against torchmetrics; what crosses; the gap."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from fedunlearn.audit import reconstruction
from fedunlearn.audit.image_quality import count, qualities
from fedunlearn.audit.metric import Gathered, Sizes
from fedunlearn.data.dataset import Samples
from fedunlearn.models.image_to_image import ImageToImageNetwork
from fedunlearn.tasks.degradations import degradations
from fedunlearn.tasks.image_to_image import ImageToImage


class Noisy(ImageToImageNetwork):
    """Answers with what it was fed, a little darker."""

    def complete(self, degraded, generator=None):
        return 0.9 * degraded[:, :-1]


def images(count: int = 30, channels: int = 3, side: int = 16) -> Samples:
    generator = torch.Generator().manual_seed(4)
    return Samples(torch.rand(count, channels, side, side, generator=generator), torch.zeros(count, dtype=torch.int64))


def task(kind: str) -> ImageToImage:
    return ImageToImage(kind, "digits", degradations.get(kind).degradation(kind, None))


def test_over_whole_images_it_is_torchmetrics() -> None:
    # Denoising judges every pixel.
    some, denoising, model = images(), task("denoising"), Noisy()
    completed = denoising.reconstruct(model, some.inputs)
    sums = count(qualities(denoising, model, some))
    found = reconstruction.figures(sums)
    assert found is not None
    assert found["psnr"] == pytest.approx(
        float(peak_signal_noise_ratio(completed, some.inputs, data_range=1.0)), abs=1e-4
    )
    expected = structural_similarity_index_measure(completed, some.inputs, data_range=1.0)
    assert found["ssim"] == pytest.approx(float(expected), abs=1e-5)


def test_inside_a_region_nothing_else_counts() -> None:
    some, painting, model = images(), task("inpainting"), Noisy()
    side = slice(4, 12)
    centre = (some.inputs[:, :, side, side], painting.reconstruct(model, some.inputs)[:, :, side, side])
    found = reconstruction.figures(count(qualities(painting, model, some)))
    assert found is not None
    assert found["psnr"] == pytest.approx(
        float(peak_signal_noise_ratio(centre[1], centre[0], data_range=1.0)), abs=1e-4
    )
    whole = painting.reconstruct(model, some.inputs)
    _, similarity = structural_similarity_index_measure(
        whole, some.inputs, data_range=1.0, reduction="none", return_full_image=True
    )
    assert found["ssim"] == pytest.approx(float(similarity[:, :, side, side].mean()), abs=1e-5)
    # Known pixels are as they were, so that the whole image is more alike.
    assert found["ssim"] < float(structural_similarity_index_measure(whole, some.inputs, data_range=1.0))


def test_sums_of_several_clients_are_those_of_all_their_images() -> None:
    some, painting, model = images(60), task("inpainting"), Noisy()
    parts = [count(qualities(painting, model, some.take(range(a, b)))) for a, b in ((0, 20), (20, 60))]
    gathered = Gathered(Sizes(10), remaining=dict(enumerate(parts)))
    pooled = reconstruction.figures(count(qualities(painting, model, some)))
    values = reconstruction.combine(gathered)
    assert pooled is not None
    assert values["reconstruction.retain_psnr"].value == pytest.approx(pooled["psnr"])
    assert values["reconstruction.retain_ssim"].value == pytest.approx(pooled["ssim"])
    assert values["reconstruction"].value is None and "20 images of forget" in values["reconstruction"].refused
    assert count(qualities(painting, model, some.take(range(19)))) == {}


def test_the_gap_by_hand() -> None:
    def sums(square: float, retrained: float) -> dict:
        own = {"samples": 20, "square-sum": 20 * square, "similarity-sum": 10.0}
        return {
            **own,
            "retrained-samples": 20,
            "retrained-square-sum": 20 * retrained,
            "retrained-similarity-sum": 15.0,
        }

    gathered = Gathered(Sizes(10), {0: sums(0.1, 0.01)}, {1: sums(0.01, 0.01)}, sums(0.01, 0.1))
    values = reconstruction.combine_both(gathered)
    gaps = [values[f"reconstruction_gap.{group}_psnr"].value for group in ("forget", "retain", "unseen")]
    assert gaps == pytest.approx([-10.0, 0.0, 10.0])
    assert values["reconstruction_gap"].value == pytest.approx(20 / 3)
    assert values["reconstruction_gap.forget_ssim"].value == pytest.approx(-0.25)
