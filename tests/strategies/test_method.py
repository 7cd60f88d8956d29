from __future__ import annotations

import numpy as np
import pytest
import torch

from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.packing import digest_state
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import CorruptModel
from fedunlearn.strategies.method import methods


def test_packing_and_putting_back_is_the_identity_on_what_moves(place) -> None:
    layout = place.session.architecture.layout
    mask = ChannelMask.from_arrays({"hidden": np.array([0, 5], np.int32)})
    for chosen, names in ((None, set(place.model)), (mask, {"hidden.weight", "hidden.bias", *layout.output})):
        state = place.state("client", UnlearnSettings(), chosen)
        packed = state.packed()
        assert set(packed) == names
        assert digest_state(state.with_packed(packed).model) == digest_state(state.model)
        changed = state.with_packed({name: array + 1 for name, array in packed.items()})
        assert torch.equal(changed.base["hidden.bias"], state.model["hidden.bias"])
        difference = (changed.model["hidden.bias"] - state.model["hidden.bias"]).round().nonzero().flatten()
        assert difference.tolist() == (list(range(64)) if chosen is None else [0, 5])
        with pytest.raises(CorruptModel, match="lacks"):
            state.with_packed({})


def test_seeds_of_branches_are_disjoint_and_repeatable(place) -> None:
    job, settings = place.jobs["client"], UnlearnSettings()
    states = [place.strategy.state_for(job, place.model, settings, kind) for kind in ("unlearned", "retrained")]
    assert states[0].seed != states[1].seed
    assert digest_state(states[0].fresh) != digest_state(states[1].fresh)
    again = place.strategy.state_for(job, place.model, settings, "unlearned")
    assert digest_state(again.fresh) == digest_state(states[0].fresh)
    assert digest_state(states[0].fresh) != digest_state(place.model)


def test_the_methods_of_the_package() -> None:
    assert {"selective-channels", "fine-tune", "retrain"} <= set(methods.names())
