"""The figures of a comparison: every branch of a job measured on the same samples, with what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from flwr.serverapp import Grid

from fedunlearn.audit.operations import peak_memory_bytes
from fedunlearn.audit.resurfacing import resurfacing
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import RequestError
from fedunlearn.server.branches import (
    MAIN,
    BranchPlan,
    base_digest,
    classes_of,
    job_for,
    mask_of,
    original_rounds,
    other_methods,
    run_branch,
    unlearned_branch,
)
from fedunlearn.server.cost import Price
from fedunlearn.server.examiner import PARTS, Examiner
from fedunlearn.server.heads import share_head
from fedunlearn.server.history import history_of
from fedunlearn.server.image_figures import image_figures
from fedunlearn.server.ledger_tables import BranchRow, RequestRow
from fedunlearn.server.life_cycle import gather
from fedunlearn.server.lineage import lineage
from fedunlearn.server.remarks import remarks_of
from fedunlearn.server.session import Session
from fedunlearn.server.showing import have_pictures_made
from fedunlearn.strategies import methods
from fedunlearn.strategies.method import ModelState
from fedunlearn.strategies.roster import call_roll
from fedunlearn.strategies.serving import Job

RESURFACING = ("backdoor_success", "canary_exposure", "forgotten_classes_accuracy", "membership_auc")
"""Figures beside those of the forget set that may come back in further rounds."""
SHOWN = ("original", "unlearned", "retrained")
"""Models whose outputs are rendered side by side, where the task answers with images."""
TAKEN = 0.8
"""Back-door success or canary exposure of the original below this makes an experiment void."""


def compare(
    grid: Grid,
    session: Session,
    ids: Sequence[str],
    retrain: bool = True,
    rounds_after: int = 0,
    controls: Mapping[str, UnlearnSettings] | None = None,
    before: Before | None = None,
    method: str | None = None,
) -> dict[str, Any]:
    """Run what is lacking beside the unlearned model, measure all of them, and return the figures.

    Args:
        ids: the requests, as they were served.
        retrain: also retrain in full; otherwise a retrained model is shown only when it is there already.
        rounds_after: ordinary rounds after which unlearned and retrained are measured once more.
        controls: further branches, by the name that they get in the table.
        before: earlier requests, whose samples every figure then covers as well; None: there are none.
        method: whose unlearned model is compared; None: the last one's.

    Raises:
        RequestError: the requests have not been served, or not by this method.
    """
    ledger, settings, before = session.ledger, session.settings, before or Before()
    roster, _ = gather(grid, ledger, settings.timeout)
    job = job_for([ledger.request(id) for id in ids])
    rows = [ledger.request(id) for id in (*before.ids(), *ids)]
    measured = job_for(rows)
    unlearned = unlearned_branch(session, ids, method)
    budget = {"rounds": unlearned.settings["rounds"], "local_epochs": unlearned.settings["local_epochs"]}
    plans = {
        "fine-tuned": UnlearnSettings(method="fine-tune", **budget),
        "retrained-same-budget": UnlearnSettings(method="retrain", **budget),
    }
    rounds = original_rounds(session, job)
    if rounds:
        full = UnlearnSettings(method="retrain", rounds=rounds, local_epochs=settings.local_epochs)
        known = ledger.branch(BranchPlan("retrained", full).name(job, base_digest(session, job)))
        if retrain or (known is not None and known.state == "done"):
            plans = {"retrained": full, **plans}
    elif retrain:
        raise RequestError(
            "the original model was not trained here, so that there is no training to repeat; compare without "
            "retraining (--no-retrain)."
        )
    plans |= dict(controls or {})
    branches = {"unlearned": unlearned}
    for kind, plan in plans.items():
        branches[kind] = run_branch(grid, session, roster, job, BranchPlan(kind, plan, before.models.get(kind)))
    original = before.models.get("original") or base_digest(session, job)
    base = session.models.load(original)
    examiner = Examiner(session, grid, roster, base)
    classes = classes_of(rows)
    price = Price.of(session, base)
    models = {
        "original": {
            "digest": original,
            **examiner.in_full(base, measured, classes),
            "cost": price.of_rows(ledger.rounds(MAIN)[: original_rounds(session, job)], []),
        }
    }
    for kind, branch in branches.items():
        model = session.models.load(branch.head)
        history = kept_for(session, job, branch)
        cost = price.of_rows(ledger.rounds(branch.name), ledger.phases(branch.name), history)
        models[kind] = {"digest": branch.head, **examiner.in_full(model, measured, classes), "cost": cost}
    states = {kind: session.models.load(entry["digest"]) for kind, entry in models.items()}
    for kind, figures in image_figures(grid, session, roster, measured, states, base).items():
        models[kind]["images"] = figures
    # Whoever planted the back-door may not be concerned, or have gone before: then its absence is no failure.
    concerned = session.backdoor is not None and session.backdoor.client in measured.targets
    document = {
        "models": models,
        "rounds": {"original": _curve(session, MAIN, up_to=models["original"]["cost"]["rounds"])}
        | {kind: _curve(session, branch.name) for kind, branch in branches.items()},
        "after": None,
        "void": void_because(models["original"], concerned),
        "method": _method(session, unlearned, models["unlearned"]["cost"]["attribution_seconds"]),
        "peak_memory_bytes": peak_memory_bytes(),
    }
    shown = {one: session.models.load(models[one]["digest"]) for one in SHOWN if one in models}
    have_pictures_made(grid, session, roster, job, shown, base)
    if rounds_after:
        after = _continued(grid, session, job, measured, branches, rounds_after, classes)
        document["after"] = {
            "rounds": rounds_after,
            "models": after,
            "resurfacing": _resurfacing(models, after),
        }
    if "retrained" in branches and (further := _lacks_further(session, rows, branches["retrained"], unlearned)):
        document["retrained_without"] = further
    if before.requests:
        digests = {kind: str(shown["digest"]) for kind, shown in models.items()}
        document["deletions"] = [
            {"request": "+".join(several), "forget": _forgotten(session, examiner, several, digests)}
            for several in (*before.requests, ids)
        ]
    share_head(grid, session, roster)
    return document


def run_beside(
    grid: Grid, session: Session, ids: Sequence[str], name: str, settings: UnlearnSettings, start: str | None = None
) -> BranchRow:
    """Run one further branch of served requests, or return it when it has ended already.

    Args:
        start: digest of the model that it starts from; None: the one that the requests found.

    Raises:
        FedunlearnError: the method cannot serve them.
    """
    roster, _ = gather(grid, session.ledger, session.settings.timeout)
    job = job_for([session.ledger.request(id) for id in ids])
    return run_branch(grid, session, roster, job, BranchPlan(name, settings, start))


def kept_for(session: Session, job: Job, branch: BranchRow) -> set[str]:
    """Digests of all that was kept of the rounds of training, where the branch's method works from it."""
    if "stored-updates" not in methods.get(branch.settings["method"]).needs:
        return set()
    return history_of(session, job, original_rounds(session, job)).digests()


def void_because(original: Mapping[str, Any], with_backdoor: bool = True) -> str | None:
    """Why the experiment shows nothing, or None: a plant that did not take cannot be seen to be removed.

    Args:
        original: the original model's figures; its canary exposure is that of the request's own canaries.
        with_backdoor: whether the client with the back-door is among the targets.
    """
    figures = {"backdoor_success": "back-door success"} if with_backdoor else {}
    for figure, what in {**figures, "canary_exposure": "canary exposure"}.items():
        value = original[figure]
        if value is not None and value < TAKEN:
            return (
                f"this experiment is void: the original model's {what} is {value:.3f}, below {TAKEN}, so that its "
                "removal shows nothing; train longer or plant more before looking at any unlearning result."
            )
    return None


def _continued(
    grid: Grid,
    session: Session,
    job: Job,
    measured: Job,
    branches: Mapping[str, BranchRow],
    rounds: int,
    classes: tuple[int, ...] | None,
) -> dict[str, Any]:
    """Unlearned and retrained (and fine-tuned) after further ordinary rounds without the forget set."""
    roster = call_roll(grid, session.settings.timeout)
    settings = UnlearnSettings(method="fine-tune", rounds=rounds, local_epochs=session.settings.local_epochs)
    after = {}
    for kind in ("unlearned", "retrained", "fine-tuned"):
        if kind in branches:
            plan = BranchPlan(f"{kind}-continued", settings, start=branches[kind].head)
            branch = run_branch(grid, session, roster, job, plan)
            model: ModelState = session.models.load(branch.head)
            after[kind] = Examiner(session, grid, roster, model).in_full(model, measured, classes)
    return after


def _lacks_further(
    session: Session, rows: Sequence[RequestRow], retrained: BranchRow, unlearned: BranchRow
) -> list[str]:
    """Requests that came later, whose data the unlearned model had and the retrained one, made after them, had not."""
    line = lineage(session.ledger.entries())
    rounds = session.ledger.rounds(retrained.name)
    made = line.states[rounds[0].digest_after].step if rounds else 0
    others = {row.id for row in session.ledger.requests() if row.state != "refused"} - {row.id for row in rows}
    return sorted(id for id in others if line.arrivals[id] < made and line.descends(unlearned.head, id))


def _forgotten(
    session: Session, examiner: Examiner, ids: Sequence[str], digests: Mapping[str, str]
) -> dict[str, dict[str, Any] | None]:
    """Model -> accuracy, loss and count on what these requests alone made forgotten; None where it is withheld."""
    job = job_for([session.ledger.request(id) for id in ids])
    groups = {kind: examiner.on_forget_set(session.models.load(digest), job)["all"] for kind, digest in digests.items()}
    return {kind: None if group is None else group.summary() for kind, group in groups.items()}


def _resurfacing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What the further rounds brought back: figure -> change of unlearned and retrained model, and the excess."""

    def figures(models: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
        found = {}
        for kind in ("unlearned", "retrained"):
            if kind in models:
                parts = models[kind]["forget"]
                own = {
                    f"{part}_{what}": (parts[part] or {}).get(what) for part in parts for what in ("accuracy", "loss")
                }
                found[kind] = own | {name: models[kind][name] for name in RESURFACING}
        return found

    names = [f"{part}_{what}" for part in PARTS for what in ("accuracy", "loss")]
    changes = resurfacing(figures(before), figures(after), [*names, *RESURFACING])
    return {name: asdict(change) for name, change in changes.items() if change.unlearned is not None}


@dataclass(frozen=True)
class Before:
    """What requests that are served one after another have left behind when the next one is compared.

    Attributes:
        requests: those that were served before, in order; each entry is what was served together.
        models: name in the comparison -> digest of that model after the request before; under "original" the one before
            the first. A model that has none here starts from what the request found.
    """

    requests: Sequence[Sequence[str]] = ()
    models: Mapping[str, str] = field(default_factory=dict)

    def ids(self) -> list[str]:
        """All of the requests."""
        return [id for several in self.requests for id in several]


def _curve(session: Session, branch: str, up_to: int | None = None) -> list[dict[str, Any]]:
    """Figures after each round; those after a target's own step replace those of the round it belongs to."""
    steps = {p.result["phase"]: p.result for p in session.ledger.phases(branch) if "test_accuracy" in p.result}
    curve = []
    for row in session.ledger.rounds(branch)[:up_to]:
        step = steps.get(row.metrics.get("phase", -2) + 1, {})
        curve.append({"round": row.number, **row.metrics, **step})
    return curve


def _method(session: Session, branch: BranchRow, attribution_seconds: float) -> dict[str, Any]:
    layout = session.architecture.layout
    mask = mask_of(session, branch)
    selected = None
    if mask is not None:
        chosen = {layer: len(channels) for layer, channels in mask.selected.items()}
        selected = {g.layer: f"{chosen.get(g.layer, 0)}/{g.channels}" for g in layout.groups}
    return {
        "name": branch.settings["method"],
        "settings": dict(branch.settings),
        "ratio": None if mask is None else mask.ratio(layout),
        "selected": selected,
        "attribution_seconds": attribution_seconds,
        "remarks": list(remarks_of(session, branch)),
        "others": other_methods(session, branch),
    }
