"""Controls that take a shortcut: the model is changed where forgetting would show, and forgets nothing, or too much.

They are here to be caught, never to serve a request in earnest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.packing import pack, unpack
from fedunlearn.channels.reset import reset_rows
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import SettingsError
from fedunlearn.randomness import derive_seed
from fedunlearn.strategies.aggregation import average
from fedunlearn.strategies.controls import Control, say_how_many
from fedunlearn.strategies.localisation import REFER, select_channels, send_arrays, unite
from fedunlearn.strategies.method import ClientReply, Down, Phase, Reply, State, Work, methods
from fedunlearn.strategies.option import positive
from fedunlearn.strategies.recovery import RECOVER, RECOVER_SELECTED, local_recipe, send_packed
from fedunlearn.tasks.training import train_locally

OVER_FORGOTTEN = 20.0
"""Nats to which over-forgetting raises losses: far beyond what a model shows that never saw the samples."""


def _zero_top_units(settings: UnlearnSettings) -> Sequence[Phase]:
    positive(settings, "share", 0.1, 1.0)
    return [REFER, Phase("query.attribute", "target", send_arrays, _select_share, _zero_selected)]


def _select_share(work: Work) -> Reply:
    share = positive(work.settings, "share", 0.1, 1.0)
    return select_channels(replace(work, settings=work.settings.model_copy(update={"ratio": share})))


def _zero_selected(state: State, replies: Sequence[ClientReply]) -> State:
    """The channels that carry most of the forget set fall silent; nothing is trained afterwards."""
    portion = unite(replies, state.layout).portion(state.layout, output=False)
    silent = {name: rows * 0 for name, rows in pack(state.model, portion).items()}
    return replace(state, model=unpack(state.model, silent, portion))


def _reset_head(settings: UnlearnSettings) -> Sequence[Phase]:
    return [Phase("query.count", "remaining", _nothing, say_how_many, _fresh_head), *[RECOVER] * settings.rounds]


def _fresh_head(state: State, replies: Sequence[ClientReply]) -> State:
    """A new output layer; the mask of no channel lets it alone move."""
    head = {name: state.fresh[name].clone() for name in state.layout.output}
    return replace(state, model={**state.model, **head}, mask=ChannelMask.empty(state.layout))


def _reset_layer(settings: UnlearnSettings) -> Sequence[Phase]:
    def fresh_layer(state: State, replies: Sequence[ClientReply]) -> State:
        mask = _whole_layer(state, settings)
        return replace(state, model=reset_rows(state.model, mask, state.layout, state.fresh), mask=mask)

    first = Phase("query.count", "remaining", _nothing, say_how_many, fresh_layer)
    return [first, *[RECOVER_SELECTED] * settings.rounds]


def _whole_layer(state: State, settings: UnlearnSettings) -> ChannelMask:
    channels = {group.layer: group.channels for group in state.layout.groups}
    # The last layer before the output is dense in every network that has a dense one.
    layer = str(settings.options.get("layer", state.layout.groups[-1].layer))
    if layer not in channels:
        raise SettingsError(f"layer = {layer!r}: layers with channels are {', '.join(channels)}.")
    return ChannelMask({layer: torch.arange(channels[layer])})


def _add_noise(settings: UnlearnSettings) -> Sequence[Phase]:
    size = positive(settings, "size", 0.1, 1e3)

    def blurred(state: State, replies: Sequence[ClientReply]) -> State:
        """Every weight gets Gaussian noise of `size` deviations of its own tensor."""
        generator = torch.Generator().manual_seed(derive_seed(state.seed, "noise"))
        model = {}
        for name, tensor in state.model.items():
            noise = torch.randn(tensor.shape, generator=generator)
            spread = tensor.float().std(correction=0) if tensor.is_floating_point() else 0.0
            model[name] = tensor + (size * spread * noise).to(tensor.dtype)
        return replace(state, model=model)

    return [Phase("query.count", "remaining", _nothing, say_how_many, blurred)]


def _over_forget(settings: UnlearnSettings) -> Sequence[Phase]:
    positive(settings, "loss", OVER_FORGOTTEN, 1e3)
    raise_losses = Phase("train.forget", "target", send_packed, _raise_far, average)
    return [phase for _ in range(settings.rounds) for phase in (RECOVER, raise_losses)]


def _raise_far(work: Work) -> Reply:
    """Raise every loss of the forget set to a stated height, whatever unseen samples show."""
    height = positive(work.settings, "loss", OVER_FORGOTTEN, 1e3)
    labels = work.forget.labels

    def below(model: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
        return functional.relu(height - work.task.loss(model, inputs, labels[positions]))

    samples = Samples(work.forget.inputs, torch.arange(len(work.forget)))
    recipe = replace(local_recipe(work.training, work.settings), momentum=0.0)
    result = train_locally(work.task, work.model, samples, recipe, work.generator, loss=below)
    return work.updated(len(samples), loss=result.mean_loss, epochs=recipe.local_epochs)


def _nothing(state: State) -> Down:
    return Down()


for _control in (
    Control(
        "zero-top-units",
        "Control: silences the channels that carry most of the forget set (option share of each layer).",
        _zero_top_units,
        frozenset({"share", "attribution", "ranking"}),
        needs=frozenset({"target"}),
    ),
    Control(
        "reset-head",
        "Control: a fresh output layer, trained alone; the features stay as they were.",
        _reset_head,
        frozenset(),
    ),
    Control(
        "reset-layer",
        "Control: a fresh dense layer (option layer), trained with the output layer.",
        _reset_layer,
        frozenset({"layer"}),
    ),
    Control(
        "add-noise",
        "Control: noise on every weight (option size, in deviations of its tensor).",
        _add_noise,
        frozenset({"size"}),
    ),
    Control(
        "over-forget",
        "Control: fine-tuning, and after each round the target's losses raised to a height (option loss, in nats).",
        _over_forget,
        frozenset({"loss"}),
        needs=frozenset({"target"}),
    ),
):
    methods.register(_control.name, _control)
