"""Arguments that several commands share, and those that are more than a word or a number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fedunlearn.errors import SettingsError

Ratio = float | dict[str, float] | Literal["auto"]


def option(help: str, metavar: str | None = None, *, default: str | bool = True) -> Any:
    """An option; `default` is what its help says of being left out, where that is not its value."""
    return typer.Option(help=help, metavar=metavar, show_default=default)


Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
LastServed = Annotated[str | None, option("The deletion request.", "ID", default="the last one served")]
ByMethod = Annotated[
    str | None,
    option("The method whose unlearned model is meant, where several served the request.", default="the last"),
]


def heads_option(what: str) -> Any:
    """The option of clients' files of signed heads; a mistyped name, which says nothing of the ledger, is refused."""
    return typer.Option("--heads", metavar="FILE", exists=True, dir_okay=False, help=what)


def parse_numbers(name: str, text: str | None) -> list[int] | None:
    """`"3,4"` as `[3, 4]`; None stays None.

    Raises:
        SettingsError: when a part is not a whole number.
    """
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise SettingsError(f"{name} = {text!r}: expected whole numbers separated by commas, such as 3,4.") from None


def parse_ratio(text: str) -> Ratio:
    """`"auto"`, a share such as `"0.2"`, or a share a layer such as `"conv1=0.1,hidden=0.3"`.

    The range is checked where the settings are made.

    Raises:
        SettingsError: when `text` is none of the three.
    """
    if text == "auto":
        return "auto"
    try:
        if "=" not in text:
            return float(text)
        pairs = [part.split("=") for part in text.split(",")]
        table = {layer.strip(): float(share) for layer, share in pairs}
        if "" in table or len(table) < len(pairs):
            raise ValueError("a layer without a name, or twice")
        return table
    except ValueError:
        raise SettingsError(
            f"ratio = {text!r}: expected auto, a share from 0 to 1, or a share a layer such as conv1=0.1,hidden=0.3."
        ) from None


def parse_options(texts: Sequence[str]) -> dict[str, str | float | int | bool]:
    """`["attribution=ablation", "steps=3"]` as `{"attribution": "ablation", "steps": 3}`.

    A value becomes a truth value, a whole number, a number or text, the first of these that it can be.
    Hyphens in a name become underscores, the way Python spells the same option.

    Raises:
        SettingsError: when a part is not NAME=VALUE, or a name comes twice.
    """
    options: dict[str, str | float | int | bool] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not (name and equals and value):
            raise SettingsError(f"option = {text!r}: expected NAME=VALUE, such as attribution=ablation.")
        if name in options:
            raise SettingsError(f"option = {text!r}: {name} is given twice; give it once.")
        options[name] = _parse_value(value)
    return options


def _parse_value(text: str) -> str | float | int | bool:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
