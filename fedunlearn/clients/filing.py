"""Filing a deletion request in a client's own inbox; from that moment its samples are out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedunlearn.announcement import Scope
from fedunlearn.clients.inbox import FiledRequest, Inbox
from fedunlearn.data.holding import Holding
from fedunlearn.errors import RequestError, SettingsError


def file_request(
    folder: Path,
    holding: Holding,
    classes: Sequence[int] | None = None,
    samples: Sequence[int] | None = None,
    everywhere: str | None = None,
    holders: int = 1,
) -> FiledRequest:
    """File a request of this client and return it.

    Args:
        folder: the client's own folder.
        holding: the client's samples; `samples` are indices into them.
        classes: forget this client's samples of these classes.
        samples: forget these samples. Neither: the whole client.
        everywhere: id of a request that every holder of `classes` files; None for this client alone.
        holders: how many clients file that request; the server waits until all have.

    Raises:
        RequestError: a class or sample that the client does not hold, nothing new to forget, nothing that was
            ever trained on, or nothing left.
    """
    if classes is not None and samples is not None:
        raise SettingsError("a request names classes or samples, not both; file two requests.")
    positions = holding.select(classes=classes, samples=samples)
    inbox = Inbox(folder)
    scope: Scope = "client"
    if everywhere is not None:
        scope = "class-everywhere"
    elif classes is not None:
        scope = "classes"
    elif samples is not None:
        scope = "samples"
    for known in inbox.all():
        if known.state != "refused" and np.array_equal(known.positions, positions):
            return known
    forgotten = inbox.forgotten_positions()
    if np.isin(positions, forgotten).all():
        raise RequestError(
            f"client {holding.client} has already asked to forget all {len(positions)} of these samples; "
            "name samples that are still in use."
        )
    if np.isin(positions, holding.held_out).all():
        raise RequestError(
            f"none of these {len(positions)} samples of client {holding.client} was ever trained on, so that there "
            "is nothing to forget; they are among the samples that it holds out."
        )
    # A whole client may go; a client that stays must keep something to train on.
    leaves = len(holding.training_positions(np.union1d(forgotten, positions)))
    if scope in ("classes", "samples") and leaves == 0:
        raise RequestError(
            f"the request would leave client {holding.client} without a sample to train on; "
            "ask to forget the whole client instead."
        )
    # An id says nothing of the samples: a hash of them could be guessed.
    id = everywhere or f"client-{holding.client}-{len(inbox.all()) + 1}"
    request = FiledRequest.make(
        holding.client, scope, positions.tolist(), None if scope in ("client", "samples") else classes, id, holders
    )
    inbox.file(request)
    return request
