"""What an audit describes beside its verdict: every metric of its tier, on original, unlearned and retrained models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flwr.serverapp import Grid

from fedunlearn.audit.metric import Tier, Value, measurable
from fedunlearn.server.judging import Case
from fedunlearn.server.measuring import Audited, measure_each
from fedunlearn.server.session import Session
from fedunlearn.strategies.roster import Roster

ORIGINAL, UNLEARNED, RETRAINED = "original", "unlearned", "retrained"


def describe(
    grid: Grid,
    session: Session,
    roster: Roster,
    case: Case,
    unlearned: str,
    band: Sequence[str],
    tier: Tier,
    shadows: Sequence[str] = (),
) -> dict[str, Any]:
    """Name of each value -> original, unlearned, retrained (one a model of the band), and why it was refused.

    With three retrained models and more each of them is measured too, as if it were the audited one: all have the same
    number of reference models, and one more retrained model to be compared with, and none has itself among them. An
    audit of the tier "quick" measures no retrained model.

    Args:
        shadows: digests of other originals that were unlearned in the same way.
    """
    load = session.models.load
    original = load(case.original)
    retrained = [load(digest) for digest in band] if tier != "quick" else []
    alone = max(0, len(retrained) - 2)
    others = [load(digest) for digest in shadows]
    audited = {
        label: Audited(
            load(digest),
            retrained[:alone],
            original,
            retrained[alone] if len(retrained) > alone else None,
            shadows=others,
        )
        for label, digest in ((ORIGINAL, case.original), (UNLEARNED, unlearned))
    }
    for number, model in enumerate(retrained if alone else ()):
        rest = retrained[:number] + retrained[number + 1 :]
        audited[f"{RETRAINED}-{number}"] = Audited(model, rest[:alone], original, rest[alone], shadows=others)
    seed = session.settings.seed
    found = measure_each(
        grid, roster, session, case.job, audited, measurable(tier), seed, case.classes or (), base=original
    )
    return {name: _row(name, found, len(audited) - 2) for name in sorted(found[UNLEARNED])}


def _row(name: str, found: dict[str, dict[str, Value]], models: int) -> dict[str, Any]:
    value = found[UNLEARNED][name]
    return {
        ORIGINAL: found[ORIGINAL][name].value,
        UNLEARNED: value.value,
        RETRAINED: [found[f"{RETRAINED}-{number}"][name].value for number in range(models)],
        "refused": value.refused,
    }
