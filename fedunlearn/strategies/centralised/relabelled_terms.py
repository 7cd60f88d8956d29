"""Continual-learning baselines turned to forgetting: wrong labels for the forget set, and a term that keeps the rest.

As the GS-LoRA papers (arXiv 2403.11530, 2501.09705) run them: one round trains on both kinds of samples at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.strategies.aggregation import average
from fedunlearn.strategies.by_role import AverageWithTarget
from fedunlearn.strategies.centralised.random_label import relabelled, send_with_seed
from fedunlearn.strategies.method import Phase, Reply, Work
from fedunlearn.strategies.passes import ByPosition, train_by_position
from fedunlearn.strategies.recovery import local_recipe
from fedunlearn.tasks.training import modes_kept

SOURCE = (
    "as a baseline of Zhao et al. 2024, arXiv 2403.11530; reconstruction: FedAvg over relabelled and retained samples, "
    "each where it is, in one pass"
)


def relabelled_rounds(settings: UnlearnSettings, compute: Callable[[Work], Reply]) -> Sequence[Phase]:
    """`settings.rounds` joint rounds; the first cannot do without a target."""
    first = Phase("train.joint", "all", send_with_seed, compute, AverageWithTarget())
    later = Phase("train.joint", "all", send_with_seed, compute, average)
    return [first, *[later] * (settings.rounds - 1)]


def train_relabelled(work: Work, keep: ByPosition, penalty: Callable[[nn.Module], Tensor] | None = None) -> Reply:
    """Train on the forget set under wrong labels, drawn once, and on the retained samples.

    Args:
        keep: losses of retained samples, by their positions among them.
        penalty: of the weights alone, added to the loss of every sample; None: none.
    """
    forget = relabelled(work)
    split = len(forget)

    def on_forgotten(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return work.task.loss(model, inputs, forget.labels[positions])

    def on_retained(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return keep(model, inputs, positions - split)

    def losses(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        found = inputs.new_zeros(len(positions))
        asked = positions < split
        for part, loss in ((asked, on_forgotten), (~asked, on_retained)):
            if bool(part.any()):
                with modes_kept(work.model):
                    if int(part.sum()) == 1:
                        # The variance of a single sample is undefined: normalisation takes the stored one.
                        work.model.eval()
                    found[part] = loss(model, inputs[part], positions[part])
        return found if penalty is None else found + penalty(model)

    samples = Samples.concat([forget, work.retain])
    return train_by_position(work, samples, losses, local_recipe(work.training, work.settings))


def model_at_base(work: Work) -> nn.Module:
    """A copy of the network as the request found it."""
    before = copy.deepcopy(work.model)
    before.load_state_dict(dict(work.base))
    return before
