"""Benchmarks: one TOML file is a question; the answer is a table with mean and spread, and how it came about."""

from __future__ import annotations

import json
import multiprocessing
import tomllib
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedunlearn.config import FederationSettings, UnlearnSettings, make_settings
from fedunlearn.errors import SettingsError
from fedunlearn.files import atomic_write_json, read_json
from fedunlearn.progress import OnProgress, Progress

KEYS = {
    "name", "question", "seeds", "federation", "request", "method", "controls", "cells", "rounds_after", "pooled_audit"
}  # fmt: skip


@dataclass(frozen=True)
class Experiment:
    """What an experiment file says.

    Attributes:
        name: of the experiment; question: what it asks, in a sentence.
        seeds: one run each.
        federation: settings of the federation, seed apart.
        request: `client`, `classes`, `samples` as for a deletion request; `client` may be a rule of
            `choose_client`, and "{client}" in the plants of `federation` then stands for the one that it chose.
        method: settings of the method under test.
        controls: table name -> settings of what is shown beside it.
        cells: further variations, each with `name` and changes to `federation` and `request`.
        rounds_after: ordinary rounds after which the models are measured once more.
        pooled_audit: also linear probe and relearning time.
    """

    name: str
    question: str
    seeds: tuple[int, ...]
    federation: Mapping[str, Any]
    request: Mapping[str, Any]
    method: Mapping[str, Any] = field(default_factory=dict)
    controls: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cells: tuple[Mapping[str, Any], ...] = ({"name": ""},)
    rounds_after: int = 0
    pooled_audit: bool = False


def read_experiment(path: Path | str) -> Experiment:
    """Read an experiment file. Raises SettingsError with what is wrong in it."""
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"there is no experiment file {path}.") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.") from error
    unknown = sorted(set(content) - KEYS)
    if unknown:
        raise SettingsError(f"{path}: there is no key {unknown[0]!r}; known: {', '.join(sorted(KEYS))}.")
    lacking = sorted({"name", "federation", "request"} - set(content))
    if lacking:
        raise SettingsError(f"{path}: the key {lacking[0]!r} is missing.")
    content.setdefault("question", "")
    content["seeds"] = tuple(content.get("seeds", (0,)))
    content["cells"] = tuple(content.get("cells", ({"name": ""},)))
    experiment = Experiment(**content)
    for cell in experiment.cells:
        values = {**experiment.federation, **cell.get("federation", {}), "seed": 0}
        make_settings(FederationSettings, values)
    for settings in (experiment.method, *experiment.controls.values()):
        make_settings(UnlearnSettings, settings)
    return experiment


def benchmark(
    experiment: Path | str,
    out: Path | str,
    on_progress: OnProgress | None = None,
    processes: int | None = None,
) -> dict[str, Any]:
    """Run every cell of an experiment and write the tables; finished cells are not run again.

    Args:
        experiment: the TOML file.
        out: folder of the results: `cells/*.json`, `runs/*`, and the tables.
        processes: cells at a time; None: one a core.

    Returns:
        The aggregated results, as `results.json` holds them.
    """
    from fedunlearn.reports.benchmark import write_benchmark

    plan, out = read_experiment(experiment), Path(out)
    todo = [(cell, seed) for cell in plan.cells for seed in plan.seeds]
    lacking = [(cell, seed) for cell, seed in todo if not _cell_file(out, cell, seed).is_file()]
    done = len(todo) - len(lacking)
    count = min(processes or multiprocessing.cpu_count(), max(1, len(lacking)))
    # Fresh interpreters: a forked one would inherit threads that do not survive the fork.
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(run_cell, plan, cell, seed, out): (cell, seed) for cell, seed in lacking}
        for finished in as_completed(running):
            finished.result()
            cell, seed = running[finished]
            done += 1
            if on_progress is not None:
                on_progress(Progress("benchmark", done, len(todo), f"{cell['name']} seed {seed}".strip()))
    documents = [{"cell": cell["name"], "seed": seed, **read_json(_cell_file(out, cell, seed))} for cell, seed in todo]
    return write_benchmark(plan.name, plan.question, documents, out)


def run_cell(plan: Experiment, cell: Mapping[str, Any], seed: int, out: Path) -> None:
    """One federation: train, ask, unlearn, compare; its document is written when all of it is done."""
    from fedunlearn.federation import Federation

    settings = {**plan.federation, **cell.get("federation", {}), "seed": seed}
    request_for = {**plan.request, **cell.get("request", {})}
    if isinstance(request_for.get("client"), str):
        client = choose_client(request_for["client"], settings)
        request_for["client"] = client
        for plant in ("backdoor", "canaries"):
            if plant in settings:
                settings[plant] = settings[plant].replace("{client}", str(client))
    task = settings.pop("task", "mnist5k")
    federation = Federation.simulate(task, out=out / "runs" / _cell_name(cell, seed), **settings)
    federation.train()
    request = federation.request_deletion(**request_for)
    method = make_settings(UnlearnSettings, plan.method)
    federation.unlearn_with(request, method)
    controls = {name: make_settings(UnlearnSettings, values) for name, values in plan.controls.items()}
    comparison = federation.compare(
        request, rounds_after=plan.rounds_after, controls=controls, pooled=plan.pooled_audit
    )
    atomic_write_json(_cell_file(out, cell, seed), json.loads(json.dumps(comparison.document)))


def choose_client(rule: str, settings: Mapping[str, Any]) -> int:
    """The client that a rule picks from the partition alone, before anything is trained.

    Args:
        rule: "largest" (most samples), or "half-of-two-classes" (of the clients that hold at least half of all
            samples of each of two classes or more, the one with the most samples).

    Raises:
        SettingsError: no such rule, or no client that it fits.
    """
    from fedunlearn.data.holding import holding
    from fedunlearn.tasks import get_task

    plain = {name: value for name, value in settings.items() if name not in ("backdoor", "canaries")}
    federation = make_settings(FederationSettings, plain)
    dataset = get_task(federation.task).dataset(federation.seed)
    total = dataset.train.labels.bincount(minlength=len(dataset.classes)).tolist()
    sizes = {}
    for client in range(federation.clients):
        own = holding(federation, client, dataset)
        most = sum(count >= total[label] / 2 for label, count in own.classes_held().items())
        if rule == "largest" or (rule == "half-of-two-classes" and most >= 2):
            sizes[client] = len(own.samples)
    if rule not in ("largest", "half-of-two-classes"):
        raise SettingsError(f"client = {rule!r}: expected a number, 'largest' or 'half-of-two-classes'.")
    if not sizes:
        raise SettingsError(f"no client fits {rule!r} with partition {federation.partition!r}; choose another seed.")
    return max(sizes, key=lambda client: (sizes[client], -client))


def _cell_name(cell: Mapping[str, Any], seed: int) -> str:
    return "-".join(part for part in (str(cell["name"]), f"seed{seed}") if part)


def _cell_file(out: Path, cell: Mapping[str, Any], seed: int) -> Path:
    return out / "cells" / f"{_cell_name(cell, seed)}.json"
