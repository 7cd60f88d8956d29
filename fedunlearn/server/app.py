"""The ServerApp for `flwr run`: trains the federation of the run configuration and serves what is requested.

The run configuration's keys are the command line's words; `out` is an absolute path, because a ServerApp does
not run in the folder that it was started from.
"""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedunlearn.config import settings_from_run_config
from fedunlearn.errors import SettingsError
from fedunlearn.server import jobs
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.session import Session

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train to the end in the folder `out`, going on with a run that is there; then serve open requests.

    Raises:
        SettingsError: `out` is missing or not absolute, or holds a run with other settings.
    """
    settings = settings_from_run_config(context.run_config)
    out = Path(str(context.run_config.get("out", "")))
    if not out.is_absolute():
        raise SettingsError(f"out = {str(out)!r}: expected the absolute path of the run folder.")
    folder = RunFolder.open(out) if RunFolder.exists(out) else RunFolder.create(out, settings)
    # How long it trains and what executes it may differ; `flwr run` is an engine of its own.
    free = {"rounds": 1, "engine": "local", "timeout": 1.0}
    if folder.settings.model_copy(update=free) != settings.model_copy(update=free):
        raise SettingsError(f"{out} holds a run with other settings; choose another folder.")
    session = Session(folder)
    with folder.locked("flwr run"):
        jobs.train(grid, session, settings.rounds)
        jobs.serve_rest(grid, session)
