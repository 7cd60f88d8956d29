"""Writing a comparison into a folder: the page, the numbers, the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedunlearn.errors import DataError
from fedunlearn.files import atomic_write_bytes, json_bytes, make_folder
from fedunlearn.reports.audit_trail import AuditDocument, AuditTrail
from fedunlearn.reports.document import Document, clean
from fedunlearn.reports.page import page
from fedunlearn.reports.page_audit import audit_of
from fedunlearn.reports.plots import Picture, draw, draw_verdict
from fedunlearn.reports.table import csv_text, markdown


def write_report(
    document: Document, folder: Path | str, trail: AuditTrail | None = None, images: Sequence[Picture] = ()
) -> tuple[Path, ...]:
    """Write the report of a comparison and return the files, the HTML page first.

    `report.html` needs no other file and no network; `comparison.json`, `.csv` and `.md` hold the same
    numbers, and `figures/` the pictures. Files of an earlier report are replaced, each at once; pictures that
    this document has no numbers for are removed.

    Args:
        document: the dict of `compare --json`; values and models that are missing are left out.
        trail: audits and certificates of the run; with an audit of the compared request the page begins with its
            verdict. None: there are none.
        images: further pictures for the page, of clients' own images; they are written into no other file.

    Raises:
        RunFolderError: a file cannot be written.
    """
    folder = make_folder(Path(folder))
    figures = make_folder(folder / "figures")
    document = clean(document)
    trail = trail or AuditTrail()
    audit = audit_of(document, trail)
    strips = None if audit is None else _strips(audit)
    pictures = [*([] if strips is None else [strips]), *draw(document)]
    files = {
        folder / "report.html": page(document, pictures, trail, images).encode(),
        folder / "comparison.json": json_bytes(document),
        folder / "comparison.csv": csv_text(document).encode(),
        folder / "comparison.md": markdown(document).encode(),
        **{figures / f"{picture.name}.png": picture.data for picture in pictures},
    }
    for path, data in files.items():
        atomic_write_bytes(path, data)
    for old in set(figures.glob("*.png")) - set(files):
        old.unlink()
    return tuple(files)


def _strips(audit: AuditDocument) -> Picture | None:
    """The picture of a verdict; None for a damaged audit, which the page names."""
    try:
        return draw_verdict(audit)
    except DataError:
        return None
