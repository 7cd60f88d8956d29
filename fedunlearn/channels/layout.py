"""Which channels a network has: its convolutions' and linear layers' outputs, found by running one batch
through it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from fedunlearn.errors import NoChannels

# Transposed convolutions keep their outputs in dimension 1 of the weight, so a channel of theirs is not a
# row.
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CHANNEL_FIRST_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm)
_CHANNEL_LAST_NORMS = (nn.LayerNorm, nn.RMSNorm)
_NORMS = _CHANNEL_FIRST_NORMS + _CHANNEL_LAST_NORMS


@dataclass(frozen=True)
class ChannelGroup:
    """The channels of one layer and every tensor row that belongs to them.

    `parameters`: names whose dimension 0 is the channel (weight, bias, normalisation weight and bias; for a
    module that the model holds under several names, all of them). `buffers`: running statistics of a batch
    normalisation, and moving averages of the parameters. `observed`: the module whose output is attributed, the
    normalisation if there is one.
    `channel_dim`: where the channel is in that output (1 for N x C x H x W, -1 for N x tokens x C).
    """

    layer: str
    channels: int
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]
    observed: str
    channel_dim: int


@dataclass(frozen=True)
class Layout:
    """All channel groups in the order of execution, and the output layer (always trained, never reset)."""

    groups: tuple[ChannelGroup, ...]
    output: tuple[str, ...]
    output_layer: str

    @property
    def total_channels(self) -> int:
        """The number of channels over all layers."""
        return sum(group.channels for group in self.groups)


@dataclass
class _Execution:
    """What one forward pass showed: the layers' calls in order, and from which layers every input was
    computed.

    `fed` holds, for each call of a layer or normalisation and for the model's output (None), the layers whose
    outputs reach it without passing another layer or normalisation; None among them is any other origin.
    """

    calls: list[nn.Module] = field(default_factory=list)
    fed: list[tuple[nn.Module | None, set[nn.Module | None]]] = field(default_factory=list)
    output_shapes: dict[nn.Module, torch.Size] = field(default_factory=dict)

    def norms_of(self, layer: nn.Module) -> list[nn.Module]:
        """The normalisations that see this layer's output and nothing else, if nothing else sees that
        output."""
        users = list(dict.fromkeys(user for user, sources in self.fed if layer in sources))
        if any(sources != {layer} for user, sources in self.fed if user in users):
            return []
        norms = [user for user in users if user is not None and not isinstance(user, _LAYERS)]
        return norms if len(norms) == len(users) else []

    def uses(self, module: nn.Module) -> int:
        """How often the module ran."""
        return sum(user is module for user, _ in self.fed)


def channel_layout(model: nn.Module, example: Tensor) -> Layout:
    """Find the channels of a model by running an example batch (N x ..., as the model takes it) in evaluation
    mode.

    A channel is an output of a convolution or linear layer. A normalisation belongs to a layer when its input
    comes from that layer alone and it has as many features. The last layer executed is the output layer. Not
    channels: what is inside attention (nn.MultiheadAttention, or a submodule whose class name ends in
    "Attention"), a transformer's patch embedding, a layer that shares its weight with the output layer. A
    module used several times counts once. Parameters, buffers, training modes and the global random state are
    left as they were.

    Raises NoChannels if the model has no layer with channels besides its output layer.
    """
    execution = _execute(model, example)
    names = {module: name for name, module in model.named_modules()}
    attention = _inside_attention(model)
    ran = [module for module in execution.calls if module not in attention]
    if not ran:
        raise NoChannels(f"{type(model).__name__} ran no convolution or linear layer: channels need two at least.")
    output_layer = ran[-1]
    aliases = _aliases(model)
    output = _names_of(output_layer, aliases)
    taken = {id(parameter) for parameter in output_layer.parameters()}
    groups = []
    for module in dict.fromkeys(ran):
        if any(id(parameter) in taken for parameter in module.parameters()):
            continue
        if attention and _is_patch_embedding(module):
            continue
        group = _group(module, execution, names, aliases)
        taken.update(id(parameter) for parameter in module.parameters())
        groups.append(group)
    if not groups:
        raise NoChannels(
            f"{type(model).__name__} has no layer with channels besides its output {names[output_layer]}:"
            " use a network with one more convolution or linear layer, or a method without channels."
        )
    averages = moving_averages(model)
    groups = [replace(group, buffers=(*group.buffers, *_following(group.parameters, averages))) for group in groups]
    return Layout(tuple(groups), (*output, *_following(output, averages)), names[output_layer])


def moving_averages(model: nn.Module) -> dict[str, list[str]]:
    """Parameter -> buffers that follow it, by the names that a module's `sources` gives (buffer -> parameter)."""
    found: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        sources = getattr(module, "sources", None)
        if isinstance(sources, Mapping):
            for buffer, parameter in sources.items():
                found.setdefault(str(parameter), []).append(f"{name}.{buffer}" if name else str(buffer))
    return found


def _following(parameters: tuple[str, ...], averages: Mapping[str, list[str]]) -> list[str]:
    return [buffer for parameter in parameters for buffer in averages.get(parameter, ())]


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode and give each its own mode back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _execute(model: nn.Module, example: Tensor) -> _Execution:
    execution = _Execution()
    source_of: dict[int, nn.Module] = {}
    cuts: list[Tensor] = []

    def trace(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        execution.fed.append((module, _sources(inputs[0], source_of)))
        execution.output_shapes[module] = output.shape
        # A fresh leaf cuts the graph here, so that walking back from the next module ends at what feeds it;
        # the clone lets an in-place activation follow.
        cut = output.detach().requires_grad_()
        cuts.append(cut)
        if isinstance(module, _LAYERS):
            execution.calls.append(module)
            source_of[id(cut)] = module
        return cut.clone()

    if example.is_floating_point():
        # Only what requires a gradient is seen on the way back: a sum of a layer's output and the input is
        # not that layer's alone.
        example = example.detach().clone().requires_grad_()
    traced = [module for module in model.modules() if isinstance(module, _LAYERS + _NORMS)]
    handles = [module.register_forward_hook(trace) for module in traced]
    try:
        with evaluation_mode(model), torch.enable_grad():
            output = model(example)
    finally:
        for handle in handles:
            handle.remove()
    for tensor in _tensors(output):
        execution.fed.append((None, _sources(tensor, source_of)))
    return execution


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from _tensors(value)


def _sources(tensor: Tensor, source_of: dict[int, nn.Module]) -> set[nn.Module | None]:
    """The layers that a tensor is computed from; None stands for any other origin (input, free parameter)."""
    sources: set[nn.Module | None] = set()
    pending, visited = [tensor.grad_fn], set()
    while pending:
        node = pending.pop()
        if node in visited:
            continue
        visited.add(node)
        leaf = getattr(node, "variable", None)
        if node is None or leaf is not None:
            sources.add(source_of.get(id(leaf)))
            continue
        previous = [function for function, _ in node.next_functions if function is not None]
        # The slope of a PReLU is a parameter, and the only one that does not mix in something else.
        pending.extend(previous[:1] if "Prelu" in node.name() else previous)
    return sources


def _group(
    module: nn.Module, execution: _Execution, names: dict[nn.Module, str], aliases: dict[int, tuple[str, ...]]
) -> ChannelGroup:
    channels = int(module.out_features if isinstance(module, nn.Linear) else module.out_channels)  # type: ignore[arg-type]
    parameters = _names_of(module, aliases)
    buffers: tuple[str, ...] = ()
    observed = module
    norms = [norm for norm in execution.norms_of(module) if _features(norm) == channels]
    for norm in norms:
        parameters += _names_of(norm, aliases)
        vectors = [buffer for buffer in norm.buffers() if buffer.dim() == 1 and len(buffer) == channels]
        buffers += tuple(name for buffer in vectors for name in aliases[id(buffer)])
    # A shared layer with a normalisation for each use is observed itself: no single one of them sees all of
    # it.
    if len(norms) == 1 and execution.uses(norms[0]) == execution.uses(module):
        observed = norms[0]
    channel_dim = _channel_dim(observed, channels, execution.output_shapes[observed])
    return ChannelGroup(names[module], channels, parameters, buffers, names[observed], channel_dim)


def _features(norm: nn.Module) -> int:
    if isinstance(norm, _CHANNEL_LAST_NORMS):
        return int(norm.normalized_shape[-1]) if len(norm.normalized_shape) == 1 else -1
    return int(norm.num_channels if isinstance(norm, nn.GroupNorm) else norm.num_features)  # type: ignore[arg-type]


def _channel_dim(observed: nn.Module, channels: int, shape: torch.Size) -> int:
    if isinstance(observed, nn.Linear) or type(observed) in _CHANNEL_LAST_NORMS:
        return -1
    if isinstance(observed, _CHANNEL_LAST_NORMS) and shape[1] != channels:
        # A subclass may permute to channels-first (as ConvNeXt's does) or not.
        return -1
    return 1


def _inside_attention(model: nn.Module) -> set[nn.Module]:
    inside: set[nn.Module] = set()
    for module in model.modules():
        named_attention = module is not model and type(module).__name__.endswith("Attention")
        if isinstance(module, nn.MultiheadAttention) or named_attention:
            inside.update(module.modules())
    return inside


def _is_patch_embedding(module: nn.Module) -> bool:
    if not isinstance(module, _CONVOLUTIONS):
        return False
    return module.kernel_size == module.stride and max(module.kernel_size) > 1


def _aliases(model: nn.Module) -> dict[int, tuple[str, ...]]:
    """Every name in the state dict by tensor: a shared module or tied weight is stored under several."""
    collected: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        collected.setdefault(id(parameter), []).append(name)
    for name, buffer in model.named_buffers(remove_duplicate=False):
        collected.setdefault(id(buffer), []).append(name)
    return {key: tuple(found) for key, found in collected.items()}


def _names_of(module: nn.Module, aliases: dict[int, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(name for parameter in module.parameters() for name in aliases[id(parameter)])
