"""One cell of a benchmark with one seed: a federation that is trained, asked and compared, and its documents."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedunlearn.config import EXECUTION, FederationSettings
from fedunlearn.errors import SettingsError
from fedunlearn.experiment import RULES, AskedFor, Run
from fedunlearn.files import atomic_write_json, read_json

if TYPE_CHECKING:
    from fedunlearn.federation import Federation
    from fedunlearn.server.comparing import Before

STARTED_ANEW = frozenset({"retrained", "retrained-same-budget"})
"""Models of a comparison that go on from none before them."""
_DEFAULTS = FederationSettings().model_dump(mode="json", exclude=set(EXECUTION))


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
        if not is_there(run, out, step):
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
            atomic_write_json(file_of(run, out, step), clean(document))
        before = _and_then(before, filed, read_json(file_of(run, out, step)))


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


def file_of(run: Run, out: Path, step: int = 0) -> Path:
    """Where the document of one of its requests is, counted from 0."""
    name = "-".join(part for part in (run.steps[step], f"seed{run.seed}") if part)
    return out / ("tuning" if run.trying else "cells") / f"{name}.json"


def is_finished(run: Run, out: Path) -> bool:
    """Whether all of its documents are there, as `is_there` says."""
    return all(is_there(run, out, step) for step in range(len(run.steps)))


def is_there(run: Run, out: Path, step: int) -> bool:
    """Whether a document is there with all that is asked for; more models than before are only added.

    Raises:
        SettingsError: it is there for another federation, request or method; or other models are asked of one request
            of several.
    """
    if not file_of(run, out, step).is_file():
        return False
    found, wanted = read_json(file_of(run, out, step)).get("asked"), run.asked()
    if found is not None:
        # A setting that there was not when it was made had its default.
        found = {**found, "federation": {**_DEFAULTS, **found["federation"]}}
    # In a contest the method that serves is nobody's: with another budget it is another one, on the same federation.
    for part in ("federation", "request") if run.is_contest else ("federation", "request", "method"):
        if found is not None and found[part] != wanted[part]:
            raise SettingsError(
                f"{file_of(run, out, step)} was made with another {part} ({found[part]} there, {wanted[part]} asked); "
                "choose another folder."
            )
    same = found is None or found == wanted
    if not same and len(run.steps) > 1:
        # What is added now would be trained without what was asked for after this request.
        raise SettingsError(
            f"{file_of(run, out, step)} is of one request of several, to which no model can be added later; choose "
            "another folder."
        )
    return same


def place_of(run: Run, step: int) -> dict[str, Any]:
    """Where a document stands among those of requests that came one after another."""
    return {"step": {"of": run.cell.name, "number": step + 1}} if len(run.steps) > 1 else {}
