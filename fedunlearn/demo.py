"""The demonstration: a back-door client leaves a federation of ten, in under three minutes."""

from __future__ import annotations

from pathlib import Path

from fedunlearn.federation import Comparison, Federation
from fedunlearn.server.session import OnProgress


def demo(out: Path | str = "demo-run", on_progress: OnProgress = None) -> Comparison:
    """Train, ask for deletion, unlearn, retrain, compare; write the report into `out`."""
    federation = Federation.simulate(
        "mnist5k", out=out, partition="dirichlet:1.0", seed=0, backdoor="client=0,share=0.8,target=0"
    )
    federation.train(on_progress=on_progress)
    request = federation.request_deletion(client=0)
    federation.unlearn(request, on_progress=on_progress)
    comparison = federation.compare(request, on_progress=on_progress)
    comparison.save(federation.folder)
    return comparison
