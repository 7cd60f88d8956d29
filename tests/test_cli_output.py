from __future__ import annotations

import io
import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from fedunlearn import cli_output
from fedunlearn.cli_output import command_output, facts, plain, print_error, table


@dataclass(frozen=True)
class Record:
    """A record as commands return them."""

    name: str
    accuracy: float
    parts: tuple[int, ...] = ()


class Settings(BaseModel):
    """Settings as pydantic holds them."""

    network: str | None = None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Record("a", float("nan"), (1, 2)), {"name": "a", "accuracy": None, "parts": [1, 2]}),
        ({"path": Path("run"), 3: float("inf")}, {"path": "run", "3": None}),
        (Settings(), {"network": None}),
        (np.float32(0.5), 0.5),
        (np.array([1, 2]), [1, 2]),
        ({"b", "a"}, ["a", "b"]),
        (True, True),
    ],
)
def test_everything_a_command_returns_has_a_plain_form(value: object, expected: object) -> None:
    assert plain(value) == expected
    json.dumps(plain(value), allow_nan=False)


def test_what_has_no_plain_form_is_refused() -> None:
    with pytest.raises(TypeError, match="a object has no JSON form"):
        plain(object())


def test_json_is_the_only_thing_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with command_output(as_json=True) as output:
        print("chatter of a library")
        output.answer(Record("a", 0.5), facts(Record("a", 0.5)))
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"name": "a", "accuracy": 0.5, "parts": []}
    assert captured.err == "chatter of a library\n"


def test_a_person_gets_text_and_tables(capsys: pytest.CaptureFixture[str]) -> None:
    with command_output(as_json=False) as output:
        output.answer({}, facts(Record("a", 0.123456)), table([Record("b [x]", 1.0, (1, 2))]), "Next: [that]")
        output.answer({}, facts({"served": False, "remarks": ["A bound.", "No claim."]}))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["accuracy", "0.1235"] in lines
    assert ["parts", "-"] in lines
    assert ["served", "no"] in lines
    assert ["│", "b", "[x]", "│", "1", "│", "1,", "2", "│"] in lines
    assert ["Next:", "[that]"] in lines
    assert lines[-1] == ["remarks", "A", "bound.", "No", "claim."], "sentences, and no list of words"


def test_sentences_of_several_records_follow_their_table(capsys: pytest.CaptureFixture[str]) -> None:
    long = "selective-channels was asked for and could not be run: a reference attribution needs 3 clients"
    several = [
        {"requests": "client-0-1", "branch": "client-0-1/unlearned/cfead146", "served": True, "remarks": []},
        {"requests": "client-1-1", "branch": "client-1-1/unlearned/e8d31c43", "served": True, "remarks": [long]},
    ]
    with command_output(as_json=False) as output:
        output.answer({}, facts(several))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"client-1-1: {long}"
    assert [line.split() for line in lines if line.startswith("│")] == [
        ["│", "client-0-1", "│", "yes", "│"],
        ["│", "client-1-1", "│", "yes", "│"],
    ]


def test_bars_are_off_the_terminal_before_the_answer_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    @contextmanager
    def bars():
        yield lambda progress: None
        written.append("bars are off")

    class Terminal(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    monkeypatch.setattr(cli_output, "progress_reporter", bars)
    monkeypatch.setattr(sys, "stdout", Terminal())
    with command_output(as_json=True) as output:
        output.answer({"a": 1})
    assert written[0] == "bars are off" and '"a": 1' in "".join(written[1:])


def test_standard_output_comes_back_after_an_error() -> None:
    before = sys.stdout
    with pytest.raises(RuntimeError), command_output(as_json=True):
        raise RuntimeError
    assert sys.stdout is before


@pytest.mark.parametrize("as_json", [True, False])
def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    print_error("clients = 0:\n  expected 2 or more.", as_json)
    captured = capsys.readouterr()
    assert captured.err == "Error: clients = 0: expected 2 or more.\n"
    assert (json.loads(captured.out) if as_json else captured.out) == (
        {"error": "clients = 0: expected 2 or more."} if as_json else ""
    )
