"""`flwr run .` as a user types it, against a SuperLink of our own that ends with the test."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedunlearn.federation import Federation
from fedunlearn.server.branches import MAIN
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.session import Session

ROOT = Path(__file__).parents[2]
SECONDS = 300

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * SECONDS)]

# The FAB is built from a copy, so that nothing is written beside the sources.
PROJECT = ("pyproject.toml", "README.md", "LICENSE", "fedunlearn")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture
def environment(tmp_path):
    scripts = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": scripts + os.pathsep + os.environ.get("PATH", ""),
        "FLWR_HOME": str(tmp_path / "flower"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        # A proxy must not be asked for what runs on this machine.
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


@pytest.fixture
def super_link(tmp_path, environment):
    """Name of a connection to a SuperLink in simulation mode."""
    control, runtime = free_ports(2)
    home = Path(environment["FLWR_HOME"])
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "test"\n\n[superlink.test]\naddress = "127.0.0.1:{runtime}"\ninsecure = true\n'
    )
    command = ["flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess"]
    command += [
        "--control-api-address",
        f"127.0.0.1:{control}",
        "--host",
        "127.0.0.1",
        "--port",
        str(runtime),
    ]
    with open(tmp_path / "superlink.log", "wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            wait_for_port(runtime, process, tmp_path / "superlink.log")
            yield "test"
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if process.poll() is not None:
            pytest.fail(f"flower-superlink ended: {log.read_text()[-2000:]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("flower-superlink did not open its port")


def flwr(environment: dict[str, str], cwd: Path, *arguments: str) -> str:
    command = ["flwr", *arguments]
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_flwr_run_trains_the_federation_into_the_folder_out(tmp_path, environment, super_link):
    project = tmp_path / "project"
    project.mkdir()
    for name in PROJECT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, project / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, project)
    out = tmp_path / "run"

    log = flwr(
        environment,
        project,
        "run",
        ".",
        super_link,
        "--stream",
        "--federation-config",
        "num-supernodes=2 client-resources-num-cpus=2",
        "-c",
        f"out='{out}' task='digits' clients=2 rounds=1 local-epochs=1",
    )

    # `flwr run` exits 0 even when the run failed.
    (entry,) = json.loads(flwr(environment, project, "list", super_link, "--format", "json"))["runs"]
    assert entry["status"] == "finished:completed", log[-5000:]
    assert json.loads((out / "run.json").read_text())["settings"]["task"] == "digits"
    with contextlib.closing(sqlite3.connect(out / "ledger.sqlite")) as ledger:
        participants = [json.loads(row[0]) for row in ledger.execute("SELECT participants FROM rounds")]
    # The ServerApp starts before the nodes are there; it must have waited for all of them.
    assert participants == [[0, 1]]
    same = Federation.simulate("digits", clients=2, rounds=1, local_epochs=1, out=tmp_path / "same")
    main = Session(RunFolder.open(out)).ledger.branch(MAIN)
    assert main is not None and main.head == same.train().digest
