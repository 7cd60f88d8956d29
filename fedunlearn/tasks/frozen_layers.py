"""The first layers of a model, as far as none of their parameters moves: computed without a graph, or once for all.

A model is cut by the graph of its forward pass (torch.fx), not by its modules: whatever depends on the input and on
frozen parameters alone is before the cut, in residual networks too. A model whose forward cannot be traced is not cut.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Set
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
"""What is worth a cut."""
NORMS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh),
    *(nn.Softplus, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.PReLU),
)
POOLS = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool2d),
)
SHAPES = (nn.Flatten, nn.Unflatten, nn.Identity, nn.ZeroPad2d, nn.Upsample)
MODULES = (*LAYERS, *NORMS, *ACTIVATIONS, *POOLS, *SHAPES)
"""Modules whose output depends on nothing but their input and parameters, for each sample by itself."""
FUNCTIONS: frozenset[Callable] = frozenset(
    {
        *(functional.relu, functional.relu6, functional.leaky_relu, functional.elu, functional.gelu, functional.silu),
        *(functional.hardswish, functional.hardsigmoid, functional.sigmoid, functional.tanh, functional.softplus),
        *(functional.max_pool1d, functional.max_pool2d, functional.avg_pool1d, functional.avg_pool2d),
        *(functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d, functional.pad, functional.normalize),
        *(torch.relu, torch.sigmoid, torch.tanh, torch.flatten, torch.mean, torch.cat, torch.add, torch.sub, torch.mul),
        *(operator.add, operator.sub, operator.mul, operator.truediv, operator.getitem, getattr),
    }
)
METHODS = frozenset(
    {
        *("relu", "sigmoid", "tanh", "flatten", "view", "reshape", "permute", "transpose", "contiguous", "mean"),
        *("add", "sub", "mul", "div", "squeeze", "unsqueeze", "size", "dim", "float"),
    }
)
MOST_BYTES = 128 * 2**20
"""Of kept activations; where a client's would be more, they are computed anew in every epoch."""


class FrozenLayers(nn.Module):
    """A model that computes the part before the cut without a graph and, when asked, only once a sample.

    It is called like the model, and anything else that is asked of it is asked of the model.

    Args:
        model: its modules are shared, so that it moves as the model does.
        before: from an input to what crosses the cut.
        after: from the input and what crosses the cut to the model's output.
    """

    def __init__(self, model: nn.Module, before: fx.GraphModule, after: fx.GraphModule) -> None:
        super().__init__()
        self.model = model
        self.before = before
        self.after = after
        self._expected: Tensor | None = None
        self._positions: Tensor | None = None
        self._samples = 0
        self._kept: list[Tensor] | None = None
        self._known: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    @torch.no_grad()
    def treats_samples_alone(self, inputs: Tensor) -> bool:
        """Whether what crosses the cut is, for each sample, the same in another batch."""
        every, some = self.before(inputs), self.before(inputs[::2])
        return all(
            isinstance(one, Tensor) and one.dim() > 1 and len(one) == len(inputs) and torch.allclose(one[::2], another)
            for one, another in zip(every, some, strict=True)
        )

    def keep(self, samples: int) -> None:
        """From now on, keep what crosses the cut for each of so many samples, if it is not too much.

        Only for a model that `treats_samples_alone`, and inputs that are the same whenever they are made.
        """
        self._samples = samples
        self._kept = None
        self._known = torch.zeros(samples, dtype=torch.bool)

    def expect(self, inputs: Tensor, positions: Tensor) -> None:
        """The batch that the model will be called with next, and the positions of its samples."""
        self._expected, self._positions = inputs, positions

    def forward(self, inputs: Tensor) -> Any:
        """The model's output."""
        if inputs is not self._expected:
            return self.model(inputs)  # of another batch, nothing is known
        return self.after(inputs, *self._crossing(inputs))

    @torch.no_grad()
    def _crossing(self, inputs: Tensor) -> list[Tensor]:
        positions, known = self._positions, self._known
        if positions is None or known is None:
            return list(self.before(inputs))
        if self._kept is not None and bool(known[positions].all()):
            return [kept.index_select(0, positions).movedim(-1, 1) for kept in self._kept]
        found = list(self.before(inputs))
        if self._kept is None:
            self._kept = self._make_room(found)
            if self._kept is None:
                self._known = None
                return found
        for kept, one in zip(self._kept, found, strict=True):
            kept.index_copy_(0, positions, one.movedim(1, -1))
        known[positions] = True
        return found

    def _make_room(self, found: list[Tensor]) -> list[Tensor] | None:
        """Room for all samples, channels last; None where it would be too much."""
        if sum(one[0].numel() * one.element_size() for one in found) * self._samples > MOST_BYTES:
            return None
        return [one.new_empty(self._samples, *one.shape[2:], one.shape[1]) for one in found]


Parts = tuple[fx.GraphModule, fx.GraphModule]

# Of each model, what was cut before: which parameters moved, and in which mode each module was.
_parts_of: WeakKeyDictionary[nn.Module, dict[tuple, Parts | None]] = WeakKeyDictionary()


def cut(model: nn.Module, moving: Set[nn.Parameter]) -> FrozenLayers | None:
    """The model, cut behind what no moving parameter reaches; None where no layer is before the cut.

    Modules must be in the modes (training or evaluation) in which they will be used.
    """
    names = tuple(name for name, parameter in model.named_parameters() if parameter in moving)
    key = (names, tuple(module.training for module in model.modules()))
    known = _parts_of.setdefault(model, {})
    if key not in known:
        known[key] = _parts(model, moving)
    parts = known[key]
    return None if parts is None else FrozenLayers(model, *parts)


def _parts(model: nn.Module, moving: Set[nn.Parameter]) -> Parts | None:
    modules = dict(model.named_modules())
    still = [m for m in modules.values() if isinstance(m, LAYERS) and moving.isdisjoint(m.parameters())]
    graph = _traced(model) if still else None
    if graph is None:
        return None
    frozen: set[fx.Node] = set()
    found_layer = False
    for node in graph.nodes:
        if node.op == "placeholder" or (_is_frozen(node, model, modules, moving) and _all(node, frozen)):
            frozen.add(node)
            found_layer = found_layer or (node.op == "call_module" and isinstance(modules[str(node.target)], LAYERS))
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    # A model of several inputs is not called by them here.
    if not found_layer or len(placeholders) != 1:
        return None
    crossing = [
        node
        for node in graph.nodes
        if node in frozen and node.op.startswith("call") and any(user not in frozen for user in node.users)
    ]
    return _on_both_sides(model, graph, frozen, crossing)


def _traced(model: nn.Module) -> fx.Graph | None:
    try:
        return fx.Tracer().trace(model)
    except Exception:
        # Whatever somebody's forward says to the stand-ins that tracing hands it: it cannot be traced.
        return None


def _is_frozen(node: fx.Node, model: nn.Module, modules: dict[str, nn.Module], moving: Set[nn.Parameter]) -> bool:
    """Whether, for equal arguments, the node always gives the same, for each sample by itself."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        if not moving.isdisjoint(module.parameters()):
            return False
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd):
            return not module.training
        return type(module) in MODULES
    if node.op == "get_attr":
        value = operator.attrgetter(str(node.target))(model)
        return isinstance(value, nn.Parameter) and value not in moving
    if node.op == "call_function":
        return node.target in FUNCTIONS
    return node.op == "call_method" and node.target in METHODS


def _all(node: fx.Node, frozen: set[fx.Node]) -> bool:
    return all(source in frozen for source in node.all_input_nodes)


def _on_both_sides(model: nn.Module, graph: fx.Graph, frozen: set[fx.Node], crossing: list[fx.Node]) -> Parts:
    """What is before the cut and what is after it, as modules of their own around the same layers."""
    before, after = fx.Graph(), fx.Graph()
    of_before: dict[fx.Node, fx.Node] = {}
    of_after: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node.op in ("placeholder", "get_attr"):
            of_before[node] = before.node_copy(node)
            of_after[node] = after.node_copy(node)
        elif node in frozen:
            of_before[node] = before.node_copy(node, of_before.__getitem__)
        if node.op == "placeholder":
            for number, one in enumerate(crossing):
                of_after[one] = after.placeholder(f"crossing_{number}")
    for node in graph.nodes:
        if node not in of_before and node not in of_after:
            of_after[node] = after.node_copy(node, of_after.__getitem__)
    before.output(tuple(of_before[node] for node in crossing))
    return fx.GraphModule(model, before), fx.GraphModule(model, after)
