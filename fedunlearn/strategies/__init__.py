"""How it is forgotten: methods by name, and the strategy that runs them around any Flower strategy."""

from fedunlearn.strategies import fine_tuning, retraining
from fedunlearn.strategies.method import methods

__all__ = ["fine_tuning", "methods", "retraining"]
