"""Benchmarks: one TOML file is a question; the answer is a table with mean and spread, and how it came about."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedunlearn import errors
from fedunlearn.config import EXECUTION, FederationSettings, make_settings
from fedunlearn.contest.tuning import Try, as_json, judged
from fedunlearn.errors import FedunlearnError, SettingsError
from fedunlearn.experiment import RULES, AskedFor, Experiment, Run, narrowed, read_experiment
from fedunlearn.files import atomic_write_json, make_folder, read_json
from fedunlearn.plugins import plugged_in
from fedunlearn.progress import OnProgress, Progress

if TYPE_CHECKING:
    from fedunlearn.federation import Federation
    from fedunlearn.server.comparing import Before

Tell = Callable[[Run], None]
Failed = list[tuple[Run, FedunlearnError]]
STARTED_ANEW = frozenset({"retrained", "retrained-same-budget"})
"""Models of a comparison that go on from none before them."""


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
    return [
        {"cell": cell, "seed": run.seed, **_place(run, step), **read_json(_file(run, out, step))}
        for run in runs
        for step, cell in enumerate(run.steps)
    ]


def _place(run: Run, step: int) -> dict[str, Any]:
    """Where a document stands among those of requests that came one after another."""
    return {"step": {"of": run.cell.name, "number": step + 1}} if len(run.steps) > 1 else {}


def do(run: Run, out: Path) -> None:
    """One federation: train, ask, unlearn, compare; its document is written when all of it is done.

    Of several requests, one after another, each has a document of its own, and is filed when the one before has it.
    Whatever its run folder holds already of this is gone on with.
    """
    from fedunlearn.data.holding import holding
    from fedunlearn.federation import Federation
    from fedunlearn.pooled_audit import mostly_held_classes
    from fedunlearn.reports.document import clean
    from fedunlearn.reports.provenance import environment
    from fedunlearn.server.run_folder import RunFolder
    from fedunlearn.server.session import Session
    from fedunlearn.tasks import get_task

    made_in, requests = environment(), run.request().in_order()
    clients = _clients_of(requests, run.federation(0).model_copy(update={"backdoor": None, "canaries": None}))
    settings = run.federation(clients[0])
    for request, client in zip(requests, clients, strict=True):
        if client is not None and not isinstance(request.samples, str):
            # A request that cannot be filed is found here, and not after hours of training.
            own = holding(settings, client, get_task(settings.task).dataset(settings.seed))
            own.select(classes=request.classes, samples=request.samples)
    kept = out / "runs" / (f"tuning-{run.name}" if run.trying else run.name)
    federation = Federation.simulate(out=kept, **settings.model_dump())
    federation.train()
    before: Before | None = None
    for step, (request, client) in enumerate(zip(requests, clients, strict=True)):
        filed = _file_requests(federation, client, request, before)
        if not _is_there(run, out, step):
            document = {
                **_compared(federation, run, clients[0], filed, before),
                "asked": run.asked(),
                "environment": made_in,
            }
            if all(one.classes is None for one in requests[: step + 1]):
                ids = [*(before.ids() if before else ()), *filed]
                session = Session(RunFolder.open(federation.folder))
                document["mostly_held_classes"] = mostly_held_classes(session, ids)
            # A model that diverged has losses that JSON cannot write.
            atomic_write_json(_file(run, out, step), clean(document))
        before = _and_then(before, filed, read_json(_file(run, out, step)))


def _compared(
    federation: Federation, run: Run, client: int | None, filed: Sequence[str], before: Before | None
) -> dict[str, Any]:
    """Serve what was filed, and put all that serve it side by side: the document of one step.

    Args:
        client: the one that was chosen first.

    Raises:
        SettingsError: the run was gone on with under another budget.
    """
    from fedunlearn.contest.race import race

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
        before=before,
    )
    served, wanted = comparison["method"]["settings"], run.method(client).model_dump(mode="json")
    if run.is_contest and any(served[name] != setting for name, setting in wanted.items()):
        folder = federation.folder
        raise SettingsError(
            f"{folder} was gone on with under another budget since; choose another folder for this one."
        )
    return {**comparison, **more}


def _and_then(before: Before | None, filed: Sequence[str], document: Mapping[str, Any]) -> Before:
    """What the next request comes after, by the document of the one that was served."""
    from fedunlearn.server.comparing import Before

    anew = STARTED_ANEW.union(document.get("band", ()))
    models = {name: str(entry["digest"]) for name, entry in document["models"].items() if name not in anew}
    return Before((*(before.requests if before else ()), tuple(filed)), models)


def _clients_of(requests: Sequence[AskedFor], settings: FederationSettings) -> list[int | None]:
    """The client of each request, those that a rule names chosen among clients that no earlier request is of.

    Args:
        settings: without back-door and canaries.
    """
    found: list[int | None] = []
    for request in requests:
        client = request.client
        if isinstance(client, str):
            client = choose_client(client, settings, [one for one in found if one is not None])
        found.append(client)
    return found


def _file_requests(federation: Federation, client: int | None, request: AskedFor, before: Before | None) -> list[str]:
    """Ids of what was asked for; samples that a rule names are asked for by each client that holds some.

    What has been filed already is not filed again, and has the ids that it had.
    """
    from fedunlearn.contest.forget_set import chosen_samples
    from fedunlearn.pooled_audit import filed_positions
    from fedunlearn.server.run_folder import RunFolder
    from fedunlearn.server.session import Session

    if not isinstance(request.samples, str):
        filed = federation.request_deletion(client=client, classes=request.classes, samples=request.samples)
        return [filed.id]
    session = Session(RunFolder.open(federation.folder))
    clients, earlier = range(federation.settings.clients), before.ids() if before else []
    named = {one: filed_positions(session, earlier, one).tolist() for one in clients} if earlier else {}
    chosen = chosen_samples(session, request.samples, client, named)
    return [federation.request_deletion(client=one, samples=some).id for one, some in chosen.items()]


def choose_client(rule: str, settings: FederationSettings, besides: Collection[int] = ()) -> int:
    """The client that a rule picks from the partition alone, before anything is trained.

    Args:
        rule: one of `RULES`.
        settings: without back-door and canaries.
        besides: clients that are not picked.

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
        if client in besides:
            continue
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


def _file(run: Run, out: Path, step: int = 0) -> Path:
    """Where the document of one of its requests is, counted from 0."""
    name = "-".join(part for part in (run.steps[step], f"seed{run.seed}") if part)
    return out / ("tuning" if run.trying else "cells") / f"{name}.json"


def _is_finished(run: Run, out: Path) -> bool:
    """Whether all of its documents are there, as `_is_there` says."""
    return all(_is_there(run, out, step) for step in range(len(run.steps)))


def _is_there(run: Run, out: Path, step: int) -> bool:
    """Whether a document is there with all that is asked for; more models than before are only added.

    Raises:
        SettingsError: it is there for another federation, request or method; or other models are asked of one request
            of several.
    """
    if not _file(run, out, step).is_file():
        return False
    found, wanted = read_json(_file(run, out, step)).get("asked"), run.asked()
    if found is not None:
        # A setting that there was not when it was made had its default.
        found = {**found, "federation": {**_DEFAULTS, **found["federation"]}}
    # In a contest the method that serves is nobody's: with another budget it is another one, on the same federation.
    for part in ("federation", "request") if run.is_contest else ("federation", "request", "method"):
        if found is not None and found[part] != wanted[part]:
            raise SettingsError(
                f"{_file(run, out, step)} was made with another {part} ({found[part]} there, {wanted[part]} asked); "
                "choose another folder."
            )
    same = found is None or found == wanted
    if not same and len(run.steps) > 1:
        # What is added now would be trained without what was asked for after this request.
        raise SettingsError(
            f"{_file(run, out, step)} is of one request of several, to which no model can be added later; choose "
            "another folder."
        )
    return same


_DEFAULTS = FederationSettings().model_dump(mode="json", exclude=set(EXECUTION))
