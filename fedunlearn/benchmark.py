"""Benchmarks: one TOML file is a question; the answer is a table with mean and spread, and how it came about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedunlearn import errors
from fedunlearn.config import EXECUTION, FederationSettings, make_settings
from fedunlearn.contest.tuning import Try, as_json, judged
from fedunlearn.errors import FedunlearnError, SettingsError
from fedunlearn.experiment import RULES, AskedFor, Experiment, Run, read_experiment
from fedunlearn.files import atomic_write_json, make_folder, read_json
from fedunlearn.plugins import plugged_in
from fedunlearn.progress import OnProgress, Progress

if TYPE_CHECKING:
    from fedunlearn.federation import Federation

Tell = Callable[[Run], None]
Failed = list[tuple[Run, FedunlearnError]]


def benchmark(
    experiment: Path | str,
    out: Path | str,
    on_progress: OnProgress | None = None,
    processes: int | None = None,
) -> dict[str, Any]:
    """Run every cell of an experiment with every seed and write the tables; finished runs are not run again.

    Where settings are to be tuned, the validation requests are run before all others.

    Args:
        experiment: the TOML file.
        out: folder of the results: `cells/*.json`, `tuning/*.json`, `runs/*`, and the tables.
        processes: runs at a time, 1 or more, 1: in this process; None: one a core.

    Returns:
        The aggregated results, as `results.json` holds them.

    Raises:
        SettingsError: the file is wrong, or `out` holds runs with other settings.
        FedunlearnError: runs that did not work; all others were finished first, and are kept.
    """
    from fedunlearn.reports.benchmark import write_benchmark

    if processes is not None and processes < 1:
        raise SettingsError(f"processes = {processes}: expected 1 or more.")
    plan, out = read_experiment(experiment), make_folder(Path(out))
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
        make_folder(_file(run, out).parent)
    lacking = [run for run in runs if not _is_finished(run, out)]
    counted.skip(len(runs) - len(lacking))
    several = min(processes or cores(), len(lacking))
    if several > 1:
        failed = _in_processes(lacking, out, several, counted.tell)
    else:
        failed = _one_by_one(lacking, out, counted.tell)
    if failed:
        run, error = failed[0]
        raise type(error)(f"{len(failed)} of {len(runs)} runs did not work; {run.name}: {error}") from error
    return [{"cell": run.cell.name, "seed": run.seed, **read_json(_file(run, out))} for run in runs]


def do(run: Run, out: Path) -> None:
    """One federation: train, ask, unlearn, compare; its document is written when all of it is done.

    Whatever its run folder holds already of this is gone on with.
    """
    from fedunlearn.contest.race import race
    from fedunlearn.data.holding import holding
    from fedunlearn.federation import Federation
    from fedunlearn.pooled_audit import mostly_held_classes
    from fedunlearn.reports.document import clean
    from fedunlearn.reports.provenance import environment
    from fedunlearn.server.run_folder import RunFolder
    from fedunlearn.server.session import Session
    from fedunlearn.tasks import get_task

    made_in = environment()
    request = run.request()
    client = request.client
    if isinstance(client, str):
        client = choose_client(client, run.federation(0).model_copy(update={"backdoor": None, "canaries": None}))
    if client is not None and not isinstance(request.samples, str):
        # A request that cannot be filed is found here, and not after hours of training.
        settings = run.federation(client)
        own = holding(settings, client, get_task(settings.task).dataset(settings.seed))
        own.select(classes=request.classes, samples=request.samples)
    kept = out / "runs" / (f"tuning-{run.name}" if run.trying else run.name)
    federation = Federation.simulate(out=kept, **run.federation(client).model_dump())
    federation.train()
    filed = _file_requests(federation, client, request)
    federation.unlearn_with(filed, run.method(client), together=True)
    plan = run.experiment
    comparison, more = race(
        federation,
        filed,
        run.contenders(client),
        plan.budget,
        run.band,
        rounds_after=0 if run.trying else plan.rounds_after,
        controls=run.controls(client),
        pooled=plan.pooled_audit and not run.trying,
        without=("unlearned",) if run.is_contest else (),
    )
    served, wanted = comparison["method"]["settings"], run.method(client).model_dump(mode="json")
    if run.is_contest and any(served[name] != setting for name, setting in wanted.items()):
        raise SettingsError(f"{kept} was gone on with under another budget since; choose another folder for this one.")
    document = {**comparison, **more, "asked": run.asked(), "environment": made_in}
    if request.classes is None:
        session = Session(RunFolder.open(federation.folder))
        document["mostly_held_classes"] = mostly_held_classes(session, filed)
    # A model that diverged has losses that JSON cannot write.
    atomic_write_json(_file(run, out), clean(document))


def _file_requests(federation: Federation, client: int | None, request: AskedFor) -> list[str]:
    """Ids of what was asked for; samples that a rule names are asked for by each client that holds some."""
    from fedunlearn.contest.forget_set import chosen_samples
    from fedunlearn.server.run_folder import RunFolder
    from fedunlearn.server.session import Session

    if not isinstance(request.samples, str):
        filed = federation.request_deletion(client=client, classes=request.classes, samples=request.samples)
        return [filed.id]
    session = Session(RunFolder.open(federation.folder))
    chosen = chosen_samples(session, request.samples, client)
    return [federation.request_deletion(client=one, samples=some).id for one, some in chosen.items()]


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


def _file(run: Run, out: Path) -> Path:
    return out / ("tuning" if run.trying else "cells") / f"{run.name}.json"


def _is_finished(run: Run, out: Path) -> bool:
    """Whether its document is there with all that is asked for; more models than before are only added.

    Raises:
        SettingsError: it is there for another federation, request or method.
    """
    if not _file(run, out).is_file():
        return False
    found, wanted = read_json(_file(run, out)).get("asked"), run.asked()
    if found is not None:
        # A setting that there was not when it was made had its default.
        found = {**found, "federation": {**_DEFAULTS, **found["federation"]}}
    # In a contest the method that serves is nobody's: with another budget it is another one, on the same federation.
    for part in ("federation", "request") if run.is_contest else ("federation", "request", "method"):
        if found is not None and found[part] != wanted[part]:
            raise SettingsError(
                f"{_file(run, out)} was made with another {part} ({found[part]} there, {wanted[part]} asked); "
                "choose another folder."
            )
    return found is None or found == wanted


_DEFAULTS = FederationSettings().model_dump(mode="json", exclude=set(EXECUTION))
