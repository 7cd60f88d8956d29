"""FedAU: heads that have learned to be wrong, ready before anybody asks; unlearning is a sum of two heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.channels.layout import Layout, evaluation_mode
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import ClientError
from fedunlearn.strategies.aggregation import average
from fedunlearn.strategies.controls import say_how_many
from fedunlearn.strategies.method import (
    ClientReply,
    Down,
    Need,
    Phase,
    Preparation,
    Reply,
    Scope,
    State,
    TrainingHook,
    Work,
    methods,
)
from fedunlearn.strategies.option import positive
from fedunlearn.strategies.passes import wrong_labels
from fedunlearn.strategies.recovery import send_packed
from fedunlearn.tasks.base import Task, with_classes

ALPHA = 0.9
"""Weight of the auxiliary head in the unlearned one."""
EPOCHS, RATE, BATCH = 3, 0.05, 32
"""A head's own training in every round."""
EVERYTHING, RIGHT = "everything", "right"
AUXILIARY = "auxiliary:"


def learn_heads(preparation: Preparation) -> dict[str, np.ndarray]:
    """The client's auxiliary heads, "HEAD/PARAMETER" -> float32, trained on the round's features.

    One that is right about all of its samples, one that is wrong about all, and one for each class that is wrong about
    that class alone; to be wrong is to answer a random other label. A class of fewer than 20 samples has none.
    """
    samples, generator = preparation.samples, preparation.generator
    if len(samples) < MINIMUM_SAMPLES:
        return {}
    inputs = preparation.task.inputs(samples.inputs)
    features = features_of(preparation.task, preparation.model, inputs, preparation.layout)
    wrong = wrong_labels(samples.labels, preparation.classes, generator)
    wanted = {RIGHT: samples.labels, EVERYTHING: wrong}
    counts = torch.bincount(samples.labels, minlength=preparation.classes)
    for label in (counts >= MINIMUM_SAMPLES).nonzero().flatten().tolist():
        wanted[str(label)] = torch.where(samples.labels == label, wrong, samples.labels)
    state = preparation.model.state_dict()
    start = {
        one: torch.stack([_known(preparation, name, one, state[one]) for name in wanted])
        for one in preparation.layout.output
    }
    learned = learn_together(start, features, torch.stack(list(wanted.values())), generator)
    return {
        f"{name}/{one}": tensor[number].numpy() for one, tensor in learned.items() for number, name in enumerate(wanted)
    }


def _known(preparation: Preparation, head: str, parameter: str, otherwise: Tensor) -> Tensor:
    known = preparation.prepared.get(f"{head}/{parameter}")
    return otherwise if known is None else torch.from_numpy(np.array(known))


def features_of(task: Task, model: nn.Module, inputs: Tensor, layout: Layout) -> Tensor:
    """What the output layer is given for these inputs, N x F; the model is left as it was."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(given[0].detach())

    handle = model.get_submodule(layout.output_layer).register_forward_pre_hook(keep)
    try:
        with torch.no_grad(), evaluation_mode(model):
            for start in range(0, len(inputs), 128):
                with_classes(task).predict(model, inputs[start : start + 128])
    finally:
        handle.remove()
    return torch.cat(seen)


def learn_together(
    start: Mapping[str, Tensor], features: Tensor, labels: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """H linear heads after three epochs of descent on the cross-entropy of the same fixed features.

    Args:
        start: their parameters, H x K x F or H x K.
        features: N x F.
        labels: what each head is to answer, H x N.
    """
    heads = {name: tensor.detach().clone().requires_grad_() for name, tensor in start.items()}
    optimizer = torch.optim.SGD(heads.values(), lr=RATE, momentum=0.9)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(features), generator=generator).split(BATCH):
            optimizer.zero_grad()
            logits = torch.zeros(())
            for tensor in heads.values():
                one = features[batch] @ tensor.transpose(1, 2) if tensor.dim() == 3 else tensor[:, None]
                logits = logits + one
            losses = nn.functional.cross_entropy(logits.transpose(1, 2), labels[:, batch], reduction="none")
            # Summed over heads, so that each learns as it would alone.
            losses.mean(dim=1).sum().backward()
            optimizer.step()
    return {name: tensor.detach() for name, tensor in heads.items()}


@dataclass(frozen=True)
class AuxiliaryHead:
    """(1 - alpha) W + alpha W_aux in closed form: no round, and nothing but the output layer crosses the network.

    W_aux is the clients' mean: the target's head is wrong about what goes, the remaining clients' are right. Option
    `alpha` (0.9).
    """

    name: str = "fedau"
    source: str = (
        "Gu et al. 2024, Unlearning during Learning (FedAU, IJCAI, arXiv 2405.15474): auxiliary module and linear "
        "operation; reconstruction: what the auxiliary heads are trained for, and that the remaining clients' are "
        "averaged in"
    )
    scopes: frozenset[Scope] = frozenset({"client", "classes", "class-everywhere"})
    needs: frozenset[Need] = frozenset({"target", "prepared-clients", "class-scores"})
    options: frozenset[str] = frozenset({"alpha"})
    training_hook: TrainingHook = field(default_factory=lambda: TrainingHook(prepare=learn_heads))

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """Three queries: a count, after which only the head moves; the target's heads; the others'."""
        alpha = positive(settings, "alpha", ALPHA, 1.0)

        def combine(state: State, replies: Sequence[ClientReply]) -> State:
            return _combine(state, replies, alpha)

        return [
            Phase("query.count", "remaining", lambda state: Down(), say_how_many, _head_only),
            Phase("query.importance", "target", send_packed, _wrong_head, _keep_head),
            Phase("query.importance", "remaining", send_packed, _right_head, combine),
        ]


def _head_only(state: State, replies: Sequence[ClientReply]) -> State:
    """The mask of no channel: its portion is the output layer."""
    return replace(state, mask=ChannelMask.empty(state.layout))


def _wrong_head(work: Work) -> Reply:
    return _reply(work, _wrong_about(work), len(work.forget))


def _right_head(work: Work) -> Reply:
    # A target that stays for its other samples is not right about those that go.
    return _reply(work, _wrong_about(work) if work.role == "target" else [RIGHT], len(work.retain))


def _wrong_about(work: Work) -> list[str]:
    """The heads that are wrong about the forgotten classes, or the one that is wrong about everything."""
    return [str(label) for label in work.forget.labels.unique().tolist()] if len(work.retain) else [EVERYTHING]


def _reply(work: Work, names: Sequence[str], examples: int) -> Reply:
    """The mean of these of the client's heads. Raises ClientError when it has none of them."""
    names = [name for name in names if f"{name}/{work.layout.output[0]}" in work.prepared]
    if not names:
        raise ClientError(
            f"this client has no auxiliary head for what is asked about, which takes {MINIMUM_SAMPLES} samples of it; "
            "use a method that needs nothing prepared, such as retrain."
        )
    head = {
        one: np.stack([work.prepared[f"{name}/{one}"] for name in names]).mean(axis=0, dtype=np.float32)
        for one in work.layout.output
    }
    return Reply(head, {"num-examples": examples})


def _keep_head(state: State, replies: Sequence[ClientReply]) -> State:
    mean = average(state, replies).packed()
    weight = sum(reply.metrics["num-examples"] for reply in replies)
    kept = {f"{AUXILIARY}{name}": array for name, array in mean.items()}
    return replace(state, arrays={**kept, f"{AUXILIARY}weight": np.array([weight], np.float32)})


def _combine(state: State, replies: Sequence[ClientReply], alpha: float) -> State:
    right, own = average(state, replies).packed(), state.packed()
    weights = [float(state.arrays[f"{AUXILIARY}weight"][0]), sum(reply.metrics["num-examples"] for reply in replies)]
    share = weights[0] / sum(weights)
    head = {}
    for name, array in own.items():
        auxiliary = share * state.arrays[f"{AUXILIARY}{name}"] + (1 - share) * right[name]
        head[name] = ((1 - alpha) * array + alpha * auxiliary).astype(array.dtype)
    return replace(state.with_packed(head), arrays={})


methods.register("fedau", AuxiliaryHead())
