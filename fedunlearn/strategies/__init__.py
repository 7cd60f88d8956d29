"""How it is forgotten: methods by name, and the strategy that runs them around any Flower strategy."""

from fedunlearn.strategies import (
    centralised,
    controls,
    federated,
    fine_tuning,
    gs_lora,
    nabla_tau,
    retraining,
    selective_channels,
    shortcuts,
)
from fedunlearn.strategies.method import methods

__all__ = [
    "centralised",
    "controls",
    "federated",
    "fine_tuning",
    "gs_lora",
    "methods",
    "nabla_tau",
    "retraining",
    "selective_channels",
    "shortcuts",
]
