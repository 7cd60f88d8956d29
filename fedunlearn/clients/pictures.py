"""Pictures of what models make of a client's images, rendered where the images are and kept there.

They show a client's own data. Nothing of them is sent: the answer says how many were made.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import torch
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from PIL import Image, ImageDraw
from torch import Tensor

from fedunlearn.clients.handlers import kept_path
from fedunlearn.clients.measuring import models_of
from fedunlearn.clients.site import Site
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import ClientError
from fedunlearn.files import atomic_write_bytes
from fedunlearn.strategies.content import CONFIG, FLAGS, METRICS
from fedunlearn.tasks.base import ImageToImageTask
from fedunlearn.tasks.training import modes_kept

SHOWN = 8
"""Images of a group, at most."""
SIDE, GAP, LABEL = 84, 4, 96
"""Pixels of an image's longer side at least, between images, and of the column with the names of the rows."""


def pictures(message: Message, site: Site) -> Message:
    """Render forget set, retained and unseen images as the message's models complete them, into the client's folder.

    Raises:
        ClientError: the task answers with no images.
    """
    config = message.content.config_records.get(CONFIG, ConfigRecord())
    models = models_of(message, config, site)
    if models is None:
        return Message(RecordDict({FLAGS: ConfigRecord({"needs-base": True})}), reply_to=message)
    if not isinstance(site.task, ImageToImageTask):
        raise ClientError(f"task {site.task.name!r} answers with no images; there is nothing to show.")
    requests = [str(id) for id in config.get("requests", [])]  # type: ignore[union-attr]
    labels = [str(label) for label in config.get("labels", [])]  # type: ignore[union-attr]
    made = 0
    for group, samples in _groups(site, requests).items():
        if not len(samples):
            continue
        rows = _rows(site, site.task, samples, dict(zip(labels, models, strict=True)))
        atomic_write_bytes(picture_path(site.folder, group, requests), sheet(rows), mode=0o600)
        made += 1
    return Message(RecordDict({METRICS: MetricRecord({"num-examples": made})}), reply_to=message)


def picture_path(folder: Path, group: str, requests: list[str]) -> Path:
    """Where a client keeps the picture of a group: "forget", "retain" or "unseen"."""
    return kept_path(folder, f"picture-{group}", requests, ".png")


def _groups(site: Site, requests: list[str]) -> dict[str, Samples]:
    positions = site.forget_positions(requests)
    # Some of every part, so that what was planted is seen beside what was not.
    parts = site.holding.parts[positions]
    ranks = {int(p): r for part in set(parts.tolist()) for r, p in enumerate(positions[parts == part])}
    some = sorted(ranks, key=lambda position: (ranks[position], position))[:SHOWN]
    groups = {
        "forget": site.holding.samples.take(some),
        "retain": site.training_samples(),
        "unseen": site.held_out_samples(),
    }
    return {group: samples.take(range(min(SHOWN, len(samples)))) for group, samples in groups.items()}


@torch.no_grad()
def _rows(
    site: Site, task: ImageToImageTask, samples: Samples, models: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    images = task.inputs(samples.inputs)
    rows = {"input": task.degrade(images)[:, :-1], "true image": images}
    for label, state in models.items():
        model = site.load(state)
        with modes_kept(model):
            model.eval()
            rows[label] = task.reconstruct(model, images)
    return rows


def sheet(rows: Mapping[str, Tensor]) -> bytes:
    """One picture, PNG: a row for each entry, its name in front, and a column for each image.

    Args:
        rows: name -> images, N x C x H x W, 0 to 1, of one shape.
    """
    first = next(iter(rows.values()))
    scale = max(1, -(-SIDE // max(first.shape[2:])))
    height, width = (side * scale for side in first.shape[2:])
    picture = Image.new("RGB", (LABEL + len(first) * (width + GAP), len(rows) * (height + GAP)), "white")
    draw = ImageDraw.Draw(picture)
    for row, (name, images) in enumerate(rows.items()):
        top = row * (height + GAP)
        draw.text((GAP, top + height // 2), name, fill="black", anchor="lm", font_size=14)
        for column, image in enumerate(images):
            values = (image.clamp(0, 1) * 255).round().to(torch.uint8).expand(3, -1, -1)
            tile = Image.fromarray(values.movedim(0, -1).contiguous().numpy())
            picture.paste(tile.resize((width, height), Image.Resampling.NEAREST), (LABEL + column * (width + GAP), top))
    data = BytesIO()
    picture.save(data, format="png", optimize=True)
    return data.getvalue()
