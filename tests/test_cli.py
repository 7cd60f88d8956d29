from __future__ import annotations

import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from fedunlearn import __version__
from fedunlearn.cli import app, main
from fedunlearn.config import FederationSettings

QUICK = str(Path(__file__).parents[1] / "experiments" / "quick.toml")
COMMANDS = ("simulate", "request", "requests", "unlearn", "compare", "audit", "benchmark", "report", "list", "demo")


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
    shown = capsys.readouterr().out
    assert "--json" in shown
    # Typer loses the help of arguments with a click that is too new for it.
    assert ("Folder of the run." in shown) == ("[OPTIONS] RUN" in shown or "[OPTIONS] [RUN]" in shown)


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
def test_a_wrong_argument_is_a_sentence(capsys: pytest.CaptureFixture[str], words: list[str], expected: str) -> None:
    sentence = error_of(capsys, *words, status=2)
    assert expected in sentence
    assert re.search(r"; see: fedunlearn[a-z ]* --help$", sentence)


def test_a_list_as_json_and_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    names = [metric["name"] for metric in run_json(capsys, "list", "metrics")["metrics"]]
    assert "backdoor_success" in names
    assert main(["list", "metrics"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)


SMALL = ("--task", "digits", "--clients", "3", "--partition", "iid", "--rounds", "2", "--local-epochs", "1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small federation, trained."""
    run = tmp_path_factory.mktemp("runs") / "run"
    assert main(["simulate", *SMALL, "--out", str(run)]) == 0
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained federation, for this test alone."""
    return Path(shutil.copytree(trained, tmp_path / "a run"))


def test_the_whole_path(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    filed = run_json(capsys, "request", str(run), "--client", "0", "--samples", ",".join(map(str, range(40))))
    assert (filed["scope"], filed["clients"], filed["state"]) == ("samples", [0], "pending")
    assert [one["id"] for one in run_json(capsys, "requests", str(run))["requests"]] == [filed["id"]]

    (served,) = run_json(capsys, "unlearn", str(run), "--ratio", "0.25", "--rounds", "1")["unlearned"]
    assert (served["requests"], served["method"], served["rounds"]) == (filed["id"], "selective-channels", 1)
    assert run_json(capsys, "requests", str(run))["requests"][0]["state"] == "done"

    models = run_json(capsys, "compare", str(run), "--retrain")["models"]
    assert {"original", "unlearned", "retrained", "fine-tuned", "retrained-same-budget"} <= set(models)
    assert models["unlearned"]["cost"]["rounds"] == 1
    saved = json.loads((run / "comparison.json").read_text(encoding="utf-8"))["models"]
    assert saved["retrained"]["test_accuracy"] == pytest.approx(models["retrained"]["test_accuracy"])

    page = Path(run_json(capsys, "report", str(run))["report"])
    assert page.name == "report.html" and "<html" in page.read_text(encoding="utf-8")


def test_a_person_is_told_what_comes_next(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    assert main(["requests", str(run)]) == 0
    assert "No deletion request yet" in capsys.readouterr().out
    assert main(["request", str(run), "--client", "1", "--samples", "3,5"]) == 0
    shown = capsys.readouterr().out
    (next_line,) = [line for line in shown.splitlines() if line.startswith("Next: ")]
    assert main([*shlex.split(next_line)[2:], "--rounds", "1"]) == 0
    captured = capsys.readouterr()
    assert f"Next: fedunlearn compare {shlex.quote(str(run))}" in captured.out
    assert "1/" in captured.err
    assert main(["request", str(run), "--client", "1", "--samples", "5,3"]) == 0
    again = capsys.readouterr().out
    assert "done" in again and f"Served already; see: fedunlearn compare {shlex.quote(str(run))} --request" in again
    assert "Next: " not in again


def test_the_same_settings_resume_a_run(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    again = run_json(capsys, "simulate", *SMALL, "--out", str(run))
    more = run_json(capsys, "simulate", *SMALL, "--rounds", "3", "--out", str(run))
    assert again["run"] == str(run) and again["settings"]["task"] == "digits"
    assert (again["training"]["rounds"], more["training"]["rounds"]) == (2, 3)
    assert again["training"]["digest"] != more["training"]["digest"]
    assert "seed" in error_of(capsys, "simulate", *SMALL, "--seed", "1", "--out", str(run), status=1)


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (["--clients", "1"], 2, "clients = 1"),
        (["--rounds", "0"], 2, "rounds = 0"),
        (["--learning-rate", "-1"], 2, "learning-rate = -1"),
        (["--learning-rate", "inf"], 2, "learning-rate = inf: it should be a finite number"),
        (["--engine", "cloud"], 2, "engine = 'cloud'"),
        (["--task", "mnist"], 2, "no task called 'mnist'"),
        (["--task", "no_such_module:task"], 2, "no_such_module"),
        (["--task", "images:no-such-folder"], 1, "no-such-folder"),
        (["--network", "alexnet"], 2, "alexnet"),
        (["--partition", "fair"], 2, "dirichlet:A"),
        (["--backdoor", "client=9,share=0.8,target=0"], 2, "there is no client 9"),
    ],
)
def test_a_wrong_setting_is_a_sentence_and_leaves_no_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], status: int, expected: str
) -> None:
    out = tmp_path / "run"
    assert expected in error_of(capsys, "simulate", *SMALL, *words, "--out", str(out), status=status)
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (["request", "RUN", "--client", "7"], 1, "the clients are 0 to 2"),
        (["request", "RUN", "--client", "0", "--classes", "11"], 1, "client 0 holds no sample of class 11"),
        (["request", "RUN", "--client", "0", "--classes", "three"], 2, "classes = 'three'"),
        (["request", "RUN", "--client", "0", "--samples", "99999"], 1, "has no sample 99999"),
        (["request", "RUN"], 2, "name a client"),
        (["unlearn", "RUN", "--ratio", "2"], 2, "ratio"),
        (["unlearn", "RUN", "--ratio", "most"], 2, "ratio = 'most'"),
        (["unlearn", "RUN", "--method", "magic"], 2, "no method called 'magic'"),
        (["unlearn", "RUN", "--option", "speed"], 2, "expected NAME=VALUE"),
        (["unlearn", "RUN", "--request", "nobody"], 1, "nobody"),
        (["compare", "RUN"], 1, "no request has been served yet"),
        (["compare", "RUN", "--rounds-after", "-1"], 2, "rounds-after = -1: expected 0 or more"),
        (["requests", "no-such-run"], 1, "no-such-run"),
        (["benchmark", "no-such.toml", "--out", "RUN"], 2, "there is no experiment file no-such.toml"),
        (["benchmark", QUICK, "--out", "RUN", "--seeds", "9"], 2, "the experiment has no seed 9; it has 0"),
        (["benchmark", QUICK, "--out", "RUN", "--methods", "ssd, magic"], 2, "the experiment has no method magic"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    capsys: pytest.CaptureFixture[str], trained: Path, words: list[str], status: int, expected: str
) -> None:
    words = [str(trained) if word == "RUN" else word for word in words]
    assert expected in error_of(capsys, *words, status=status)


def test_flower_is_given_the_words_and_the_defaults_of_simulate() -> None:
    pyproject = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    declared = pyproject["tool"]["flwr"]["app"]["config"]
    settings = FederationSettings().model_dump()
    for name, value in settings.items():
        # `flwr run` is itself the engine, which runs clients one by one in its own processes, and knows no None.
        if name not in ("engine", "workers", "cohort"):
            assert declared[name.replace("_", "-")] == ("" if value is None else value), name


def test_simulate_has_every_setting_of_a_federation() -> None:
    simulate = typer.main.get_command(app).commands["simulate"]
    assert {option.name for option in simulate.params} == {*FederationSettings.model_fields, "out", "ledger", "as_json"}


def test_auto_shows_what_every_method_would_cost_before_it_runs_one(
    capsys: pytest.CaptureFixture[str], trained_run: Path, tmp_path: Path
) -> None:
    run = str(shutil.copytree(trained_run, tmp_path / "run"))
    run_json(capsys, "request", run, "--client", "0", "--classes", "3")
    served = run_json(capsys, "unlearn", run, "--method", "auto", "--rounds", "1")
    [chosen] = served["chosen"]
    assert served["unlearned"][0]["method"] == chosen["method"] == chosen["candidates"][0]["method"]
    assert {"retrain", "fine-tune"} <= {one["method"] for one in chosen["candidates"]}
    assert main(["unlearn", run, "--request", "client-0-1", "--method", "auto", "--rounds", "1"]) == 0
    shown = capsys.readouterr().out
    assert shown.index("client seconds") < shown.index("takes the clients the least time") < shown.index("Next:")
    assert "chosen" not in run_json(capsys, "unlearn", run, "--request", "client-0-1", "--method", "fine-tune")


def test_without_rounds_retraining_takes_as_many_as_training_had(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    run_json(capsys, "request", str(run), "--client", "0")
    (served,) = run_json(capsys, "unlearn", str(run), "--method", "retrain")["unlearned"]
    assert (served["method"], served["rounds"]) == ("retrain", 2)


def test_preparing_for_a_method_that_is_none_is_refused_at_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ("simulate", "--task", "digits", "--out", str(tmp_path / "run"))
    assert "'forget-it'" in error_of(capsys, *words, "--prepare-for", "forget-it", status=2)
    assert "server-data = 1.0" in error_of(capsys, *words, "--server-data", "1", status=2)
    assert not (tmp_path / "run").exists()
