"""What only a simulation can measure, because it pools the clients' data: linear probe and relearning time.

Both ask whether only the head was fooled; both are to be compared with the retrained model's own value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from fedunlearn.audit.probe import linear_probe
from fedunlearn.audit.relearn import relearn_steps
from fedunlearn.clients.inbox import Inbox
from fedunlearn.data.dataset import Samples
from fedunlearn.data.holding import holding
from fedunlearn.errors import RequestError
from fedunlearn.server.session import Session
from fedunlearn.strategies.method import ModelState
from fedunlearn.tasks.randomness import seeded_generator
from fedunlearn.tasks.training import evaluate

RELEARNED = 0.9
"""Share of the original's accuracy on the forget set that counts as relearned."""
LOSS_AGAIN = 1.1
"""Of the original's loss on the forget set, where there is no accuracy."""
PROBE_EPOCHS, PROBE_SAMPLES, RELEARN_SAMPLES, MOST_EPOCHS = 10, 2000, 500, 5


def pooled_audit(
    session: Session, ids: Sequence[str], original: ModelState, model: ModelState, classes: Sequence[int]
) -> dict[str, Any]:
    """Probe accuracy on the forgotten classes (overall where none is named), and steps until relearned.

    The probe's new head is trained on all clients' data, the forget set included: it asks what the frozen
    features still hold; None for a task that answers with no classes, which is relearned when the original's loss is
    back. `relearn_steps` is None where `MOST_EPOCHS` passes do not reach it.
    """
    everything, forgotten = _pool(session, ids)
    seed, blank = session.settings.seed, session.blank
    forgotten = _some(forgotten, RELEARN_SAMPLES, seed)
    blank.load_state_dict(original)
    answers = evaluate(session.task, blank, forgotten)
    figure: Literal["accuracy", "loss"] = "loss"
    threshold, probed = LOSS_AGAIN * float(answers.losses.double().mean()), None
    if answers.scores is not None:
        right = float((answers.predictions == forgotten.labels).double().mean())
        figure, threshold = "accuracy", RELEARNED * right
        probed = _probe(session, _some(everything, PROBE_SAMPLES, seed), model, classes)
    blank.load_state_dict(model)
    generator = seeded_generator(seed, "relearn")
    steps = relearn_steps(
        session.task, blank, forgotten, session.training, threshold, MOST_EPOCHS, generator, figure=figure
    )
    return {"probe_accuracy": probed, "relearn_steps": steps}


def _probe(session: Session, samples: Samples, model: ModelState, classes: Sequence[int]) -> float | None:
    session.blank.load_state_dict(model)
    probe = linear_probe(
        session.task,
        session.blank,
        session.architecture.layout.output_layer,
        samples,
        session.dataset.test,
        PROBE_EPOCHS,
        seeded_generator(session.settings.seed, "probe"),
        classes=len(session.dataset.classes),
    )
    return probe.over(classes) if classes else probe.overall


def mostly_held_classes(session: Session, ids: Sequence[str], share: float = 0.5) -> list[str]:
    """Names of the classes of which at least `share` of all training samples are to be forgotten.

    What counts are the labels before anything was planted.
    """
    dataset = session.dataset
    total = torch.zeros(len(dataset.classes), dtype=torch.int64)
    forgotten = torch.zeros_like(total)
    for client in range(session.settings.clients):
        own = holding(session.settings, client, dataset)
        positions = filed_positions(session, ids, client)
        total += own.true_labels.bincount(minlength=len(dataset.classes))
        forgotten += own.true_labels[torch.from_numpy(positions)].bincount(minlength=len(dataset.classes))
    mostly = (total > 0) & (forgotten >= share * total)
    return [name for name, is_there in zip(dataset.classes, mostly.tolist(), strict=True) if is_there]


def _pool(session: Session, ids: Sequence[str]) -> tuple[Samples, Samples]:
    """All clients' samples, and those to be forgotten. Raises RequestError when there are none."""
    everything, forgotten = [], []
    for client in range(session.settings.clients):
        own = holding(session.settings, client, session.dataset)
        everything.append(own.samples)
        forgotten.append(own.samples.take(filed_positions(session, ids, client)))
    pooled = Samples.concat(forgotten)
    if not len(pooled):
        raise RequestError(f"no client's folder here holds the request {'+'.join(ids)}; pooling needs all of them.")
    return Samples.concat(everything), pooled


def filed_positions(session: Session, ids: Sequence[str], client: int) -> np.ndarray:
    """Sorted positions of a client's samples that the requests name, each once."""
    requests = Inbox(session.folder.client(client)).all()
    positions = [position for request in requests if request.id in ids for position in request.positions]
    return np.unique(np.asarray(positions, dtype=np.int64))


def _some(samples: Samples, most: int, seed: int) -> Samples:
    order = torch.randperm(len(samples), generator=seeded_generator(seed, "some"))
    return samples.take(order[:most])
