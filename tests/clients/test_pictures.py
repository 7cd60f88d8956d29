"""Rendering; that the pictures are made, kept and shown is in tests/test_image_to_image.py."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from PIL import Image

from fedunlearn.channels.packing import digest_state
from fedunlearn.clients.pictures import GAP, LABEL, sheet
from fedunlearn.strategies.content import BASE, CONFIG, array_record
from fedunlearn.strategies.measurement import PICTURES


def pixels(rows: dict[str, torch.Tensor]) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(sheet(rows))))


def test_a_row_for_each_entry_and_a_column_for_each_image() -> None:
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    found = pixels({"input": images * 0, "model": images})
    assert found.shape == (2 * (84 + GAP), LABEL + 3 * (84 + GAP), 3), "images are enlarged threefold"
    second = found[84 + GAP :, LABEL + 84 + GAP :][:84, :84]
    expected = (images[1, 0] * 255).round().to(torch.uint8).numpy()
    assert (second[::3, ::3, 0] == expected).all() and (second[..., 0] == second[..., 2]).all()
    assert (found[:84, LABEL : LABEL + 84] == 0).all()


def test_colours_are_kept_and_what_is_out_of_range_is_cut() -> None:
    image = torch.zeros(1, 3, 8, 8)
    image[:, 0], image[:, 1] = 1.5, -0.5
    assert pixels({"model": image})[0, LABEL].tolist() == [255, 0, 0]


def test_a_task_of_classes_has_nothing_to_show(ask, model: dict) -> None:
    config = {"base": digest_state(model), "models": [digest_state(model)], "labels": ["original"], "requests": []}
    record: ArrayRecord = array_record(model)
    reply = ask(0, PICTURES, RecordDict({CONFIG: ConfigRecord(config), BASE: record}))
    assert reply.has_error() and "task 'digits' answers with no images" in reply.error.reason
