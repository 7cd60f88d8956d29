from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedunlearn.channels.packing import digest_state
from fedunlearn.channels.state_file import read_state, write_state
from fedunlearn.errors import CorruptModel

DTYPES = (torch.float32, torch.float16, torch.int64, torch.uint8, torch.bool)


@settings(max_examples=20, deadline=None)
@given(
    shapes=st.dictionaries(
        st.text("abc.", min_size=1, max_size=6),
        st.tuples(st.lists(st.integers(0, 3), max_size=3), st.sampled_from(DTYPES)),
        min_size=1,
        max_size=5,
    )
)
def test_any_state_is_read_back_in_its_order(tmp_path_factory: pytest.TempPathFactory, shapes: dict) -> None:
    folder = tmp_path_factory.mktemp("states")
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randint(0, 9, shape, generator=generator).to(dtype) for name, (shape, dtype) in shapes.items()}
    digest = write_state(folder, state)
    again = read_state(folder, digest)
    assert digest == digest_state(state)
    assert list(again) == list(state)
    for name, tensor in state.items():
        assert again[name].dtype == tensor.dtype
        assert torch.equal(again[name], tensor)


def test_tied_weights_views_and_nan_are_stored(tmp_path: Path) -> None:
    weight = torch.arange(12.0).reshape(3, 4)
    state = {
        "a": weight,
        "b": weight,
        "turned": weight.T,
        "part": weight[1],
        "nan": torch.tensor(float("nan")),
    }
    again = read_state(tmp_path, write_state(tmp_path, state))
    assert torch.equal(again["turned"], weight.T)
    assert torch.equal(again["part"], weight[1])
    again["a"][0, 0] = 9
    assert again["b"][0, 0] == 0


def test_the_same_state_is_one_file(tmp_path: Path) -> None:
    assert write_state(tmp_path, {"a": torch.ones(3)}) == write_state(tmp_path, {"a": torch.ones(3)})
    assert len(os.listdir(tmp_path)) == 1


def test_writing_again_mends_a_damaged_file(tmp_path: Path) -> None:
    state = {"a": torch.ones(3)}
    digest = write_state(tmp_path, state)
    (tmp_path / f"{digest}.safetensors").write_bytes(b"")
    assert write_state(tmp_path, state) == digest
    assert torch.equal(read_state(tmp_path, digest)["a"], state["a"])


def test_every_cut_and_every_flipped_byte_is_found(tmp_path: Path) -> None:
    digest = write_state(tmp_path, {"a": torch.arange(3.0), "b": torch.tensor(2)})
    path = tmp_path / f"{digest}.safetensors"
    whole = path.read_bytes()
    payload = 8 + int.from_bytes(whole[:8], "little")
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(CorruptModel):
            read_state(tmp_path, digest)
    for place in range(payload, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CorruptModel, match="holds model"):
            read_state(tmp_path, digest)
    for place in range(payload):  # the header also holds what does not matter: spaces, the order of names
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with suppress(CorruptModel):
            assert digest_state(read_state(tmp_path, digest)) == digest


@pytest.mark.parametrize("digest", ["", "../../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_what_is_no_digest_is_no_file_name(tmp_path: Path, digest: str) -> None:
    with pytest.raises(CorruptModel, match="64 hexadecimal digits"):
        read_state(tmp_path, digest)


def test_missing_model(tmp_path: Path) -> None:
    with pytest.raises(CorruptModel, match="is not in"):
        read_state(tmp_path, "0" * 64)
