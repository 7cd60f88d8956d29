from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import click
import pytest

from fedunlearn.cli_status import CLIENT_THREAD, exit_status
from fedunlearn.engines import inline
from fedunlearn.errors import DataError, RunFolderError, SettingsError, UnknownName


def raising(error: BaseException) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


def test_success_is_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(lambda: None, ["requests", "run"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SettingsError("ratio = 2: expected a share from 0 to 1."), 2),
        (UnknownName("there is no task called 'mnist'."), 2),
        (DataError("no pictures in photos."), 1),
        (RunFolderError("there is no run in x."), 1),
    ],
)
def test_an_error_of_ours_is_its_sentence_and_its_status(
    capsys: pytest.CaptureFixture[str], error: Exception, status: int
) -> None:
    assert exit_status(raising(error), ["requests", "run", "--json"]) == status
    captured = capsys.readouterr()
    assert captured.err == f"Error: {error}\n"
    assert json.loads(captured.out) == {"error": str(error)}


def test_a_wrong_argument_names_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(raising(click.UsageError("No such option: --epochs.")), ["simulate"]) == 2
    assert capsys.readouterr() == ("", "Error: No such option: --epochs; see: fedunlearn --help\n")


@pytest.mark.parametrize("call", [raising(KeyboardInterrupt()), raising(click.Abort()), lambda: 130])
def test_an_interrupt_says_how_to_resume(capsys: pytest.CaptureFixture[str], call: Callable[[], object]) -> None:
    assert exit_status(call, ["simulate", "--out", "my run"]) == 130
    captured = capsys.readouterr()
    assert captured.err.endswith("the same command resumes it: fedunlearn simulate --out 'my run'\n")


def test_an_error_of_the_system_names_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    error = PermissionError(13, "Permission denied", "run/ledger.sqlite")
    assert exit_status(raising(error), ["simulate"]) == 1
    assert capsys.readouterr().err == "Error: run/ledger.sqlite: Permission denied.\n"


def test_a_closed_pipe_is_no_news(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(raising(BrokenPipeError()), ["list", "tasks"]) == 1
    assert capsys.readouterr() == ("", "")


def test_a_defect_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(raising(ZeroDivisionError("division by zero")), ["simulate", "--json"]) == 1
    captured = capsys.readouterr()
    assert "Traceback" in captured.err
    assert "ZeroDivisionError" in json.loads(captured.out)["error"]


def test_a_busy_thread_of_a_client_does_not_change_the_status() -> None:
    code = (
        "import threading, time, sys\n"
        "from fedunlearn.cli_status import CLIENT_THREAD, end_process\n"
        "assert end_process(0) == 0\n"
        "threading.Thread(target=time.sleep, args=(60,), name=CLIENT_THREAD).start()\n"
        "print('said before')\n"
        "sys.exit(end_process(130))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (130, "said before\n", "")


def test_the_name_of_the_threads_is_that_of_the_local_engine() -> None:
    assert inline.THREAD == CLIENT_THREAD
