"""Every command line in the documentation is one that the program has, with options that it has."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import typer

from fedunlearn.cli import app

REPOSITORY = Path(__file__).parents[1]
PAGES = [*(REPOSITORY / name for name in ("README.md", "CHANGELOG.md", "experiments/README.md"))]
PAGES += sorted((REPOSITORY / "docs").rglob("*.md"))


def command_lines(text: str) -> list[str]:
    """What begins with the program's name, in blocks and within sentences, without comments."""
    whole = text.replace("\\\n", " ")
    inline = [" ".join(found.split()) for found in re.findall(r"`(fedunlearn [^`]+)`", whole)]
    blocks = re.findall(r"^```\w*\n(.*?)^```", whole, re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("fedunlearn ")]
    return [line.partition("#")[0].strip() for line in [*inline, *lines]]


def unknown_words(line: str) -> list[str]:
    """Commands and options of a line that there are not."""
    command: click.Command = typer.main.get_command(app)
    # Brackets and bars stand for what may be left out, and for what there is to choose from.
    words = re.sub(r"[][|,;]", " ", line).split()[1:]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return [words[0]]
        command = command.commands[words.pop(0)]
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}
    return [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_are_there(page: Path) -> None:
    lines = command_lines(page.read_text(encoding="utf-8"))
    assert {line: unknown for line in lines if (unknown := unknown_words(line))} == {}


def test_commands_are_found_and_wrong_ones_told() -> None:
    text = "Use `fedunlearn ledger\nshow RUN --kind round`:\n```\nfedunlearn simulate --task a \\\n --seeds 1 # no\n```"
    shown, simulated = command_lines(text)
    assert (unknown_words(shown), unknown_words(simulated)) == ([], ["--seeds"])
    assert unknown_words("fedunlearn ledger shew RUN") == ["shew"]
    assert unknown_words("fedunlearn --help") == unknown_words("fedunlearn ledger") == []
    assert len(command_lines((REPOSITORY / "README.md").read_text(encoding="utf-8"))) > 8
