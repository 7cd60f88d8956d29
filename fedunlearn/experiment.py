"""What an experiment file says: a federation, a request, and the methods that serve it, over cells and seeds."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from fedunlearn.config import EXECUTION, FederationSettings, Seed, UnlearnSettings, make_settings, matching
from fedunlearn.contest.budget import Budget, rounds_for_bytes, within_epochs
from fedunlearn.contest.contender import BAND, contenders, prepared_for, with_changes
from fedunlearn.contest.forget_set import parse_rule
from fedunlearn.contest.tuning import Changes, Tuning, candidates, name_of
from fedunlearn.errors import SettingsError
from fedunlearn.strategies import methods
from fedunlearn.strategies.asked import settings_beside
from fedunlearn.strategies.method import checked_phases

RULES = ("largest", "half-of-two-classes")
"""Rules by which a client is chosen from the partition alone: the one with most samples; of those that hold at least
half of all samples of two classes or more, the one with most samples. Clients of earlier requests are left out."""
ALWAYS = frozenset({"original", "unlearned", "retrained", "fine-tuned", "retrained-same-budget"})
"""Models that every comparison has."""
CHOSEN = "{client}"
"""Stands for the client that a rule chose, wherever a setting is a text."""


class AskedFor(BaseModel):
    """A deletion request; what a cell gives stands before what the experiment gives."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    client: Annotated[int, Field(ge=0)] | str | None = None
    """A number, or one of `RULES`."""
    classes: tuple[int, ...] | None = None
    samples: tuple[int, ...] | str | None = None
    """Indices, or a rule of `fedunlearn.contest.forget_set`; a rule without a client is for every client."""
    then: tuple[AskedFor, ...] = ()
    """Further requests, each served after the one before it, on the models that were left by then."""

    def in_order(self) -> tuple[AskedFor, ...]:
        """This request and those that follow."""
        return (self.model_copy(update={"then": ()}), *self.then)


class Cell(BaseModel):
    """One variation of an experiment: a name, and changes to its federation and request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # It becomes part of file names.
    name: Annotated[
        str, Field(max_length=100), matching(r"[A-Za-z0-9._=,+-]*", "letters a to z, digits and . _ = , + - alone")
    ] = ""
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
    methods: tuple[str, ...] = ()
    """Contenders: registered methods, or names of `settings` with a method of their own."""
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Contender -> its settings."""
    budget: Budget = Budget()
    """Of every contender; settings under `method` and `controls` are as they stand."""
    tuning: Tuning | None = None
    band: Annotated[int, Field(ge=0)] = 0
    """Further retrained models, from other seeds, beside the one that distances are measured to."""
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
    trying: bool = False
    """Whether it is a validation request, on which the tries of the tuning are made."""
    chosen: Mapping[str, Changes] = field(default_factory=dict)
    """Contender -> what the tuning found for it."""

    @property
    def name(self) -> str:
        """Unique among the runs of its kind, and fit for a file name."""
        return "-".join(part for part in (self.cell.name, f"seed{self.seed}") if part)

    def federation(self, client: object = CHOSEN) -> FederationSettings:
        """The federation's settings."""
        values = {**self.experiment.federation, **self.cell.federation, "seed": self.seed}
        if self.is_contest:
            # What serves is in nobody's table: whether it may be served for good is not the question.
            values.setdefault("class_harm", 1.0)
        beside = (self.experiment.method, *self.experiment.controls.values())
        named = [own["method"] for own in (*self._values().values(), *beside) if "method" in own]
        if needed := prepared_for(named):
            given = [name for name in str(values.get("prepare_for", "")).split(",") if name]
            values["prepare_for"] = ",".join(dict.fromkeys([*given, *needed]))
        return make_settings(FederationSettings, _filled(values, client))

    def request(self) -> AskedFor:
        """The request, with those that follow it; tries are made on the first alone."""
        found = make_settings(AskedFor, {**self.experiment.request, **self.cell.request})
        return found.model_copy(update={"then": ()}) if self.trying else found

    @property
    def steps(self) -> tuple[str, ...]:
        """What its documents are called as cells: its cell, once for each of several requests one after another."""
        several = len(self.request().in_order())
        if several == 1:
            return (self.cell.name,)
        return tuple("-".join(filter(None, (self.cell.name, f"after-{n}"))) for n in range(1, several + 1))

    @property
    def is_contest(self) -> bool:
        """Whether no single method is under test: then fine-tuning serves, and is left out of the tables."""
        return self.trying or bool(self._values() and not self.experiment.method)

    def method(self, client: object = CHOSEN) -> UnlearnSettings:
        """Settings of the method that serves the request."""
        if not self.is_contest:
            return self._unlearn(self.experiment.method, client)
        federation, budget = self.federation(), self.experiment.budget
        settings, epochs = self._unlearn({"method": "fine-tune"}, client), budget.epochs_of(federation)
        if epochs is not None:
            return within_epochs(methods.get("fine-tune"), settings, epochs, federation.rounds)
        if budget.bytes is not None:
            # It moves as much a round as retraining does.
            return settings.model_copy(update={"rounds": rounds_for_bytes(budget.bytes * federation.rounds, 0, 1)})
        return settings

    def contenders(self, client: object = CHOSEN) -> dict[str, UnlearnSettings]:
        """Settings of the contenders, or of their tries, with the rounds that fit into a budget of client epochs."""
        federation = self.federation()
        epochs = self.experiment.budget.epochs_of(federation)
        found = {}
        for name, values in self._values().items():
            settings = self._unlearn(values, client)
            if epochs is not None:
                settings = within_epochs(methods.get(settings.method), settings, epochs, federation.rounds)
            found[name] = settings
        return found

    def tries(self) -> dict[str, tuple[Changes, ...]]:
        """Contender -> the changes of its tries; without tuning, or a space of its own, it has one."""
        tuning = self.experiment.tuning
        names = contenders(self.experiment.methods, self.experiment.settings)
        return {
            name: candidates(name, tuning.space.get(name, {}), tuning.tries) if tuning is not None else ({},)
            for name in names
        }

    def _values(self) -> dict[str, Mapping[str, Any]]:
        """Name -> values of what runs beside the method that serves: contenders, or the tries of those with a space."""
        found = contenders(self.experiment.methods, self.experiment.settings)
        if not self.trying:
            return {name: with_changes(values, self.chosen.get(name, {})) for name, values in found.items()}
        return {
            name_of(name, number): with_changes(found[name], changes)
            for name, several in self.tries().items()
            if len(several) > 1
            for number, changes in enumerate(several, start=1)
        }

    def controls(self, client: object = CHOSEN) -> dict[str, UnlearnSettings]:
        """Settings of the controls."""
        controls = {} if self.trying else self.experiment.controls
        return {name: self._unlearn(own, client) for name, own in controls.items()}

    def _unlearn(self, values: Mapping[str, Any], client: object) -> UnlearnSettings:
        """Settings of one unlearning, with the rounds and passes of a front door's where none are named."""
        return settings_beside(self.federation(), _filled(values, client))

    @property
    def band(self) -> int:
        """Further retrained models."""
        return 0 if self.trying else self.experiment.band

    def asked(self) -> dict[str, Any]:
        """Everything that the document depends on, defaults included, as plain JSON."""
        request = self.request()
        content = {
            "federation": self.federation().model_dump(mode="json", exclude=set(EXECUTION)),
            # Without what follows where nothing does: what was made before anything could is still the same.
            "request": request.model_dump(mode="json", exclude=None if request.then else {"then"}),
            "method": self.method().model_dump(mode="json"),
            "controls": {name: own.model_dump(mode="json") for name, own in self.controls().items()},
            "rounds_after": 0 if self.trying else self.experiment.rounds_after,
            "pooled_audit": False if self.trying else self.experiment.pooled_audit,
        }
        # Only where there are some: what was made before there were any is still the same.
        if self._values():
            content["methods"] = {name: own.model_dump(mode="json") for name, own in self.contenders().items()}
            content["budget"] = self.experiment.budget.model_dump(mode="json")
        if self.band:
            content["band"] = self.band
        return dict(json.loads(json.dumps(content)))


def read_experiment(path: Path | str) -> Experiment:
    """Read an experiment file. Raises SettingsError with what is wrong in it."""
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"there is no experiment file {path} that can be read; check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.") from error
    try:
        for key in ("name", "federation", "request"):
            if key not in content:
                raise SettingsError(f"the key {key!r} is missing; give name, federation and request.")
        # Cell by cell, so that what is wrong in one is told with what a cell may say.
        if isinstance(cells := content.get("cells"), list):
            content["cells"] = [make_settings(Cell, one) if isinstance(one, dict) else one for one in cells]
        experiment = make_settings(Experiment, content)
        _check(experiment)
    except SettingsError as error:
        raise type(error)(f"{path}: {error}") from error
    return experiment


def narrowed(experiment: Experiment, seeds: Sequence[int] | None, names: Sequence[str] | None) -> Experiment:
    """The same question with some of its seeds and methods alone; None: all. Raises SettingsError for one it lacks."""
    known = tuple(contenders(experiment.methods, experiment.settings))
    for what, asked, own in (("seed", seeds, experiment.seeds), ("method", names, known)):
        lacking = [str(item) for item in asked or () if item not in own]
        if lacking:
            raise SettingsError(
                f"the experiment has no {what} {lacking[0]}; it has {', '.join(map(str, own)) or 'none'}."
            )
    kept = tuple(name for name in known if names is None or name in names)
    tuning = experiment.tuning
    if tuning is not None:
        tuning = tuning.model_copy(update={"space": {n: space for n, space in tuning.space.items() if n in kept}})
    changes = {
        "seeds": tuple(seed for seed in experiment.seeds if seeds is None or seed in seeds),
        "methods": kept,
        "settings": {name: own for name, own in experiment.settings.items() if name in kept},
        "tuning": tuning,
    }
    return experiment.model_copy(update=changes)


def _check(experiment: Experiment) -> None:
    """Find what would fail only after hours. Raises SettingsError."""
    items: dict[str, list[Any]] = {
        "cell": [cell.name for cell in experiment.cells],
        "seed": list(experiment.seeds),
        "method": list(experiment.methods),
        "tuning seed": [] if experiment.tuning is None else list(experiment.tuning.seeds),
    }
    for what, several in items.items():
        twice = next((item for item in several if several.count(item) > 1), None)
        if twice is not None:
            raise SettingsError(f"the {what} {twice!r} is there twice; each needs its own.")
    named = contenders(experiment.methods, experiment.settings)
    for what, names in (("control", set(experiment.controls)), ("method", set(named))):
        if taken := ALWAYS & names or {name for name in names if name.startswith(BAND)}:
            raise SettingsError(f"the {what} {min(taken)!r} has the name of a model that is always there; rename it.")
    for name in named:
        # It stands in tables of three formats, and "#" numbers the tries.
        if not name.strip() or set(name) & set("|#\n\r`") or len(name) > 100:
            raise SettingsError(
                f"the method {name!r} must do without | # ` and line breaks, and have 1 to 100 letters."
            )
    if both := set(named) & set(experiment.controls):
        raise SettingsError(f"{min(both)!r} is a method and a control; give one of them another name.")
    if experiment.tuning is not None:
        _check_tuning(experiment, experiment.tuning, set(named))
    for cell in experiment.cells:
        if "seed" in experiment.federation or "seed" in cell.federation:
            raise SettingsError("the federation's seed is given; list it under seeds instead.")
        run = Run(experiment, cell, experiment.seeds[0])
        federation = run.federation(0)
        for request in run.request().in_order():
            _check_request(request, federation)
        tried = Run(experiment, cell, experiment.seeds[0], trying=True).contenders(0) if experiment.tuning else {}
        for settings in (run.method(0), *run.controls(0).values(), *run.contenders(0).values(), *tried.values()):
            checked_phases(methods.get(settings.method), settings, federation.rounds)


def _check_request(request: AskedFor, federation: FederationSettings) -> None:
    client = request.client
    if isinstance(client, str) and client not in RULES:
        raise SettingsError(f"client = {client!r}: expected a number, {' or '.join(map(repr, RULES))}.")
    if isinstance(samples := request.samples, str):
        parse_rule(samples)
        if request.classes is not None:
            raise SettingsError("a request names classes or samples, not both; leave one of them out.")
    if isinstance(client, int) and client >= federation.clients:
        raise SettingsError(f"there is no client {client}; the clients are 0 to {federation.clients - 1}.")
    if request.then:
        raise SettingsError("a request under `then` has requests of its own that follow; put them into one list.")


def _check_tuning(experiment: Experiment, tuning: Tuning, named: set[str]) -> None:
    if shared := set(tuning.seeds) & set(experiment.seeds):
        raise SettingsError(f"the seed {min(shared)} is for tuning and for results; what is tuned on shows nothing.")
    if unknown := set(tuning.space) - named:
        raise SettingsError(f"tuning.space.{min(unknown)}: there is no such method here; known: {', '.join(named)}.")


def _filled(values: Mapping[str, Any], client: object) -> dict[str, Any]:
    """The values with `client` for "{client}" in every text, those in tables within included."""
    filled: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            value = _filled(value, client)
        filled[name] = value.replace(CHOSEN, str(client)) if isinstance(value, str) else value
    return filled
