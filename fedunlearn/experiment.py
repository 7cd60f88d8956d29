"""What an experiment file says: a federation, a request, a method and controls, over cells and seeds."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from fedunlearn.config import EXECUTION, FederationSettings, Seed, UnlearnSettings, make_settings
from fedunlearn.errors import SettingsError

RULES = ("largest", "half-of-two-classes")
"""Rules by which a client is chosen from the partition alone: the one with most samples; of those that hold at least
half of all samples of two classes or more, the one with most samples."""
CHOSEN = "{client}"
"""Stands for the client that a rule chose, wherever a setting is a text."""


class AskedFor(BaseModel):
    """A deletion request; what a cell gives stands before what the experiment gives."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    client: Annotated[int, Field(ge=0)] | str | None = None
    """A number, or one of `RULES`."""
    classes: tuple[int, ...] | None = None
    samples: tuple[int, ...] | None = None


class Cell(BaseModel):
    """One variation of an experiment: a name, and changes to its federation and request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # It becomes part of file names.
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._=,+-]*$", max_length=100)] = ""
    federation: dict[str, Any] = Field(default_factory=dict)
    request: dict[str, Any] = Field(default_factory=dict)


class Experiment(BaseModel):
    """What an experiment file says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    question: str = ""
    """What it asks, in a sentence."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    """One run each."""
    federation: dict[str, Any]
    """Settings of the federation, seed apart."""
    request: dict[str, Any]
    method: dict[str, Any] = Field(default_factory=dict)
    """Settings of the method under test."""
    controls: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Table name -> settings of what is shown beside it."""
    cells: Annotated[tuple[Cell, ...], Field(min_length=1)] = (Cell(),)
    rounds_after: Annotated[int, Field(ge=0)] = 0
    """Ordinary rounds after which the models are measured once more; 0: not."""
    pooled_audit: bool = False
    """Also linear probe and relearning time."""


@dataclass(frozen=True)
class Run:
    """One cell with one seed.

    Its settings come with `client` in the place of "{client}".
    """

    experiment: Experiment
    cell: Cell
    seed: int

    @property
    def name(self) -> str:
        """Unique in the benchmark, and fit for a file name."""
        return "-".join(part for part in (self.cell.name, f"seed{self.seed}") if part)

    def federation(self, client: object = CHOSEN) -> FederationSettings:
        """The federation's settings."""
        values = {**self.experiment.federation, **self.cell.federation, "seed": self.seed}
        return make_settings(FederationSettings, _filled(values, client))

    def request(self) -> AskedFor:
        """The request."""
        return make_settings(AskedFor, {**self.experiment.request, **self.cell.request})

    def method(self, client: object = CHOSEN) -> UnlearnSettings:
        """Settings of the method under test."""
        return make_settings(UnlearnSettings, _filled(self.experiment.method, client))

    def controls(self, client: object = CHOSEN) -> dict[str, UnlearnSettings]:
        """Settings of the controls."""
        controls = self.experiment.controls
        return {name: make_settings(UnlearnSettings, _filled(own, client)) for name, own in controls.items()}

    def asked(self) -> dict[str, Any]:
        """Everything that the document depends on, defaults included, as plain JSON."""
        content = {
            "federation": self.federation().model_dump(mode="json", exclude=set(EXECUTION)),
            "request": self.request().model_dump(mode="json"),
            "method": self.method().model_dump(mode="json"),
            "controls": {name: own.model_dump(mode="json") for name, own in self.controls().items()},
            "rounds_after": self.experiment.rounds_after,
            "pooled_audit": self.experiment.pooled_audit,
        }
        return dict(json.loads(json.dumps(content)))


def read_experiment(path: Path | str) -> Experiment:
    """Read an experiment file. Raises SettingsError with what is wrong in it."""
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"there is no experiment file {path} that can be read.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.") from error
    try:
        for key in ("name", "federation", "request"):
            if key not in content:
                raise SettingsError(f"the key {key!r} is missing.")
        # Cell by cell, so that what is wrong in one is told with what a cell may say.
        if isinstance(cells := content.get("cells"), list):
            content["cells"] = [make_settings(Cell, one) if isinstance(one, dict) else one for one in cells]
        experiment = make_settings(Experiment, content)
        _check(experiment)
    except SettingsError as error:
        raise type(error)(f"{path}: {error}") from error
    return experiment


def _check(experiment: Experiment) -> None:
    """Find what would fail only after hours. Raises SettingsError."""
    from fedunlearn.strategies import methods
    from fedunlearn.strategies.method import checked_phases

    items: dict[str, list[Any]] = {
        "cell": [cell.name for cell in experiment.cells],
        "seed": list(experiment.seeds),
    }
    for what, several in items.items():
        twice = next((item for item in several if several.count(item) > 1), None)
        if twice is not None:
            raise SettingsError(f"the {what} {twice!r} is there twice; each needs its own.")
    taken = {"original", "unlearned", "retrained", "fine-tuned", "retrained-same-budget"} & set(experiment.controls)
    if taken:
        raise SettingsError(f"the control {min(taken)!r} has the name of a model that is always there; rename it.")
    for cell in experiment.cells:
        if "seed" in experiment.federation or "seed" in cell.federation:
            raise SettingsError("the federation's seed is given; list it under seeds instead.")
        run = Run(experiment, cell, experiment.seeds[0])
        federation, client = run.federation(0), run.request().client
        if isinstance(client, str) and client not in RULES:
            raise SettingsError(f"client = {client!r}: expected a number, {' or '.join(map(repr, RULES))}.")
        if isinstance(client, int) and client >= federation.clients:
            raise SettingsError(f"there is no client {client}; the clients are 0 to {federation.clients - 1}.")
        for settings in (run.method(0), *run.controls(0).values()):
            checked_phases(methods.get(settings.method), settings, federation.rounds)


def _filled(values: Mapping[str, Any], client: object) -> dict[str, Any]:
    """The values with `client` for "{client}" in every text, those in tables within included."""
    filled: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            value = _filled(value, client)
        filled[name] = value.replace(CHOSEN, str(client)) if isinstance(value, str) else value
    return filled
