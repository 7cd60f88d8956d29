"""Federated learning that can forget: simulate, ask for deletion, unlearn, compare with retraining.

>>> import fedunlearn
>>> federation = fedunlearn.Federation.simulate("digits", clients=3, rounds=2)  # doctest: +SKIP
>>> federation.train()  # doctest: +SKIP
>>> request = federation.request_deletion(client=0)  # doctest: +SKIP
>>> federation.unlearn(request)  # doctest: +SKIP
>>> print(federation.compare().table())  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedunlearn.benchmark import benchmark
    from fedunlearn.federation import Federation
    from fedunlearn.server.life_cycle import DeletionRequest

__version__ = "0.1.0"
__all__ = ["DeletionRequest", "Federation", "__version__", "benchmark"]

# Torch and Flower take seconds to import, so that a name brings its module only when it is used.
_HOMES = {
    "Federation": "fedunlearn.federation",
    "DeletionRequest": "fedunlearn.server.life_cycle",
    "benchmark": "fedunlearn.benchmark",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fedunlearn' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
