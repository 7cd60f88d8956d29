"""Conditional diffusion: noise is turned into what is missing, step by step, beside the degraded image.

After Saharia et al. 2022 ("Palette"): U-Net, cosine schedule, sampling as in Song et al. 2021 (DDIM), moving average of
the weights. U-Net and schedule are those of the package `diffusers`; the sizes are our own (*reconstruction*).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fedunlearn.errors import SettingsError
from fedunlearn.models.draws import normal, uniform
from fedunlearn.models.image_to_image import ImageToImageNetwork, region_of, squared_error
from fedunlearn.models.moving_average import MovingAverage
from fedunlearn.models.registered import InputShape, networks, require_size
from fedunlearn.models.steps import GROUPS

STEPS = 250
"""Of the schedule; the noise of all of them is learned."""
EVALUATED = 4
"""Steps, spread evenly over the schedule, over which the loss of an evaluation is the mean."""


class Diffusion(ImageToImageNetwork):
    """A U-Net that tells the noise in the region, from the noisy image, the degraded one and the region.

    Args:
        input_shape: C, H, W of the images; sides are multiples of 2 for each width after the first.
        classes: not used; images have none here.
        widths: channels of each resolution.
        attention: whether the lowest resolution has self-attention.
        sampled: steps of sampling.
        decay: of the moving average.
    """

    def __init__(
        self,
        input_shape: InputShape,
        classes: int,
        widths: tuple[int, ...] = (16, 32),
        attention: bool = False,
        sampled: int = 5,
        decay: float = 0.95,
    ) -> None:
        super().__init__()
        require_size("diffusion", input_shape, 8)
        channels, height, across = input_shape
        multiple = 2 ** (len(widths) - 1)
        if height % multiple or across % multiple:
            raise SettingsError(
                f"network 'diffusion' needs images whose sides are multiples of {multiple} pixels, and they are "
                f"{height} x {across}; choose another network."
            )
        last = "Attn" if attention else ""
        plain = len(widths) - 1
        self.unet: nn.Module = _diffusers().UNet2DModel(
            sample_size=(height, across),
            in_channels=2 * channels + 1,
            out_channels=channels,
            layers_per_block=1,
            block_out_channels=widths,
            down_block_types=(*["DownBlock2D"] * plain, f"{last}DownBlock2D"),
            up_block_types=(f"{last}UpBlock2D", *["UpBlock2D"] * plain),
            add_attention=attention,
            norm_num_groups=GROUPS,
        )
        self.average = MovingAverage(self.unet, "unet.", decay)
        self._sampled = sampled
        self._schedule = scheduler()

    def complete(self, degraded: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Completed images, N x C x H x W, 0 to 1, made with the averaged weights; differentiable in the weights.

        Args:
            generator: of the noise that sampling starts from; None: noise that is fixed for each degraded image.
        """
        known, region = 2 * degraded[:, :-1] - 1, region_of(degraded)
        weights = self.average.parameters_of(self.unet)
        schedule = scheduler()
        schedule.set_timesteps(self._sampled)
        noisy = normal(degraded, tuple(known.shape[1:]), generator)
        for step in schedule.timesteps:
            fed = torch.cat([_visible(known, noisy, region), degraded], dim=1)
            noise = functional_call(self.unet, weights, (fed, step)).sample
            noisy = schedule.step(noise, step, noisy).prev_sample
        return ((noisy + 1) / 2).clamp(0.0, 1.0)

    def encode(self, degraded: Tensor) -> Tensor:
        """What goes into the U-Net's lowest block in the middle of the schedule, N x D x H' x W'."""
        caught: list[Tensor] = []
        handle = self.unet.get_submodule("mid_block").register_forward_pre_hook(
            lambda module, arguments: caught.append(arguments[0])
        )
        try:
            noise = normal(degraded, tuple(degraded[:, :-1].shape[1:]), None)
            fed = torch.cat([_visible(2 * degraded[:, :-1] - 1, noise, region_of(degraded)), degraded], dim=1)
            self.unet(fed, STEPS // 2)
        finally:
            handle.remove()
        return caught[0]

    def losses(self, degraded: Tensor, images: Tensor) -> Tensor:
        """Mean squared error of the noise in each image's region, N.

        In training at one step drawn for each image, and the average follows; in evaluation at four fixed ones.
        """
        if self.training:
            self.average.follow(self.unet)
            generator = torch.default_generator
            steps = (uniform(images, (), generator) * STEPS).long().clamp_max(STEPS - 1)
            return self._noise_error(degraded, images, steps, generator)
        degraded, images = (one.repeat_interleave(EVALUATED, dim=0) for one in (degraded, images))
        spread = (torch.arange(EVALUATED, device=images.device) * STEPS + STEPS // 2) // EVALUATED
        errors = self._noise_error(degraded, images, spread.repeat(len(images) // EVALUATED), None)
        return errors.view(-1, EVALUATED).mean(dim=1)

    def _noise_error(
        self, degraded: Tensor, images: Tensor, steps: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        clean, region = 2 * images - 1, region_of(degraded)
        noise = normal(images, tuple(images.shape[1:]), generator)
        noisy = self._schedule.add_noise(clean, noise, steps)
        # What is known is the image's own, as in sampling, whatever the region is to show.
        fed = torch.cat([_visible(2 * degraded[:, :-1] - 1, noisy, region), degraded], dim=1)
        return squared_error(self.unet(fed, steps).sample, noise, region)


def scheduler() -> Any:
    """The cosine schedule with DDIM steps, without noise of their own."""
    return _diffusers().DDIMScheduler(num_train_timesteps=STEPS, beta_schedule="squaredcos_cap_v2")


def _visible(known: Tensor, noisy: Tensor, region: Tensor) -> Tensor:
    """The noisy image, with its known pixels as they are."""
    return known * (1 - region) + noisy * region


def _diffusers() -> Any:
    try:
        import diffusers
    except ImportError as error:
        raise SettingsError(
            "network 'diffusion' needs the package diffusers; pip install 'fedunlearn[image-to-image]'."
        ) from error
    return diffusers


networks.register("diffusion-small", partial(Diffusion, widths=(8, 16)))
networks.register("diffusion", Diffusion)
networks.register("diffusion-large", partial(Diffusion, widths=(64, 128, 256), attention=True, sampled=50, decay=0.999))
