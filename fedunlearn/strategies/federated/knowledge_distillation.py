"""Subtract what the target added in every round, then have the original model teach the damaged one at the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import RequestError
from fedunlearn.randomness import derive_seed
from fedunlearn.strategies.federated.stored_rounds import at_the_server, flat, unflat
from fedunlearn.strategies.method import ModelState, Need, Phase, Scope, State, TrainingHook, methods
from fedunlearn.strategies.option import positive, whole
from fedunlearn.tasks.base import with_classes
from fedunlearn.tasks.training import evaluate, train_locally

KEEP = TrainingHook(keep_updates_every=1)


@dataclass(frozen=True)
class KnowledgeDistillation:
    """The target's updates are taken out of the model; its answers are learned back from unlabelled samples.

    Options: `temperature` (3; softens the teacher's and the student's answers), `epochs` (passes over the server's
    samples: 5). The learning rate and the batches are the federation's own.
    """

    name: str = "knowledge-distillation"
    source: str = (
        "Wu et al. 2022 (arXiv 2201.09441); reconstruction: the share of a client in a round is its share of the "
        "samples; temperature and passes are ours"
    )
    scopes: frozenset[Scope] = frozenset({"client"})
    needs: frozenset[Need] = frozenset({"stored-updates", "server-data", "class-scores"})
    options: frozenset[str] = frozenset({"temperature", "epochs"})
    training_hook: TrainingHook = KEEP

    def phases(self, settings: UnlearnSettings, rounds: int) -> Sequence[Phase]:
        """Two computations at the server."""
        _options(settings)
        return [at_the_server(_subtract), at_the_server(_distil)]


def without_targets(state: State) -> ModelState:
    """The model less all that the targets added to it: in each kept round their share of the mean, times their change.

    Statistics of normalisation layers stay.
    """
    left = flat(state.model).double()
    for number in state.history.rounds():
        sent = flat(state.history.model(number)).double()
        added, total = torch.zeros_like(sent), 0.0
        for update in state.history.updates(number):
            total += update.weight
            if update.client in state.targets:
                added += update.weight * (flat(update.model).double() - sent)
        left -= added / total
    return unflat(left.to(flat(state.model).dtype), state.model)


def distillation_losses(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the softened answers, N; N x K logits each.

    Without the usual factor of the temperature squared: with it a damaged model that is taught at the federation's rate
    diverges, and there is no other loss for it to be in proportion to.
    """
    wanted = (teacher / temperature).softmax(1)
    found = (student / temperature).log_softmax(1)
    return functional.kl_div(found, wanted, reduction="none").sum(1)


def _options(settings: UnlearnSettings) -> tuple[float, int]:
    return positive(settings, "temperature", 3.0), whole(settings, "epochs", 5, 1)


def _subtract(state: State) -> State:
    return replace(state, model=without_targets(state))


def _distil(state: State) -> State:
    if state.task is None or state.network is None or state.server_data is None:
        raise RequestError("distilling needs a server that knows task and network; serve the request in a run folder.")
    temperature, epochs = _options(state.settings)
    task, student = state.task, state.network(state.model)
    # In the place of labels, which the server has not, stand the samples' positions in the teacher's answers.
    samples = Samples(state.server_data, torch.arange(len(state.server_data)))
    nobody = Samples(state.server_data, torch.zeros(len(state.server_data), dtype=torch.int64))
    teacher = evaluate(task, state.network(state.base), nobody).logits

    def loss(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return distillation_losses(with_classes(task).predict(model, inputs), teacher[positions], temperature)

    rate = state.settings.learning_rate or state.training.learning_rate
    recipe = replace(state.training, local_epochs=epochs, learning_rate=rate, proximal_mu=0.0)
    generator = torch.Generator().manual_seed(derive_seed(state.seed, "distil"))
    train_locally(task, student, samples, recipe, generator, loss=loss)
    return replace(state, model={name: tensor.detach().clone() for name, tensor in student.state_dict().items()})


methods.register("knowledge-distillation", KnowledgeDistillation())
