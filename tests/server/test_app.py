from __future__ import annotations

from pathlib import Path

import pytest
from flwr.app import Context, RecordDict
from flwr.serverapp import ServerApp

from fedunlearn import engines
from fedunlearn.clients.app import client_app
from fedunlearn.config import FederationSettings, run_config_of
from fedunlearn.errors import RunFolderError, SettingsError
from fedunlearn.federation import Federation
from fedunlearn.server import app as server_app

SETTINGS = FederationSettings(task="digits", clients=3, partition="iid", rounds=2, local_epochs=1, learning_rate=0.1)


def run_app(out: Path | str, settings: FederationSettings = SETTINGS) -> None:
    run_config = {**run_config_of(settings), "out": str(out)}
    context = Context(1, 1, {}, RecordDict(), run_config)
    engines.run("local", lambda grid: server_app.main(grid, context), client_app, 3, run_config, 60.0)


def test_flwr_run_trains_resumes_and_serves(federation: Federation, tmp_path: Path) -> None:
    """The same digest as the command line's; what is filed meanwhile is served by the next run."""
    assert isinstance(server_app.app, ServerApp)
    out = tmp_path / "by-flower"
    run_app(out)
    found = Federation.open(out)
    assert found.train().digest == federation.train().digest
    request = found.request_deletion(client=0, classes=[1])
    run_app(out, SETTINGS.model_copy(update={"timeout": 30.0}))
    assert [(one.id, one.state) for one in found.requests()] == [(request.id, "done")]


@pytest.mark.parametrize("out", ["", "run"])
def test_the_run_folder_must_be_absolute(out: str) -> None:
    with pytest.raises(SettingsError, match="absolute path"):
        run_app(out)


def test_another_run_s_folder_is_refused(federation: Federation) -> None:
    with pytest.raises(RunFolderError, match=r"other settings \(seed: 0 there, 5 asked\)"):
        run_app(federation.folder, SETTINGS.model_copy(update={"seed": 5}))
