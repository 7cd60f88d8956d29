"""The difference attack: what do the models before and after give away together, to somebody who holds both?

After Chen et al. 2021 ("When Machine Unlearning Jeopardizes Privacy"), with the rise of a sample's loss as the whole
attack, where they train a classifier on both answers (*reconstruction*). A sample whose loss rose was forgotten.
Compare with the same attack on the retrained model in place of the unlearned one; an AUC far below the chance of 0.5
gives as much away as one far above.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedunlearn.audit import score_attack
from fedunlearn.audit.checks import same_length
from fedunlearn.audit.margin import spread_edges
from fedunlearn.audit.metric import Finding, Gathered, Value
from fedunlearn.audit.subject import Subject
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import DataError

NAME = "difference_attack"

RISE_EDGES = spread_edges(30.0, 0.003, 1199)
"""1200 bins of a rise in nats: 5e-5 wide at 0, 0.02 at 1, 0.08 at 5."""


def rises(before: Tensor, after: Tensor) -> Tensor:
    """Loss after less loss before of each sample, (N,), float64; a loss that is infinite twice did not rise."""
    same_length(losses_before=before, losses_after=after)
    difference = after.detach().cpu().double() - before.detach().cpu().double()
    return difference.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf)


def measure(subject: Subject, generator: torch.Generator) -> Finding:
    """Histograms of the rises: of the forget set and own unseen samples, or of unseen samples a class."""
    before = subject.before
    if before is None:
        raise DataError("the difference attack needs the model before unlearning; send it along.")

    def score(samples: Samples) -> Tensor:
        return rises(subject.evaluate(before, samples).losses, subject.evaluate(subject.model, samples).losses)

    return score_attack.measure(subject, score, RISE_EDGES, generator)


def combine(gathered: Gathered) -> Mapping[str, Value]:
    """AUC of the rise, and what belongs to it."""
    return score_attack.combine(NAME, gathered, len(RISE_EDGES) + 1)
