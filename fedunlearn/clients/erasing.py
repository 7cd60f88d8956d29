"""Erasing what a client has stored beside its data: models that still know the forgotten samples, scores and pictures.

The inbox stays, because it is what keeps the samples out; the samples themselves are the client's own affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flwr.app import Message, MetricRecord, RecordDict

from fedunlearn.clients.handlers import kept_path
from fedunlearn.clients.preparing import prepared_files
from fedunlearn.clients.site import Site
from fedunlearn.errors import ClientError
from fedunlearn.files import told_as_sentence
from fedunlearn.strategies.content import CONFIG, METRICS


def erase(message: Message, site: Site) -> Message:
    """Delete every model that the server does not name as clean, and what was kept for the requests.

    That is the attributions, and pictures of the images.

    A client that filed the erased request also loses what it prepared from its samples while the federation trained.

    The message says "keep" (digests), "served" (the requests of each job that the erased one was part of, joined by
    "+") and "dry-run" (only count).
    """
    config = message.content.config_records.get(CONFIG)
    keep, jobs = (config.get(name) if config else None for name in ("keep", "served"))
    if config is None or not isinstance(keep, list) or not isinstance(jobs, list):
        raise ClientError("a message to erase does not say what to keep; nothing was erased.")
    models = [path for path in site.base_models.paths() if path.stem not in keep]
    files = [path for job in jobs for path in kept_files(site.folder, str(job).split("+"))]
    # The request that is erased is the one that all of its jobs have in common.
    erased = set.intersection(*(set(str(job).split("+")) for job in jobs)) if jobs else set()
    if erased & {request.id for request in site.inbox.all()}:
        files += prepared_files(site.folder)
    if not bool(config.get("dry-run", True)):
        for path in (*models, *files):
            with told_as_sentence(path, "deleted"):
                path.unlink(missing_ok=True)
    counts = MetricRecord({"models": len(models), "files": len(files)})
    return Message(RecordDict({METRICS: counts}), reply_to=message)


def kept_files(folder: Path, requests: Sequence[str]) -> list[Path]:
    """Files in which a client keeps what it computed for a job of `requests`, whatever their names begin with.

    Raises:
        RequestError: one of `requests` can be no request's id.
    """
    endings = tuple(kept_path(folder, "", requests, suffix).name for suffix in (".npz", ".png"))
    return sorted(path for path in folder.glob("[!.]*") if path.name.endswith(endings))
