"""Figures that were measured already: of each model, on the forget set of one job, by digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from fedunlearn import __version__
from fedunlearn.errors import RunFolderError
from fedunlearn.files import atomic_write_json, make_folder, read_json
from fedunlearn.server.primary_figures import Figure

FORMAT = 1
"""Of the figures: another number measures everything again."""

_LONGEST_NAME = 200


class FigureStore:
    """One file a job in the run's folder of audits. A damaged one, or one of another version, counts as empty."""

    def __init__(self, folder: Path, requests: Sequence[str], clients: Sequence[int]) -> None:
        """Use the file of a job.

        Args:
            folder: of the audits; made if it is not there.
            requests: ids of the job's requests.
            clients: targets that are there to measure: what others measured is not compared with it.
        """
        self._path = make_folder(folder) / f"figures-{file_name(requests)}.json"
        self._made_by = {"format": FORMAT, "fedunlearn": __version__, "clients": sorted(clients)}

    def get_or_measure(self, digest: str, measure: Callable[[], dict[str, Figure]]) -> dict[str, Figure]:
        """The figures of a model; `measure` is called for one that is not there, and its answer kept."""
        known = self._read()
        if digest not in known:
            known = {**known, digest: measure()}
            figures = {one: {name: asdict(f) for name, f in own.items()} for one, own in known.items()}
            atomic_write_json(self._path, {**self._made_by, "figures": figures})
        return known[digest]

    def _read(self) -> dict[str, dict[str, Figure]]:
        if not self._path.is_file():
            return {}
        try:
            content = read_json(self._path)
            if {name: content[name] for name in self._made_by} != self._made_by:
                return {}
            return {
                digest: {name: Figure(**one) for name, one in figures.items()}
                for digest, figures in content["figures"].items()
            }
        except (RunFolderError, KeyError, TypeError, AttributeError):
            return {}


def file_name(requests: Sequence[str]) -> str:
    """A job's requests as a part of a file's name, which has at most 255 bytes."""
    joined = "+".join(sorted(requests))
    return joined if len(joined) <= _LONGEST_NAME else hashlib.sha256(joined.encode()).hexdigest()
