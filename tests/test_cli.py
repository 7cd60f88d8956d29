from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fedunlearn import __version__
from fedunlearn.cli import main
from fedunlearn.config import FederationSettings

COMMANDS = ("simulate", "request", "requests", "unlearn", "compare", "benchmark", "report", "list", "demo")


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """The JSON document of a command that works; nothing else is on standard output."""
    assert main([*words, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def error_of(capsys: pytest.CaptureFixture[str], *words: str, status: int) -> str:
    """The sentence of a command that fails, the same on both streams, and without a traceback."""
    assert main([*words, "--json"]) == status
    captured = capsys.readouterr()
    sentence = json.loads(captured.out)["error"]
    assert captured.err.splitlines()[-1] == f"Error: {sentence}"
    assert "Traceback" not in captured.err
    return str(sentence)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"\b{command}\b", shown) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fedunlearn {__version__}\n"


def test_no_word_at_all_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "simulate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["simulat"], "No such command 'simulat'"),
        (["simulate", "--epochs", "3"], "No such option"),
        (["simulate", "--rounds", "many"], "'many' is not a valid integer"),
        (["requests"], "Missing argument 'RUN'"),
        (["benchmark", "x.toml"], "Missing option '--out'"),
        (["list", "models"], "'models' is not one of 'tasks', 'methods', 'metrics'"),
    ],
)
def test_a_wrong_argument_is_a_sentence(
    capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    sentence = error_of(capsys, *words, status=2)
    assert expected in sentence
    assert re.search(r"; see: fedunlearn[a-z ]* --help$", sentence)


def test_a_list_as_json_and_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    names = [metric["name"] for metric in run_json(capsys, "list", "metrics")["metrics"]]
    assert "backdoor_success" in names
    assert main(["list", "metrics"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)


def test_flower_is_given_the_words_and_the_defaults_of_simulate() -> None:
    pyproject = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    declared = pyproject["tool"]["flwr"]["app"]["config"]
    settings = FederationSettings().model_dump()
    for name, value in settings.items():
        # `flwr run` is itself the engine, and knows no None.
        if name != "engine":
            assert declared[name.replace("_", "-")] == ("" if value is None else value), name
