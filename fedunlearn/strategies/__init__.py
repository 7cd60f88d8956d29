"""How it is forgotten: methods by name, and the strategy that runs them around any Flower strategy."""

from fedunlearn.strategies import (
    centralised,
    controls,
    decouple_retain,
    federated,
    fine_tuning,
    gs_lora,
    image_to_image,
    nabla_tau,
    retraining,
    selective_channels,
    shortcuts,
)
from fedunlearn.strategies.method import methods

__all__ = [
    "centralised",
    "controls",
    "decouple_retain",
    "federated",
    "fine_tuning",
    "gs_lora",
    "image_to_image",
    "methods",
    "nabla_tau",
    "retraining",
    "selective_channels",
    "shortcuts",
]
