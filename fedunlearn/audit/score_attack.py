"""What every membership attack shares: scores are binned where the data is, and only the bins meet.

Members are the ordinary samples of a target's forget set; what was planted has measures of its own, and no unseen
sample is like it. Non-members are unseen samples in the forget set's proportions of classes: the target's own
held-out samples, and the server's test set. A score is the higher, the more the sample looks like training data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from fedunlearn.audit.counts import MINIMUM_SAMPLES, add
from fedunlearn.audit.membership import Histogram, auc, match_classes, two_sided
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import Subject
from fedunlearn.audit.tpr_at import FALSE_POSITIVE_RATES, tpr_at
from fedunlearn.data.dataset import Samples
from fedunlearn.data.planting import ORDINARY

Score = Callable[[Samples], Tensor]
"""One number a sample, (N,), the higher the more like a member."""


def score_bins(scores: Tensor, edges: Sequence[float]) -> list[int]:
    """How many scores fall below the first edge, into each [edge, next edge), and on the last edge or above.

    What is not a number counts as the lowest score.

    Args:
        scores: (N,).
        edges: ascending.
    """
    finite = scores.detach().cpu().double().nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    bins = torch.bucketize(finite, torch.tensor(edges, dtype=torch.float64), right=True)
    return torch.bincount(bins, minlength=len(edges) + 1).tolist()


def measure(subject: Subject, score: Score, edges: Sequence[float], generator: torch.Generator) -> Finding:
    """The histograms of one side: of members and own unseen samples (target), or of unseen ones a class (server).

    A target with fewer than 20 ordinary samples says nothing, one with fewer than 20 matching held-out samples
    nothing of these.
    """
    if subject.role == "server":
        scores, labels = score(subject.held_out), subject.held_out.labels
        return {"unseen": [n for k in range(subject.classes) for n in score_bins(scores[labels == k], edges)]}
    ordinary = torch.tensor(subject.parts == ORDINARY, dtype=torch.bool)
    labels = subject.forget.labels[ordinary]
    if len(labels) < MINIMUM_SAMPLES:
        return {}
    wanted = torch.bincount(labels, minlength=subject.classes).tolist()
    found: dict[str, int | float | list[int]] = {
        "members": score_bins(score(subject.forget)[ordinary], edges),
        "total": wanted,
    }
    outside = matching_positions(subject.held_out.labels, wanted, generator)
    if len(outside) >= MINIMUM_SAMPLES:
        found["outside"] = score_bins(score(subject.held_out)[outside], edges)
    return found


def matching_positions(labels: Tensor, wanted: Sequence[int], generator: torch.Generator) -> Tensor:
    """Sorted positions of the most samples that have the classes in the proportions `wanted`, each class rounded.

    Classes of which there is no sample are left out.

    Args:
        labels: int64, (N,).
        wanted: K counts.
    """
    there = torch.bincount(labels, minlength=len(wanted)).tolist()
    shares = [have / want for have, want in zip(there, wanted, strict=True) if want and have]
    if not shares:
        return torch.empty(0, dtype=torch.int64)
    chosen = []
    for label, want in enumerate(wanted):
        positions = (labels == label).nonzero().flatten()
        order = torch.randperm(len(positions), generator=generator)
        chosen.append(positions[order[: round(min(shares) * want)]])
    return torch.cat(chosen).sort().values


def nonmembers(gathered: Gathered, length: int, wanted: Sequence[int]) -> list[float] | None:
    """The unseen samples' histogram in the forget set's proportions of classes; None where there is none.

    Its sum is the number of unseen samples that this is worth: a class that is rare in the test set and frequent in
    the forget set counts with large weights, and many unequal weights say less than as many equal ones (Kish 1965).
    """
    flat = list((gathered.server or {}).get("unseen", ()))  # type: ignore[arg-type]
    by_class = [flat[start : start + length] for start in range(0, len(flat), length)]
    matched = match_classes(by_class, wanted) if by_class else None
    if matched is not None:
        known = [(want, sum(bins)) for want, bins in zip(wanted, by_class, strict=True) if want and sum(bins)]
        total = sum(want for want, _ in known)
        worth = total**2 / sum(want**2 / have for want, have in known)
        matched = [value * worth / total for value in matched]
    own = add({"h": finding["outside"]} for finding in gathered.target.values() if "outside" in finding)  # type: ignore[dict-item]
    parts = [part for part in (matched, own["h"] if own else None) if part is not None]
    return [float(sum(values)) for values in zip(*parts, strict=True)] if parts else None


def combine(name: str, gathered: Gathered, length: int) -> Mapping[str, Value]:
    """AUC, its two-sided form, TPR at three false positive rates, and how far binning can have moved the AUC.

    Args:
        name: of the metric; the AUC is called so, the others `name.…`.
        length: number of bins.
    """
    both = sides(gathered, length)
    if isinstance(both, str):
        return dict.fromkeys(value_names(name), Value.refusal(f"{name} {both}"))
    return values_of(name, *both)


def sides(gathered: Gathered, length: int) -> tuple[list[int], list[float]] | str:
    """Histograms of members and non-members; where there is no such, what is lacking: "needs …"."""
    findings = [finding for finding in gathered.target.values() if "members" in finding]
    inside = add({"h": finding["members"], "t": finding["total"]} for finding in findings)  # type: ignore[dict-item]
    if inside is None:
        return f"needs {MINIMUM_SAMPLES} ordinary samples in the forget set of a target; there are fewer."
    outside = nonmembers(gathered, length, inside["t"])
    if outside is None:
        return "needs unseen samples of the classes in the forget set; there are none."
    return inside["h"], outside


def values_of(name: str, inside: Histogram, outside: Histogram) -> dict[str, Value]:
    """The values of `combine` from two histograms of which the later bins look more like members."""
    # `auc` takes losses, of which the low ones look like members.
    area = auc(list(inside)[::-1], list(outside)[::-1])
    smaller = min(sum(inside), sum(outside))
    values = {
        name: Value.rate(area, smaller),
        f"{name}.two_sided": Value.rate(two_sided(area), smaller),
        f"{name}.binning": Value(binning_bound(inside, outside)),
    }
    for rate in FALSE_POSITIVE_RATES:
        values[f"{name}.tpr_at_{rate:g}"] = tpr_at(inside, outside, rate)
    return values


def binning_bound(inside: Histogram, outside: Histogram) -> float:
    """The most by which the AUC of the bins can differ from that of the scores themselves: 0 to 0.5.

    Binning makes ties, which count half; every tied pair may in truth have been won or lost.
    """
    pairs = sum(inside) * sum(outside)
    return 0.5 * sum(a * b for a, b in zip(inside, outside, strict=True)) / pairs if pairs else 0.5


def value_names(name: str) -> tuple[str, ...]:
    """Names of the values that `combine` gives."""
    return (name, f"{name}.two_sided", f"{name}.binning", *(f"{name}.tpr_at_{r:g}" for r in FALSE_POSITIVE_RATES))
