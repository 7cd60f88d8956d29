"""Taking selected channels back to fresh values, so that recovery cannot find what they held."""

from __future__ import annotations

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
