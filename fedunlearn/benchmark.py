"""Benchmarks: one TOML file is a question; the answer is a table with mean and spread, and how it came about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedunlearn import errors
from fedunlearn.config import FederationSettings, make_settings
from fedunlearn.errors import FedunlearnError, SettingsError
from fedunlearn.experiment import RULES, Experiment, Run, read_experiment
from fedunlearn.files import atomic_write_json, make_folder, read_json
from fedunlearn.plugins import plugged_in
from fedunlearn.progress import OnProgress, Progress

Tell = Callable[[Run], None]
Failed = list[tuple[Run, FedunlearnError]]


def benchmark(
    experiment: Path | str,
    out: Path | str,
    on_progress: OnProgress | None = None,
    processes: int | None = None,
) -> dict[str, Any]:
    """Run every cell of an experiment with every seed and write the tables; finished runs are not run again.

    Args:
        experiment: the TOML file.
        out: folder of the results: `cells/*.json`, `runs/*`, and the tables.
        processes: runs at a time, 1 or more, 1: in this process; None: one a core.

    Returns:
        The aggregated results, as `results.json` holds them.

    Raises:
        SettingsError: the file is wrong, or `out` holds runs with other settings.
        FedunlearnError: runs that did not work; all others were finished first, and are kept.
    """
    from fedunlearn.engines.worker_pool import cores
    from fedunlearn.reports.benchmark import write_benchmark

    if processes is not None and processes < 1:
        raise SettingsError(f"processes = {processes}: expected 1 or more.")
    plan, out = read_experiment(experiment), make_folder(Path(out))
    make_folder(out / "cells")
    runs = [Run(plan, cell, seed) for cell in plan.cells for seed in plan.seeds]
    lacking = [run for run in runs if not _is_finished(run, out)]
    done = len(runs) - len(lacking)

    def tell(run: Run) -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(Progress("benchmark", done, len(runs), run.name))

    several = min(processes or cores(), len(lacking))
    failed = _in_processes(lacking, out, several, tell) if several > 1 else _one_by_one(lacking, out, tell)
    if failed:
        run, error = failed[0]
        raise type(error)(f"{len(failed)} of {len(runs)} runs did not work; {run.name}: {error}") from error
    documents = [{"cell": run.cell.name, "seed": run.seed, **read_json(_file(run, out))} for run in runs]
    return write_benchmark(plan.name, plan.question, documents, out)


def do(run: Run, out: Path) -> None:
    """One federation: train, ask, unlearn, compare; its document is written when all of it is done.

    Whatever its run folder holds already of this is gone on with.
    """
    from fedunlearn.data.holding import holding
    from fedunlearn.federation import Federation
    from fedunlearn.pooled_audit import mostly_held_classes
    from fedunlearn.reports.provenance import environment
    from fedunlearn.server.run_folder import RunFolder
    from fedunlearn.server.session import Session
    from fedunlearn.tasks import get_task

    made_in = environment()
    request = run.request()
    client = request.client
    if isinstance(client, str):
        client = choose_client(client, run.federation(0).model_copy(update={"backdoor": None, "canaries": None}))
    if client is not None:
        # A request that cannot be filed is found here, and not after hours of training.
        settings = run.federation(client)
        own = holding(settings, client, get_task(settings.task).dataset(settings.seed))
        own.select(classes=request.classes, samples=request.samples)
    federation = Federation.simulate(out=out / "runs" / run.name, **run.federation(client).model_dump())
    federation.train()
    filed = federation.request_deletion(client=client, classes=request.classes, samples=request.samples)
    federation.unlearn_with(filed, run.method(client))
    plan = run.experiment
    comparison = federation.compare(
        filed, rounds_after=plan.rounds_after, controls=run.controls(client), pooled=plan.pooled_audit
    )
    document = {**comparison.document, "asked": run.asked(), "environment": made_in}
    if request.classes is None:
        session = Session(RunFolder.open(federation.folder))
        document["mostly_held_classes"] = mostly_held_classes(session, [filed.id])
    atomic_write_json(_file(run, out), document)


def choose_client(rule: str, settings: FederationSettings) -> int:
    """The client that a rule picks from the partition alone, before anything is trained.

    Args:
        rule: one of `RULES`.
        settings: without back-door and canaries.

    Raises:
        SettingsError: no such rule, or no client that it fits.
    """
    from fedunlearn.data.holding import holding
    from fedunlearn.tasks import get_task

    if rule not in RULES:
        raise SettingsError(f"client = {rule!r}: expected a number, {' or '.join(map(repr, RULES))}.")
    dataset = get_task(settings.task).dataset(settings.seed)
    total = dataset.train.labels.bincount(minlength=len(dataset.classes)).tolist()
    sizes = {}
    for client in range(settings.clients):
        own = holding(settings, client, dataset)
        most = sum(count >= total[label] / 2 for label, count in own.classes_held().items())
        if rule == "largest" or most >= 2:
            sizes[client] = len(own.samples)
    if not sizes:
        raise SettingsError(f"no client fits {rule!r} with partition {settings.partition!r}; choose another seed.")
    return max(sizes, key=lambda client: (sizes[client], -client))


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
        do(Run(experiment, experiment.cells[job["cell"]], job["seed"]), Path(job["out"]))
    except FedunlearnError as error:
        return {"error": type(error).__name__, "sentence": str(error)}
    return {}


def _file(run: Run, out: Path) -> Path:
    return out / "cells" / f"{run.name}.json"


def _is_finished(run: Run, out: Path) -> bool:
    """Whether its document is there with all that is asked for; more models than before are only added.

    Raises:
        SettingsError: it is there for another federation, request or method.
    """
    if not _file(run, out).is_file():
        return False
    found, wanted = read_json(_file(run, out)).get("asked"), run.asked()
    for part in ("federation", "request", "method"):
        if found is not None and found[part] != wanted[part]:
            raise SettingsError(
                f"{_file(run, out)} was made with another {part} ({found[part]} there, {wanted[part]} asked); "
                "choose another folder."
            )
    return found is None or found == wanted
