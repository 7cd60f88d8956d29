"""Benchmarks: one TOML file is a question; the answer is a table with mean and spread, and how it came about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedunlearn import errors
from fedunlearn.benchmark_cell import choose_client, do, file_of, is_finished, place_of
from fedunlearn.config import make_settings
from fedunlearn.contest.tuning import Try, as_json, judged
from fedunlearn.errors import FedunlearnError, SettingsError
from fedunlearn.experiment import Experiment, Run, narrowed, read_experiment
from fedunlearn.files import make_folder, read_json
from fedunlearn.plugins import plugged_in
from fedunlearn.progress import OnProgress, Progress

__all__ = ["benchmark", "choose_client"]

Tell = Callable[[Run], None]
Failed = list[tuple[Run, FedunlearnError]]


def benchmark(
    experiment: Path | str,
    out: Path | str,
    on_progress: OnProgress | None = None,
    processes: int | None = None,
    seeds: Sequence[int] | None = None,
    methods: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Run every cell of an experiment with every seed and write the tables; finished runs are not run again.

    Where settings are to be tuned, the validation requests are run before all others.

    Args:
        experiment: the TOML file.
        out: folder of the results: `cells/*.json`, `tuning/*.json`, `runs/*`, and the tables.
        processes: runs at a time, 1 or more, 1: in this process; None: one a core.
        seeds, methods: only these of the experiment's; None: all.

    Returns:
        The aggregated results, as `results.json` holds them.

    Raises:
        SettingsError: the file is wrong, or `out` holds runs with other settings.
        FedunlearnError: runs that did not work; all others were finished first, and are kept.
    """
    from fedunlearn.reports.benchmark import write_benchmark

    if processes is not None and processes < 1:
        raise SettingsError(f"processes = {processes}: expected 1 or more.")
    plan, out = narrowed(read_experiment(experiment), seeds, methods), make_folder(Path(out))
    trials = _trials(plan)
    counted = _Counted(len(trials) + len(plan.cells) * len(plan.seeds), on_progress)
    tried = _tuned(plan, _finished(trials, out, counted, processes))
    found = {cell: {name: one.changes for name, several in own.items() for one in several if one.chosen}
             for cell, own in tried.items()}  # fmt: skip
    runs = [Run(plan, cell, seed, chosen=found.get(cell.name, {})) for cell in plan.cells for seed in plan.seeds]
    documents = _finished(runs, out, counted, processes)
    tuning = None
    if plan.tuning is not None:
        cells = {cell: as_json(own) for cell, own in tried.items()}
        tuning = {"tries": plan.tuning.tries, "seeds": list(plan.tuning.seeds), "cells": cells}
    return write_benchmark(plan.name, plan.question, documents, out, tuning=tuning)


def _trials(plan: Experiment) -> list[Run]:
    """Runs on validation requests; none where no method has more than one try."""
    if plan.tuning is None or all(len(several) == 1 for several in Run(plan, plan.cells[0], 0).tries().values()):
        return []
    return [Run(plan, cell, seed, trying=True) for cell in plan.cells for seed in plan.tuning.seeds]


def _tuned(plan: Experiment, documents: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[Try]]]:
    """Cell -> contender -> its tries; nothing where nothing is tuned."""
    if plan.tuning is None:
        return {}
    tries = Run(plan, plan.cells[0], 0).tries()
    return {
        cell.name: judged(tries, [one for one in documents if one["cell"] == cell.name], cell.name)
        for cell in plan.cells
    }


class _Counted:
    """Tells of finished runs, one after the other."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self._done, self._total, self._on_progress = 0, total, on_progress

    def skip(self, number: int) -> None:
        """So many were finished before."""
        self._done += number

    def tell(self, run: Run) -> None:
        """This one is finished."""
        self._done += 1
        if self._on_progress is not None:
            self._on_progress(Progress("benchmark", self._done, self._total, run.name))


def _finished(runs: Sequence[Run], out: Path, counted: _Counted, processes: int | None) -> list[dict[str, Any]]:
    """The runs' documents, those that lack being made. Raises FedunlearnError in the end when runs did not work."""
    from fedunlearn.engines.worker_pool import cores

    for run in runs:
        make_folder(file_of(run, out).parent)
    lacking = [run for run in runs if not is_finished(run, out)]
    counted.skip(len(runs) - len(lacking))
    several = min(processes or cores(), len(lacking))
    if several > 1:
        failed = _in_processes(lacking, out, several, counted.tell)
    else:
        failed = _one_by_one(lacking, out, counted.tell)
    if failed:
        run, error = failed[0]
        raise type(error)(f"{len(failed)} of {len(runs)} runs did not work; {run.name}: {error}") from error
    return [
        {"cell": cell, "seed": run.seed, **place_of(run, step), **read_json(file_of(run, out, step))}
        for run in runs
        for step, cell in enumerate(run.steps)
    ]


def _one_by_one(runs: Sequence[Run], out: Path, tell: Tell) -> Failed:
    failed: Failed = []
    for run in runs:
        try:
            do(run, out)
            tell(run)
        except FedunlearnError as error:
            failed.append((run, error))
    return failed


def _in_processes(runs: Sequence[Run], out: Path, processes: int, tell: Tell) -> Failed:
    jobs = [
        {
            "experiment": run.experiment.model_dump(mode="json"),
            "cell": run.experiment.cells.index(run.cell),
            "seed": run.seed,
            "trying": run.trying,
            "chosen": {name: dict(changes) for name, changes in run.chosen.items()},
            "out": str(out),
        }
        for run in runs
    ]

    def done(index: int, result: dict[str, str]) -> None:
        if not result:
            tell(runs[index])

    from fedunlearn.engines.mapping import map_jobs

    results = map_jobs("fedunlearn.benchmark:do_job", jobs, processes, done, plugged_in())
    return [
        (run, getattr(errors, result["error"], FedunlearnError)(result["sentence"]))
        for run, result in zip(runs, results, strict=True)
        if result
    ]


def do_job(job: Mapping[str, Any]) -> dict[str, str]:
    """`do` in a worker process: nothing, or the name and the sentence of the error."""
    experiment = make_settings(Experiment, job["experiment"])
    try:
        run = Run(experiment, experiment.cells[job["cell"]], job["seed"], job["trying"], job["chosen"])
        do(run, Path(job["out"]))
    except FedunlearnError as error:
        return {"error": type(error).__name__, "sentence": str(error)}
    return {}
