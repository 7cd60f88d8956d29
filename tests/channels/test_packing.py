from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedunlearn.channels.packing import Portion, digest_state, nbytes, pack, unpack
from fedunlearn.errors import CorruptModel, SettingsError

DTYPES = [torch.float32, torch.float64, torch.int64, torch.bool, torch.float16, torch.bfloat16]


@st.composite
def states(draw: st.DrawFn) -> tuple[dict[str, Tensor], dict[str, Tensor], Portion]:
    """A base, another state of the same shapes, and a portion of them."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    base, other, rows = {}, {}, {}
    for index in range(draw(st.integers(1, 4))):
        name = f"layer{index}.weight"
        shape = draw(st.lists(st.integers(1, 4), min_size=0, max_size=3))
        dtype = draw(st.sampled_from(DTYPES))
        base[name], other[name] = (torch.randint(0, 100, shape, generator=generator).to(dtype) for _ in range(2))
        kind = draw(st.sampled_from(["absent", "whole", "rows"]))
        if kind == "whole" or (kind == "rows" and not shape):
            rows[name] = None
        elif kind == "rows":
            chosen = draw(st.sets(st.integers(0, shape[0] - 1)))
            rows[name] = torch.tensor(sorted(chosen), dtype=torch.int64)
    return base, other, Portion(rows)


@given(states())
@settings(max_examples=60, deadline=None)
def test_unpacking_gives_the_packed_values_on_the_portion_and_the_base_elsewhere(drawn) -> None:
    base, other, portion = drawn
    untouched = {name: tensor.clone() for name, tensor in base.items()}
    packed = pack(other, portion)
    state = unpack(base, packed, portion)
    assert list(state) == list(base)
    for name, tensor in state.items():
        expected = base[name].clone()
        rows = portion.rows.get(name, torch.zeros(0, dtype=torch.int64))
        if rows is None:
            expected = other[name]
        else:
            for row in rows.tolist():
                expected[row] = other[name][row]
        assert torch.equal(tensor, expected) and tensor.dtype == base[name].dtype
        assert torch.equal(base[name], untouched[name])
    assert nbytes(portion, base) == sum(array.nbytes for array in packed.values())


@given(states())
@settings(max_examples=30, deadline=None)
def test_everything_is_the_dense_model(drawn) -> None:
    base, other, _ = drawn
    everything = Portion.everything(base)
    assert digest_state(unpack(base, pack(other, everything), everything)) == digest_state(other)
    assert nbytes(everything, base) == sum(tensor.numel() * tensor.element_size() for tensor in base.values())


def test_packed_arrays_do_not_share_memory_with_the_model() -> None:
    state = {"a": torch.zeros(3, 2), "b": torch.zeros(3)}
    packed = pack(state, Portion({"a": None, "b": torch.tensor([0, 1, 2])}))
    state["a"] += 1
    state["b"] += 1
    assert packed["a"].sum() == 0 and packed["b"].sum() == 0


def test_unpacked_state_shares_no_memory_with_the_base_and_takes_read_only_arrays() -> None:
    base = {"a": torch.zeros(3), "b": torch.zeros(3)}
    packed = {"a": np.ones(3, np.float32)}
    packed["a"].flags.writeable = False
    state = unpack(base, packed, Portion({"a": None}))
    state["a"] += 1
    state["b"] += 1
    assert base["b"].sum() == 0 and packed["a"].sum() == 3


def test_names_are_packed_in_state_order() -> None:
    state = {"z": torch.zeros(1), "a": torch.zeros(1), "m": torch.zeros(1)}
    assert list(pack(state, Portion({"m": None, "z": None}))) == ["z", "m"]


@pytest.mark.parametrize(
    "rows",
    [torch.tensor([1, 0]), torch.tensor([1, 1]), torch.tensor([-1]), torch.tensor([0.0]), torch.zeros(1, 1)],
)
def test_a_portion_refuses_rows_that_are_not_sorted_indices(rows: Tensor) -> None:
    with pytest.raises(SettingsError, match=r"the rows of a"):
        Portion({"a": rows})


def test_a_portion_of_another_network_is_refused_by_name() -> None:
    state = {"a": torch.zeros(3, 2), "step": torch.tensor(1)}
    for portion in (
        Portion({"b": None}),
        Portion({"a": torch.tensor([3])}),
        Portion({"step": torch.tensor([0])}),
    ):
        (name,) = portion.rows
        for call in (lambda p: pack(state, p), lambda p: unpack(state, {}, p), lambda p: nbytes(p, state)):
            with pytest.raises(SettingsError, match=rf" {name}[ ,:]"):
                call(portion)


@pytest.mark.parametrize(
    ("packed", "sentence"),
    [
        ({}, "lacks a"),
        ({"a": np.zeros((1, 2), np.float32), "b": np.zeros(1)}, "holds b"),
        ({"a": np.zeros((2, 2), np.float32)}, r"expected float32 \(1, 2\)"),
        ({"a": np.zeros((1, 2), np.float64)}, r"packed a is float64"),
    ],
)
def test_foreign_packed_arrays_are_refused(packed: dict[str, np.ndarray], sentence: str) -> None:
    with pytest.raises(CorruptModel, match=sentence):
        unpack({"a": torch.zeros(3, 2)}, packed, Portion({"a": torch.tensor([1])}))


def test_digest_is_the_same_for_tensors_arrays_orders_and_strides() -> None:
    state = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(True)}
    arrays = {"a": np.array(True), "b": np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3))}
    assert digest_state(state) == digest_state(arrays)
    assert digest_state(state) == digest_state({"a": state["a"], "b": state["b"].t().contiguous().t()})


def test_digest_tells_every_difference() -> None:
    states = [
        {"a": torch.zeros(2)},
        {"b": torch.zeros(2)},
        {"a": torch.zeros(1, 2)},
        {"a": torch.zeros(2, dtype=torch.int32)},
        {"a": torch.zeros(2, dtype=torch.bfloat16)},
        {"a": torch.zeros(2, dtype=torch.float16)},
        {"a": torch.tensor([0.0, -0.0])},
        {"a": torch.zeros(2), "b": torch.zeros(0)},
        {"a": torch.zeros(1)},
        {"a": torch.tensor(0.0)},
        {},
    ]
    assert len({digest_state(state) for state in states}) == len(states)


def test_portions_compare_by_content() -> None:
    assert Portion({"a": torch.tensor([1]), "b": None}) == Portion({"b": None, "a": torch.tensor([1])})
    assert hash(Portion({"a": None})) == hash(Portion({"a": None}))
    assert Portion({"a": None}) != Portion({"a": torch.tensor([0])})
    assert Portion({"a": None}) != Portion({"b": None})
