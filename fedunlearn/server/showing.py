"""Having clients render what models make of their images; the pictures stay with them."""

from __future__ import annotations

from collections.abc import Mapping

from flwr.app import ConfigRecord, RecordDict
from flwr.serverapp import Grid

from fedunlearn.channels.packing import digest_state
from fedunlearn.server.session import Session
from fedunlearn.strategies.content import CONFIG, state_record
from fedunlearn.strategies.exchange import exchange
from fedunlearn.strategies.measurement import PICTURES, model_record_name
from fedunlearn.strategies.method import ModelState
from fedunlearn.strategies.roster import Roster
from fedunlearn.strategies.serving import Job
from fedunlearn.tasks.base import ImageToImageTask


def have_pictures_made(
    grid: Grid, session: Session, roster: Roster, job: Job, models: Mapping[str, ModelState], base: ModelState
) -> tuple[int, ...]:
    """Who rendered pictures: the targets that are there, and one client that keeps samples; none for other tasks.

    A client that cannot is written into the ledger and left out.

    Args:
        models: what the pictures call each model -> its state.
        base: a model that clients keep by digest.
    """
    if not isinstance(session.task, ImageToImageTask):
        return ()
    asked = {client for client in job.targets if client in roster.members}
    others = [client for client in roster.retaining() if client not in asked]
    asked |= set(others[:1])
    digests = [digest_state(model) for model in models.values()]
    held = digest_state(base)
    config = {"base": held, "requests": list(job.requests), "models": digests, "labels": list(models)}
    content = RecordDict({CONFIG: ConfigRecord(config)})  # type: ignore[arg-type]
    for position, model in enumerate(models.values()):
        if digests[position] != held:
            content[model_record_name(position)] = state_record(model)
    contents = dict.fromkeys(sorted(asked), content)
    outcome = exchange(grid, roster, PICTURES, contents, session.settings.timeout, base=state_record(base))
    for client, sentence in outcome.dropped:
        session.ledger.append_event("pictures-missing", {"client": client, "why": sentence}, "+".join(job.requests))
    return tuple(answer.client for answer in outcome.answers)
