"""Methods for tasks that answer with images, made for one machine and carried into a federation; none is in earnest."""

from fedunlearn.strategies.image_to_image import (
    controllable,
    encoder_noise,
    max_loss,
    noisy_label,
    random_encoder,
    retain_label,
)

__all__ = ["controllable", "encoder_noise", "max_loss", "noisy_label", "random_encoder", "retain_label"]
