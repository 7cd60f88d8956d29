"""Selective channels as its paper is most likely to be read: ablation, a ratio a layer, perturbation data.

After Xu et al. 2024, "Update Selective Parameters: Federated Machine Unlearning Based on Model Explanation"
(arXiv 2406.12516). Stated are channels, ablation, that only the channels found are fine-tuned, perturbation data, and
that there is a decentralised and a centralised variant; all formulas and numbers are *reconstruction*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedunlearn.audit.counts import MINIMUM_SAMPLES
from fedunlearn.channels.ablated_accuracy import accuracy_drops
from fedunlearn.channels.attribution import attribute
from fedunlearn.channels.selection import top_ratio
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import ClientError
from fedunlearn.strategies.aggregation import average, weighted_mean
from fedunlearn.strategies.estimate import Estimate, Facts
from fedunlearn.strategies.method import ClientReply, Down, Need, Phase, Reply, Scope, State, Work, methods
from fedunlearn.strategies.option import choice, number, whole
from fedunlearn.strategies.passes import wrong_labels
from fedunlearn.strategies.recovery import Recovery, local_recipe, send_packed
from fedunlearn.tasks.base import with_classes
from fedunlearn.tasks.local_training import LocalTraining
from fedunlearn.tasks.training import TrainingResult, evaluate, train_locally

RATIO = 0.1
"""Share of the channels of each layer, where the request names none."""
SAMPLES = 128
"""A holder ablates on at most this many samples of each kind."""
VARIANTS = ("decentralised", "centralised")
NOISE = 512
"""Noise images of the centralised variant, half of them for each of its two terms."""


@dataclass(frozen=True)
class SelectiveChannelsOfThePaper:
    """Ablation at the holders of the class, the union of each layer's top channels, then fine-tuning of those.

    Options: `variant` ("decentralised", or "centralised": one training on noise alone, and no round of the clients),
    `importance` ("loss": mean rise of the loss; "accuracy": drop of the accuracy), `specificity` (how much of the same
    measure on the holder's retained samples is subtracted; 1), `samples` (128), `noise` (512 images, centralised).
    The ratio of the request counts; "auto" is 0.1.
    """

    name: str = "selective-channels-paper"
    source: str = (
        "Xu et al. 2024, arXiv 2406.12516, as far as its words are known; reconstruction: importance, "
        "merging, ratio, wrong labels as perturbation, noise and distillation where the paper's server has data, "
        "computed by who asked because a server without images knows no input's shape; the "
        "output layer is trained with the channels"
    )
    scopes: frozenset[Scope] = frozenset({"classes", "class-everywhere"})
    needs: frozenset[Need] = frozenset({"target", "class-scores"})
    options: frozenset[str] = frozenset({"variant", "importance", "specificity", "samples", "noise"})

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """One query, then `settings.rounds` rounds; the centralised variant has a training of the target instead."""
        _check(settings)
        ablate = Phase("query.ablation", "target", lambda state: Down(), _importance, _select)
        if choice(settings, "variant", VARIANTS) == "centralised":
            return [ablate, Phase("train.forget", "target", send_packed, _train_on_noise, average)]
        return [ablate, *[Phase("train.recover", "all", send_packed, _train_perturbed, average)] * settings.rounds]

    def estimate(self, settings: UnlearnSettings, facts: Facts) -> Estimate:
        """The cost: ablation takes the holders two forward passes a channel, each a third of a pass of training."""
        ratio = RATIO if isinstance(settings.ratio, str) else settings.ratio
        share = max(ratio.values(), default=0.0) if isinstance(ratio, dict) else ratio
        central = choice(settings, "variant", VARIANTS) == "centralised"
        trained = facts.targets if central else facts.everybody * settings.rounds
        epochs = settings.local_epochs * (settings.rounds if central else 1)
        passes = trained * epochs + facts.targets * 2 / 3 * facts.channel_bytes / 4
        sent = trained * 2 * share * facts.model_bytes + facts.targets * facts.channel_bytes
        return Estimate(0 if central else settings.rounds, round(sent), passes * facts.seconds_per_epoch)


def _check(settings: UnlearnSettings) -> None:
    choice(settings, "importance", ("loss", "accuracy"))
    number(settings, "specificity", 1.0)
    whole(settings, "samples", SAMPLES, MINIMUM_SAMPLES)
    whole(settings, "noise", NOISE, 2)


def importance(work: Work, samples: Samples) -> dict[str, Tensor]:
    """How much worse the model is on `samples` without each channel, float32 one a channel, by layer."""
    inputs = work.task.inputs(samples.inputs)
    if choice(work.settings, "importance", ("loss", "accuracy")) == "accuracy":
        drops = accuracy_drops(work.model, with_classes(work.task).predict, inputs, samples.labels, work.layout)
        return {layer: one.float() for layer, one in drops.items()}
    return attribute(work.model, work.task.loss, [(inputs, samples.labels)], work.layout, "ablation")


def _importance(work: Work) -> Reply:
    """A holder's half of the localisation, over at least 20 samples of what is to go. Raises ClientError for fewer."""
    if len(work.forget) < MINIMUM_SAMPLES:
        raise ClientError(
            f"the client holds fewer than {MINIMUM_SAMPLES} samples of the class and withholds what its channels "
            "mean for them; the other holders' importance serves without it."
        )
    most = whole(work.settings, "samples", SAMPLES, MINIMUM_SAMPLES)
    own = importance(work, work.forget.some(most, work.generator))
    share = number(work.settings, "specificity", 1.0)
    if share and len(work.retain) >= MINIMUM_SAMPLES:
        others = importance(work, work.retain.some(most, work.generator))
        own = {layer: one - share * others[layer] for layer, one in own.items()}
    return Reply({layer: one.numpy() for layer, one in own.items()}, {"num-examples": len(work.forget)})


def _select(state: State, replies: Sequence[ClientReply]) -> State:
    """The holders' importance, weighted by their samples of the class, and each layer's share of highest values."""
    merged = weighted_mean([reply.arrays for reply in replies], [reply.metrics["num-examples"] for reply in replies])
    ratio = RATIO if isinstance(state.settings.ratio, str) else state.settings.ratio
    scores = {layer: torch.from_numpy(array) for layer, array in merged.items()}
    return replace(state, mask=top_ratio(scores, ratio, state.layout))


@dataclass(frozen=True)
class _PerturbedRecovery(Recovery):
    """Train on the retained samples, and on what is to go under wrong labels."""

    def training(self, work: Work) -> LocalTraining:
        """Retained samples and perturbation data together."""
        labels = wrong_labels(work.forget.labels, work.classes, work.generator)
        samples = Samples.concat([work.retain, Samples(work.forget.inputs, labels)])
        return super().training(work)._replace(samples=samples)

    def told(self, work: Work, result: TrainingResult) -> Reply:
        """The selected channels as they have become; weighted by all samples that were trained on."""
        seen = len(work.retain) + len(work.forget)
        return work.updated(seen, loss=result.mean_loss, epochs=self.recipe(work).local_epochs)


_train_perturbed = _PerturbedRecovery(lambda work: local_recipe(work.training, work.settings))


def _train_on_noise(work: Work) -> Reply:
    """What the paper's server does: no client's sample takes part, only the shape that inputs have.

    Half of the noise gets random labels of classes that stay; on the other half the model keeps its old answers, with
    the forgotten classes taken out. Raises ClientError when no class stays.
    """
    count = whole(work.settings, "noise", NOISE, 2)
    inputs = torch.rand((count, *work.forget.inputs.shape[1:]), generator=work.generator)
    forgotten = work.forget.labels.unique()
    staying = torch.ones(work.classes).index_fill(0, forgotten, 0.0)
    if not staying.any():
        raise ClientError("every class is to go here, so that noise can be given no label; use the other variant.")
    answers = evaluate(work.task, work.model, Samples(inputs, torch.zeros(count, dtype=torch.int64))).logits
    wanted = answers.masked_fill(staying == 0, -torch.inf).softmax(dim=1)
    labels = torch.multinomial(staying, count // 2, replacement=True, generator=work.generator)
    wanted[: count // 2] = functional.one_hot(labels, work.classes).to(wanted.dtype)

    def divergence(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return functional.cross_entropy(
            with_classes(work.task).predict(model, inputs), wanted[positions], reduction="none"
        )

    recipe = local_recipe(work.training, work.settings)
    recipe = replace(recipe, local_epochs=recipe.local_epochs * work.settings.rounds)
    samples = Samples(inputs, torch.arange(count))
    result = train_locally(work.task, work.model, samples, recipe, work.generator, work.portion, loss=divergence)
    # An epoch of the noise is not one of the client's own.
    passes = recipe.local_epochs * count / max(1, len(work.forget))
    return work.updated(len(work.forget), loss=result.mean_loss, epochs=passes)


methods.register("selective-channels-paper", SelectiveChannelsOfThePaper())
