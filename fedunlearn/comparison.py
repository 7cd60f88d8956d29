"""The comparison of a request: its document, made of what the server and, in simulation, the client know."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedunlearn.clients.handlers import kept_path
from fedunlearn.clients.pictures import picture_path
from fedunlearn.files import atomic_write_json, make_folder, read_json, told_as_sentence
from fedunlearn.reports.document import clean
from fedunlearn.server.branches import classes_of, mask_of, unlearned_branch
from fedunlearn.server.ledger_tables import RequestRow
from fedunlearn.server.session import Session

if TYPE_CHECKING:
    from rich.console import Group

    from fedunlearn.reports.audit_trail import AuditTrail
    from fedunlearn.reports.plots import Picture


IMAGES = {"forget": "Images to be forgotten", "retain": "Images that stay", "unseen": "Images nobody trained on"}
CAPTION = (
    "What the model is fed, the image as it is, and what each model makes of it. These are the client's own images: it "
    "rendered them, and they lie in its folder. This page shows them because all of it is a simulation on one machine; "
    "in a deployment they stay with the client."
)


@dataclass(frozen=True)
class Comparison:
    """Original, unlearned, retrained, fine-tuned and retrained-at-the-same-budget, side by side.

    Attributes:
        document: everything, as `compare --json` prints it.
    """

    document: Mapping[str, Any]

    def table(self) -> Group:
        """The answer as a table for the terminal."""
        from fedunlearn.reports.table import comparison_table

        return comparison_table(self.document)

    def save(self, folder: Path | str, trail: AuditTrail | None = None, images: Sequence[Picture] = ()) -> list[Path]:
        """Write the page, JSON, CSV, Markdown and figures; return what was written.

        Args:
            trail: audits and certificates of the run, for the page; None: there are none.
            images: what clients rendered of their own images, for the page.
        """
        from fedunlearn.reports.write import write_report

        return list(write_report(self.document, Path(folder), trail, images))


def comparison_document(
    session: Session,
    ids: Sequence[str],
    figures: Mapping[str, Any],
    pooled: bool = False,
    earlier: Sequence[str] = (),
) -> dict[str, Any]:
    """What `compare --json` prints.

    Args:
        figures: what `fedunlearn.server.comparing.compare` found for the requests `ids`.
        pooled: add linear probe and relearning time to each model.
        earlier: requests that were served before, and that the figures are about as well.
    """
    served = [session.ledger.request(id) for id in ids]
    ids = [*earlier, *ids]
    rows = [session.ledger.request(id) for id in ids]
    names, classes = session.dataset.classes, classes_of(rows)
    models = dict(figures["models"])
    if pooled:
        models = _with_pooled(session, ids, models, classes or ())
    return {
        "run": session.settings.model_dump(mode="json"),
        "request": {
            "id": "+".join(ids),
            "scope": rows[0].scope if len({row.scope for row in rows}) == 1 else "several",
            "clients": sorted({target for row in rows for target in row.targets}),
            "classes": None if classes is None else [names[one] for one in classes],
            "count": sum(row.count for row in rows),
        },
        **figures,
        "models": models,
        "attribution": _attribution(session, served, figures["method"]),
    }


def keep_comparison(session: Session, ids: Sequence[str], document: Mapping[str, Any]) -> Comparison:
    """Keep a comparison of these requests in the run folder, in the place of the last one."""
    atomic_write_json(_comparison_path(session, ids), clean(document))
    return Comparison(document)


def kept_comparison(session: Session, ids: Sequence[str], method: str | None = None) -> Comparison | None:
    """The last comparison of these requests; None where there is none, or it is of another unlearned model.

    Args:
        method: whose unlearned model is meant; None: the last one's.

    Raises:
        RequestError: the requests have not been served, or not by this method.
    """
    unlearned = unlearned_branch(session, ids, method)
    path = _comparison_path(session, ids)
    found = Comparison(read_json(path)) if path.is_file() else None
    if found is None or found.document["models"]["unlearned"]["digest"] != unlearned.head:
        return None
    return found


def _comparison_path(session: Session, ids: Sequence[str]) -> Path:
    joined = "+".join(sorted(ids))
    # A file name has at most 255 bytes.
    name = joined if len(joined) <= 200 else hashlib.sha256(joined.encode()).hexdigest()
    return make_folder(session.folder.audit) / f"comparison-{name}.json"


def _with_pooled(
    session: Session, ids: Sequence[str], models: Mapping[str, Any], classes: Sequence[int]
) -> dict[str, Any]:
    from fedunlearn.pooled_audit import pooled_audit

    states = {kind: session.models.load(shown["digest"]) for kind, shown in models.items()}
    return {
        kind: {**shown, **pooled_audit(session, ids, states["original"], states[kind], classes)}
        for kind, shown in models.items()
    }


def _attribution(session: Session, rows: list[RequestRow], method: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first target's scores beside the reference: in simulation its folder is here to be read."""
    first = session.folder.client(min(target for row in rows for target in row.targets))
    path = kept_path(first, "attribution", sorted(row.id for row in rows))
    if method["selected"] is None or not path.is_file():
        return None
    mask = mask_of(session, unlearned_branch(session, [row.id for row in rows], method["name"]))
    shown = {}
    with np.load(path, allow_pickle=False) as scores:
        for group in session.architecture.layout.groups:
            chosen = mask.selected.get(group.layer) if mask is not None else None
            shown[group.layer] = {
                "forget": scores[f"forget:{group.layer}"].tolist(),
                "reference": scores[f"reference:{group.layer}"].tolist(),
                "selected": [] if chosen is None else chosen.tolist(),
            }
    return shown


def client_pictures(session: Session, ids: Sequence[str]) -> list[Picture]:
    """What the clients of a simulation rendered of their own images for a job; elsewhere it stays with them.

    Raises:
        RunFolderError: a file cannot be read.
    """
    from fedunlearn.reports.plots import Picture

    if not session.folder.clients.is_dir():
        return []
    requests = sorted(ids)
    found = []
    for folder in sorted(session.folder.clients.iterdir(), key=lambda one: one.name.zfill(9)):
        for group, title in IMAGES.items():
            path = picture_path(folder, group, requests)
            if path.is_file():
                with told_as_sentence(path, "read"):
                    data = path.read_bytes()
                found.append(
                    Picture(f"images-{group}-{folder.name}", f"{title} of client {folder.name}", CAPTION, data)
                )
    return found
