"""What only a simulation can measure, because it pools the clients' data: linear probe and relearning time.

Both ask whether only the head was fooled; both are to be compared with the retrained model's own value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from fedunlearn.audit.probe import linear_probe
from fedunlearn.audit.relearn import relearn_steps
from fedunlearn.clients.inbox import Inbox
from fedunlearn.data.dataset import Samples
from fedunlearn.data.holding import holding
from fedunlearn.server.session import Session
from fedunlearn.strategies.method import ModelState
from fedunlearn.tasks.randomness import seeded_generator
from fedunlearn.tasks.training import evaluate

RELEARNED = 0.9
"""Share of the original's accuracy on the forget set that counts as relearned."""
PROBE_EPOCHS, PROBE_SAMPLES, RELEARN_SAMPLES, MOST_EPOCHS = 10, 2000, 500, 5


def pooled_audit(
    session: Session, ids: Sequence[str], original: ModelState, model: ModelState, classes: Sequence[int]
) -> dict[str, Any]:
    """Probe accuracy on the forgotten classes (overall where none is named), and steps until relearned.

    The probe's new head is trained on all clients' data, the forget set included: it asks what the frozen
    features still hold. `relearn_steps` is None where `MOST_EPOCHS` passes do not reach it.
    """
    everything, forgotten = _pool(session, ids)
    seed = session.settings.seed
    some = seeded_generator(seed, "probe")
    blank, layout = session.blank, session.architecture.layout
    blank.load_state_dict(model)
    probe = linear_probe(
        session.task,
        blank,
        layout.output_layer,
        _some(everything, PROBE_SAMPLES, seed),
        session.dataset.test,
        PROBE_EPOCHS,
        some,
        classes=len(session.dataset.classes),
    )
    forgotten = _some(forgotten, RELEARN_SAMPLES, seed)
    blank.load_state_dict(original)
    answers = evaluate(session.task, blank, forgotten)
    known = float((answers.predictions == forgotten.labels).double().mean())
    blank.load_state_dict(model)
    steps = relearn_steps(
        session.task,
        blank,
        forgotten,
        session.training,
        RELEARNED * known,
        MOST_EPOCHS,
        seeded_generator(seed, "relearn"),
    )
    return {
        "probe_accuracy": probe.over(classes) if classes else probe.overall,
        "relearn_steps": steps,
    }


def _pool(session: Session, ids: Sequence[str]) -> tuple[Samples, Samples]:
    everything, forgotten = [], []
    for client in range(session.settings.clients):
        own = holding(session.settings, client, session.dataset)
        everything.append(own.samples)
        for request in Inbox(session.folder.client(client)).all():
            if request.id in ids:
                forgotten.append(own.samples.take(list(request.positions)))
    return Samples.concat(everything), Samples.concat(forgotten)


def _some(samples: Samples, most: int, seed: int) -> Samples:
    order = torch.randperm(len(samples), generator=seeded_generator(seed, "some"))
    return samples.take(order[:most])
