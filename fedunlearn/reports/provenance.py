"""What a table was made with: versions, machine, settings, digests of the models."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import fedunlearn
from fedunlearn.reports.document import Document, models_of

PACKAGES = ("fedunlearn", "flwr", "torch", "torchvision", "numpy", "captum")


def environment() -> dict[str, Any]:
    """Package versions, the package's own source by digest, Python and the machine; None for what is not known."""
    return {
        "packages": {name: _version(name) for name in PACKAGES},
        "source": source_digest(Path(fedunlearn.__file__).parent),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "memory": _memory(),
    }


def _processor() -> str | None:
    """The processor's model name. Linux tells it in a file, and `platform` only the machine's kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (named[0] if named else platform.processor()) or None


def _memory() -> int | None:
    """Bytes of main memory."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not every system tells
        return None


def source_digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of all Python files under `folder`, sorted by name.

    A version number stays the same while the source changes; this does not.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).as_posix()):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def provenance(documents: Iterable[Document], date: str) -> dict[str, Any]:
    """How a benchmark's documents came about.

    Args:
        documents: comparisons with "cell" and "seed", and with "environment" where it is known.
        date: of the writing, ISO 8601.

    Returns:
        "date"; "environments": each with the runs that were made in it; "runs": cell, seed, settings,
        request, method, controls, methods and model digests of each.
    """
    environments: list[dict[str, Any]] = []
    runs = []
    for document in documents:
        found = document.get("environment")
        if found is not None:
            run = run_name(document)
            same = next((one for one in environments if {**one, "runs": None} == {**found, "runs": None}), None)
            if same is None:
                environments.append({**found, "runs": [run]})
            else:
                same["runs"].append(run)
        runs.append(
            {
                "cell": document["cell"],
                "seed": document["seed"],
                "settings": document.get("run"),
                "request": document.get("request"),
                "method": document.get("method"),
                "controls": (document.get("asked") or {}).get("controls"),
                "methods": {name: one["settings"] for name, one in (document.get("methods") or {}).items()} or None,
                "digests": {name: model.get("digest") for name, model in models_of(document).items()},
            }
        )
    return {"date": date, "environments": environments, "runs": runs}


def run_name(document: Document) -> str:
    """The run's cell and seed, for people."""
    return f"{document['cell']} seed {document['seed']}".strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
