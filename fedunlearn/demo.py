"""The demonstration: a back-door client leaves a federation of ten, in under three minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedunlearn.federation import Comparison, Federation
from fedunlearn.progress import OnProgress

SETTINGS: dict[str, Any] = {
    "task": "mnist5k",
    "partition": "dirichlet:1.0",
    # With this seed client 0 holds a fifth of the data: a back-door of a smaller client is averaged away.
    "seed": 63,
    "backdoor": "client=0,share=0.9,target=0",
}


def demo(out: Path | str = "demo-run", on_progress: OnProgress | None = None, **settings: Any) -> Comparison:
    """Train, ask for deletion, unlearn, retrain, compare; write the report into `out`.

    A demonstration that was interrupted is gone on with, and one that is finished is shown once more.

    Args:
        out: run folder.
        settings: of the federation, in the place of the demonstration's own.

    Raises:
        SettingsError: a setting is wrong. RunFolderError: `out` holds another run.
    """
    federation = Federation.simulate(out=out, **{**SETTINGS, **settings})
    federation.train(on_progress=on_progress)
    request = federation.request_deletion(client=0)
    federation.unlearn(request, on_progress=on_progress)
    comparison = federation.compare(request, on_progress=on_progress)
    comparison.save(federation.folder)
    return comparison
