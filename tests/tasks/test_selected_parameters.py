from __future__ import annotations

import pytest
import torch
from torch import nn

from fedunlearn.channels.packing import Portion
from fedunlearn.errors import SettingsError
from fedunlearn.tasks.selected_parameters import SelectedParameters


def linear() -> nn.Linear:
    layer = nn.Linear(2, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(6.0).reshape(3, 2))
        layer.bias.fill_(1.0)
    return layer


def test_leaves_are_the_selected_rows_and_whole_parameters() -> None:
    layer = linear()
    rows = torch.tensor([0, 2])
    with SelectedParameters(layer, Portion({"weight": rows, "bias": None})) as selected:
        weight, bias = selected.leaves
        assert weight.tolist() == [[0.0, 1.0], [4.0, 5.0]]
        assert bias is layer.bias
        layer(torch.ones(1, 2)).sum().backward()
        selected.collect_gradients()
        assert weight.grad is not None and weight.grad.tolist() == [[1.0, 1.0], [1.0, 1.0]]
        weight.fill_(9.0)
        selected.write_back()
    assert layer.weight.tolist() == [[9.0, 9.0], [2.0, 3.0], [9.0, 9.0]]


def test_unselected_parameters_need_no_gradient_for_the_time_being() -> None:
    layer = linear()
    with SelectedParameters(layer, Portion({"bias": None})) as selected:
        assert not layer.weight.requires_grad
        assert len(selected.leaves) == 1
    assert layer.weight.requires_grad


def test_the_pull_reaches_selected_rows_only() -> None:
    layer = linear()
    anchor = {"weight": torch.zeros(3, 2), "bias": torch.zeros(3)}
    with SelectedParameters(layer, Portion({"weight": torch.tensor([1])}), 0.5, anchor) as selected:
        (layer(torch.ones(1, 2)) * 0).sum().backward()
        selected.collect_gradients()
        (leaf,) = selected.leaves
        assert leaf.grad is not None and leaf.grad.tolist() == [[1.0, 1.5]]


def test_unused_parameters_have_no_gradient_to_collect() -> None:
    model = nn.ModuleList([linear(), linear()])
    portion = Portion({"0.bias": torch.tensor([0]), "1.bias": torch.tensor([0])})
    with SelectedParameters(model, portion, 0.5) as selected:
        model[0](torch.ones(1, 2)).sum().backward()
        selected.collect_gradients()
        assert [leaf.grad is None for leaf in selected.leaves] == [False, True]


@pytest.mark.parametrize("rows", [{}, {"weight": torch.empty(0, dtype=torch.int64)}])
def test_nothing_selected_gets_a_sentence(rows: dict[str, torch.Tensor | None]) -> None:
    layer = linear()
    with pytest.raises(SettingsError, match="selects no parameter"):
        SelectedParameters(layer, Portion(rows))
    assert layer.weight.requires_grad


def test_a_portion_of_another_model_gets_a_sentence() -> None:
    with pytest.raises(SettingsError, match=r"names 'conv\.weight', which the model does not have"):
        SelectedParameters(linear(), Portion({"conv.weight": None, "bias": None}))
