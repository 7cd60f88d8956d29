"""RMIA: robust membership inference with a few reference models (Zarifzadeh et al. 2024).

ratio(x) = p(x | audited model) / p(x), where p(x) = ((1 + a) mean p(x | references) + 1 - a) / 2, for no reference saw
x (the paper's offline form). Its score is the share of a population whose ratio is smaller. That share only rises
with the ratio, for members and unseen samples alike, so that the ratio itself gives the same AUC and true positive
rates; bins of its logarithm cross, and no population has to be shared.

The offset a is tuned where the membership is known: on the model before unlearning. That the forget set itself serves
for it, and the grid, are this project's *reconstruction*; it favours the attacker.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from fedunlearn.audit import score_attack
from fedunlearn.audit.margin import spread_edges
from fedunlearn.audit.membership import auc
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import ModelState, Subject
from fedunlearn.data.dataset import Samples

NAME = "rmia_auc"
OFFSETS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
EDGES = spread_edges(30.0, 0.001, 299)
LENGTH = len(EDGES) + 1
ROWS = 2 * len(OFFSETS)
"""One histogram for each offset in the model before unlearning, then one for each in the audited model."""


def log_ratios(own: Tensor, references: Tensor, offset: float) -> Tensor:
    """log of p(x | audited) / p(x), (N,).

    Args:
        own: log p_y in the audited model, (N,).
        references: log p_y in each reference model, M x N, M >= 1.
        offset: a, 0 to 1.
    """
    outside = (references.logsumexp(dim=0) - math.log(len(references))).exp()
    return own - (((1 + offset) * outside + (1 - offset)) / 2).log()


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """Histograms of the ratio's logarithm, row after row."""
    if subject.before is None:
        return {}
    start = generator.get_state()
    rows: list[Finding] = []
    for state in (subject.before, subject.model):
        for offset in OFFSETS:
            generator.set_state(start)  # the same held-out samples in every row
            rows.append(_row(subject, state, offset, generator))
    found = {name: [n for row in rows for n in row[name]] for name in rows[0] if name != "total"}  # type: ignore[union-attr]
    return {**found, "total": rows[0]["total"]} if "total" in rows[0] else found


def _row(subject: Subject, state: ModelState, offset: float, generator: torch.Generator) -> Finding:
    def score(samples: Samples) -> Tensor:
        references = torch.stack([_log_shares(subject, one, samples) for one in subject.references])
        return log_ratios(_log_shares(subject, state, samples), references, offset)

    return score_attack.measure(subject, score, EDGES, generator)


def _log_shares(subject: Subject, state: ModelState, samples: Samples) -> Tensor:
    log_shares = subject.evaluate(state, samples).logits.double().log_softmax(dim=1)
    return log_shares.gather(1, samples.labels[:, None]).squeeze(1)


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """AUC at the offset that tells most in the model before unlearning, and what belongs to it."""
    rows = []
    for row in range(ROWS):
        both = score_attack.sides(_only(gathered, row), LENGTH)
        if isinstance(both, str):
            why = Value.refusal(f"{NAME} {both}")
            return dict.fromkeys((*score_attack.value_names(NAME), f"{NAME}.offset"), why)
        rows.append(both)
    known = [auc(inside[::-1], outside[::-1]) or 0.0 for inside, outside in rows[: len(OFFSETS)]]
    best = known.index(max(known))
    values = score_attack.values_of(NAME, *rows[len(OFFSETS) + best])
    return {**values, f"{NAME}.offset": Value(OFFSETS[best])}


def _only(gathered: Gathered, row: int) -> Gathered:
    """The findings of one row."""
    start, end = row * LENGTH, (row + 1) * LENGTH
    target = {}
    for client, finding in gathered.target.items():
        part: dict[str, int | float | list[int]] = dict(finding)
        for name in ("members", "outside"):
            if name in part:
                part[name] = part[name][start:end]  # type: ignore[index]
        target[client] = part
    length = gathered.sizes.classes * LENGTH
    server = {"unseen": (gathered.server or {}).get("unseen", [])[row * length : (row + 1) * length]}  # type: ignore[index]
    return Gathered(gathered.sizes, target, server=server)
