from __future__ import annotations

import copy

import pytest
import torch

from fedunlearn.channels.layout import channel_layout
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.packing import digest_state
from fedunlearn.channels.reset import part_way, reset_rows, reset_values
from fedunlearn.errors import SettingsError


@pytest.mark.parametrize("name", ["lenet", "group-norm", "batch-norm", "shared", "vit", "resnet18"])
def test_selected_rows_are_fresh_and_all_else_is_kept_bit_for_bit(build, name: str) -> None:
    case = build(name)
    layout = channel_layout(case.model, case.inputs)
    state = case.model.state_dict()
    other = copy.deepcopy(case.model)
    with torch.no_grad():
        for value in (*other.parameters(), *other.buffers()):
            value.copy_(torch.rand(value.shape) if value.is_floating_point() else value + 7)
    fresh = other.state_dict()
    before = digest_state(state), digest_state(fresh)
    mask = ChannelMask({group.layer: torch.tensor([0, 2]) for group in layout.groups[:2]})
    after = reset_rows(state, mask, layout, fresh)
    changed = {parameter for group in layout.groups[:2] for parameter in (*group.parameters, *group.buffers)}
    for key, value in after.items():
        expected = state[key].clone()
        if key in changed:
            expected[[0, 2]] = fresh[key][[0, 2]]
        assert torch.equal(value, expected), key
    assert (digest_state(state), digest_state(fresh)) == before
    case.model.load_state_dict(after)
    assert digest_state(case.model.state_dict()) == digest_state(after)


def test_the_output_layer_is_never_reset(build) -> None:
    case = build("lenet")
    layout = channel_layout(case.model, case.inputs)
    state = case.model.state_dict()
    fresh = {key: torch.full_like(value, 9.0) for key, value in state.items()}
    after = reset_rows(state, ChannelMask.full(layout), layout, fresh)
    assert all(torch.equal(after[key], state[key]) for key in layout.output)
    assert all(bool((after[key] == 9).all()) for key in after if key not in layout.output)
    assert digest_state(reset_rows(state, ChannelMask.empty(layout), layout, fresh)) == digest_state(state)


def test_a_mask_or_a_fresh_model_of_another_network_is_refused(build) -> None:
    case, other = build("lenet"), build("group-norm")
    layout = channel_layout(case.model, case.inputs)
    state = case.model.state_dict()
    with pytest.raises(SettingsError, match="layer 0, which has no channels"):
        reset_rows(state, ChannelMask({"0": torch.tensor([0])}), layout, state)
    with pytest.raises(SettingsError, match="no tensor conv1"):
        reset_rows(state, ChannelMask.full(layout), layout, other.model.state_dict())


def test_reset_values_are_the_initial_ones_but_in_the_last_layer_of_channels(build) -> None:
    case = build("group-norm")
    layout = channel_layout(case.model, case.inputs)
    initial = {key: torch.zeros_like(value) for key, value in case.model.state_dict().items()}
    fresh = {key: torch.ones_like(value) for key, value in initial.items()}
    values = reset_values(initial, fresh, layout)
    last = {*layout.groups[-1].parameters, *layout.groups[-1].buffers}
    assert {key for key, value in values.items() if bool((value == 1).all())} == last and last
    assert {key for key, value in values.items() if bool((value == 0).all())} == set(values) - last


def test_part_of_the_way_is_a_straight_line_and_whole_numbers_are_not_mixed() -> None:
    state = {"weight": torch.tensor([[1.0, -2.0]]), "seen": torch.tensor(7)}
    values = {"weight": torch.tensor([[3.0, 8.0]]), "seen": torch.tensor(2)}
    found = part_way(state, values, 0.9)
    assert torch.allclose(found["weight"], torch.tensor([[2.8, 7.0]])) and found["seen"] == 2
    assert torch.equal(part_way(state, values, 0.0)["weight"], state["weight"])
    assert torch.equal(part_way(state, values, 1.0)["weight"], values["weight"])
