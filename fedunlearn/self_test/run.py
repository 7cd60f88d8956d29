"""Runs the self-test: makes or finds the models, measures, scores, and writes the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedunlearn import auditing
from fedunlearn.audit.primary import primary_metrics
from fedunlearn.engines.mapping import map_jobs
from fedunlearn.errors import SettingsError
from fedunlearn.files import atomic_write_bytes, atomic_write_json, make_folder
from fedunlearn.progress import OnProgress, Progress
from fedunlearn.reports.document import clean
from fedunlearn.reports.provenance import environment
from fedunlearn.reports.self_test_tables import markdown, self_test_table
from fedunlearn.self_test.cases import CASES, Case
from fedunlearn.self_test.models import measure, session_of
from fedunlearn.self_test.scoring import pooled, score
from fedunlearn.server.judging import case_of, planted_parts

if TYPE_CHECKING:
    from rich.console import Group

MODELS, REPETITIONS = 30, 20
BANDS = (8, 20)
SEED = 0
"""Of the draws."""


@dataclass(frozen=True)
class SelfTest:
    """The self-test's document, as `audit --self-test --json` prints it."""

    document: Mapping[str, Any]

    @property
    def met(self) -> bool:
        """Whether all that was asked holds, with the first size of band."""
        return bool(self.document["met"])

    def table(self) -> Group:
        """What the terminal shows."""
        return self_test_table(self.document)


def run_self_test(
    out: Path | str,
    *,
    models: int | None = None,
    repetitions: int | None = None,
    band: int | None = None,
    processes: int | None = None,
    cases: Sequence[Case] = CASES,
    on_progress: OnProgress | None = None,
) -> SelfTest:
    """Run the self-test in a folder; what is finished there is not done again.

    Args:
        out: gets `runs/`, `self-test.json` and `self-test.md`.
        models: retrained models of each case; None: 30.
        repetitions: bands that are drawn; None: 20.
        band: their size; None: 8, and 20 as well where there are enough models.
        processes: at a time; None: one a core.

    Raises:
        SettingsError: a number is out of range. FedunlearnError: a job did not work; what was finished is kept.
    """
    models, repetitions = models or MODELS, repetitions or REPETITIONS
    bands = [band] if band is not None else [size for size in BANDS if size < models]
    if not bands or not 2 <= min(bands) <= max(bands) < models or repetitions < 1:
        raise SettingsError(
            f"models = {models}, band = {band}, repetitions = {repetitions}: expected a band of 2 or more and at least "
            "one more model than that."
        )
    folder = make_folder(Path(out).absolute())

    def tell(phase: str, step: int, total: int, detail: str = "") -> None:
        if on_progress is not None:
            on_progress(Progress(phase, step, total, detail))

    done = 0

    def prepared(index: int, found: Mapping[str, Any]) -> None:
        nonlocal done
        done += 1
        tell("training and shortcuts", done, len(cases), cases[index].name)

    tell("training and shortcuts", 0, len(cases))
    jobs = [{"case": case.model_dump(mode="json"), "out": str(folder)} for case in cases]
    made = map_jobs("fedunlearn.self_test.models:prepare", jobs, processes, prepared)
    parts = {}
    for case, found in zip(cases, made, strict=True):
        parts[case.name] = _case(case, found, folder, models, repetitions, bands, processes, on_progress)
    met = all(
        all(entry["asked"].values())
        for part in parts.values()
        for entry in part["bands"][str(bands[0])]["subjects"].values()
    )
    document = clean(
        {
            "date": datetime.now(UTC).date().isoformat(),
            "environment": environment(),
            "models": models,
            "repetitions": repetitions,
            "cases": parts,
            "met": met and all(part["far_enough"] for part in parts.values()),
        }
    )
    atomic_write_json(folder / "self-test.json", document)
    atomic_write_bytes(folder / "self-test.md", markdown(document).encode())
    return SelfTest(document)


def _case(
    case: Case,
    found: Mapping[str, Any],
    folder: Path,
    models: int,
    repetitions: int,
    bands: Sequence[int],
    processes: int | None,
    on_progress: OnProgress | None,
) -> dict[str, Any]:
    request, digests = str(found["request"]), dict(found["digests"])
    session = session_of(case, folder, on_progress)
    with session.folder.locked("self-test"):
        pool = auditing.make_band(session, [request], models, processes)
        judged = case_of(session, [request])
        figures = measure(case, folder, request, [judged.original, *digests.values(), *pool])
    original = figures[judged.original]
    metrics = pooled(
        primary_metrics(judged.job.scopes, planted_parts(original)),
        original,
        [figures[digest] for digest in pool],
        {name: figures[digest] for name, digest in digests.items()},
    )
    return {
        "federation": case.federation,
        "request": {**case.request, "id": request},
        "method": case.method.model_dump(mode="json"),
        "digests": {"original": judged.original, **digests, "retrained": list(pool)},
        **score(case, metrics, bands, repetitions, SEED),
    }
