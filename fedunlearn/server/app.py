"""The ServerApp for `flwr run`: trains the federation of the run configuration and serves what is requested.

The run configuration's keys are the command line's words; `out` is an absolute path, because a ServerApp does
not run in the folder that it was started from.
"""

from __future__ import annotations

import time
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedunlearn.config import settings_from_run_config
from fedunlearn.errors import ClientError, SettingsError
from fedunlearn.server import jobs
from fedunlearn.server.failures import recorded
from fedunlearn.server.initial_model import with_initial_model
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.session import Session
from fedunlearn.strategies.asked import check_prepare_for

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train to the end in the folder `out`, going on with a run that is there; then serve open requests.

    Raises:
        SettingsError: `out` is missing or not absolute. RunFolderError: it holds a run with other settings.
    """
    settings = settings_from_run_config(context.run_config)
    out = Path(str(context.run_config.get("out", "")))
    if not out.is_absolute():
        raise SettingsError(f"out = {str(out)!r}: expected the absolute path of the run folder.")
    check_prepare_for(settings.prepared_methods)
    settings, initial = with_initial_model(settings)
    folder = RunFolder.of(out, settings)
    if initial is not None:
        initial.keep(folder)
    session = Session(folder)
    await_clients(grid, settings.clients)
    with folder.locked("flwr run"), recorded(session, "flwr run"):
        jobs.train(grid, session, settings.rounds)
        jobs.serve_rest(grid, session)


def await_clients(grid: Grid, count: int, seconds: float = 60.0) -> None:
    """Wait until `count` nodes are connected. Raises ClientError when they are not after `seconds`."""
    deadline = time.monotonic() + seconds
    while (there := len(list(grid.get_node_ids()))) < count:
        if time.monotonic() > deadline:
            raise ClientError(
                f"{there} of {count} clients are connected after {seconds:g} s; start as many nodes as `clients` says."
            )
        time.sleep(0.2)
