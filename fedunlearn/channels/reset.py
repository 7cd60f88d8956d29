"""Taking selected channels back to values that know nobody's data, so that recovery cannot find what they held."""

from __future__ import annotations

import torch
from torch import Tensor

from fedunlearn.channels.layout import Layout
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.packing import State, pack, unpack


def reset_rows(state: State, mask: ChannelMask, layout: Layout, fresh_state: State) -> dict[str, Tensor]:
    """A new state dict whose selected channels have the rows of `fresh_state`.

    The rows are those of weights, biases, normalisation and running statistics; all else is kept, and so is
    the output layer. `fresh_state` is a newly
    initialised model of the same network (the server draws it); neither argument is changed. Re-initialising
    before fine-tuning is our completion of Xu et al. 2024, "Update Selective Parameters" (*reconstruction*).

    Raises SettingsError if the mask or the fresh state is of another network.
    """
    portion = mask.portion(layout, output=False)
    return unpack(state, pack(fresh_state, portion), portion)


def reset_values(initial: State, fresh: State, layout: Layout) -> dict[str, Tensor]:
    """The values to reset channels to: those that training began with, but fresh ones in the last layer of channels.

    Rows that start where they once started find back to the company of the rows that stay, and recovery costs less
    accuracy. The output layer, which is kept, would find in a rewound last layer again what it used to read there
    (*reconstruction*; rewinding is Frankle and Carbin's, 2019, for pruned networks).

    Args:
        initial: the state that the federation's training started from.
        fresh: another newly initialised state.
    """
    last = layout.groups[-1] if layout.groups else None
    renewed = set() if last is None else {*last.parameters, *last.buffers}
    return {name: fresh[name] if name in renewed else value for name, value in initial.items()}


def part_way(state: State, values: State, share: float) -> dict[str, Tensor]:
    """What lies `share` (0 to 1) of the way from `state` to `values`; whole numbers are those of `values`.

    What generalises is back after a few passes over others' data from a tenth of the trained weights, what was learned
    by heart is not (*reconstruction*; after shrink and perturb, Ash and Adams 2020, arXiv 1910.08475).
    """
    return {
        name: torch.lerp(state[name], value, share) if value.is_floating_point() else value
        for name, value in values.items()
    }
