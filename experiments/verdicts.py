"""The verdicts on the main tests: unseen requests, each judged against a fresh band of retrained models.

    python experiments/verdicts.py --out DIR [--band 8] [--processes N] [--experiments NAME ...]

Settings and the rules that choose a client are those of the experiment files beside this one; the seeds are new to all
of them and to `docs/research/diffuse-influence.md`. An original whose plant did not take, and a partition in which no
client fits the rule, are replaced by the next seed of the list, and named. What DIR holds already is not done again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedunlearn.benchmark import choose_client
from fedunlearn.engines.mapping import map_jobs
from fedunlearn.errors import FedunlearnError, SettingsError
from fedunlearn.experiment import Run, read_experiment
from fedunlearn.federation import Federation
from fedunlearn.files import atomic_write_bytes, atomic_write_json, make_folder, read_json
from fedunlearn.progress import PlainLines, Progress
from fedunlearn.reports.provenance import environment
from fedunlearn.reports.verdict_table import HEADS, WORDS, markdown_table, rows
from fedunlearn.server.comparing import TAKEN

HERE = Path(__file__).parent
SLOTS = 3
"""Requests of each experiment that are judged."""
SEEDS: dict[str, list[int]] = {
    # The largest client holds a fifth of the training data and more: chosen from the partition alone.
    "backdoor-mnist5k": [1286, 1315, 1329, 1361, 1375, 1383, 1395, 1408, 1493],
    "clean-mnist5k": [*range(203, 211), *range(212, 219)],
    # The largest client holds 18 % and more, as in the experiment itself.
    "canaries-mnist5k": [1526, 1532, 1537, 1493, 1408, 1421],
    "class-mnist5k": [*range(200, 211), *range(212, 219)],
}
"""Experiment -> seeds; slot i takes the first that will do of every third, beginning with the i-th."""


def judge(job: Mapping[str, Any]) -> dict[str, Any]:
    """One slot: the first seed whose federation will do is trained, asked, unlearned and audited.

    Args:
        job: "experiment", "seeds", "out", "band".

    Raises:
        FedunlearnError: no seed will do.
    """
    experiment, out = str(job["experiment"]), Path(job["out"])
    plan = read_experiment(HERE / f"{experiment}.toml")
    passed_over: list[dict[str, Any]] = []
    for seed in job["seeds"]:
        found = out / "slots" / f"{experiment}-{seed}-band{job['band']}.json"
        if not found.is_file():
            atomic_write_json(found, _one(Run(plan, plan.cells[0], seed), out / "runs" / f"{experiment}-{seed}", job))
        answer = read_json(found)
        if answer["void"] is None:
            return {**answer, "passed_over": passed_over}
        passed_over.append({"seed": seed, "why": answer["void"]})
    raise FedunlearnError(f"none of the seeds {job['seeds']} will do for {experiment}; give it more.")


def _one(run: Run, folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    request, client = run.request(), None
    answer: dict[str, Any] = {"experiment": run.experiment.name, "seed": run.seed, "void": None}
    try:
        if isinstance(request.client, str):
            plain = run.federation(0).model_copy(update={"backdoor": None, "canaries": None})
            client = choose_client(request.client, plain)
    except SettingsError as error:
        return {**answer, "void": str(error)}
    federation = Federation.simulate(out=folder, **run.federation(client).model_dump())
    federation.train()
    filed = federation.request_deletion(client=client, classes=request.classes, samples=request.samples)
    federation.unlearn_with(filed, run.method(client))
    # Without a band first: a void original is not worth one.
    for entry in federation.audit(filed, "quick").document["primary"]:
        if entry["metric"] in ("backdoor_success", "canary_exposure") and entry["original"] < TAKEN:
            return {**answer, "void": f"the original's {entry['metric']} is {entry['original']:.3f}, below {TAKEN}."}
    audit = federation.audit(filed, band=int(job["band"]), restore=False).document
    return {**answer, "audit": {**audit, "environment": environment()}}


def markdown(answers: Sequence[Mapping[str, Any]], band: int) -> str:
    """A line a request, then metric by metric."""
    lines = [f"# Verdicts against a fresh band of {band} retrained models", ""]
    summary = []
    for one in answers:
        audit = one["audit"]
        outcomes = [f"{entry['metric']} {entry['outcome']}" for entry in audit["primary"]]
        summary.append((one["experiment"], str(one["seed"]), WORDS[audit["verdict"]], ", ".join(outcomes)))
    lines += markdown_table(("request", "seed", "verdict", "metrics"), summary)
    for one in answers:
        audit = one["audit"]
        lines += [
            "",
            f"## {one['experiment']}, seed {one['seed']}",
            "",
            f"**{WORDS[audit['verdict']]}**: {audit['why']}",
        ]
        lines += ["", *markdown_table(HEADS, rows(audit))]
        lines += [f"\nPassed over: seed {void['seed']} ({void['why']})" for void in one["passed_over"]]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Judge every slot and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and tables")
    parser.add_argument("--band", type=int, default=8, help="retrained models of each request")
    parser.add_argument("--processes", type=int, default=None, help="requests at a time; one a core")
    parser.add_argument("--experiments", nargs="*", default=list(SEEDS), choices=list(SEEDS), help="all of them")
    arguments = parser.parse_args()
    out = make_folder(arguments.out.absolute())
    make_folder(out / "slots")
    jobs = [
        {"experiment": name, "seeds": SEEDS[name][slot::SLOTS], "out": str(out), "band": arguments.band}
        for name in arguments.experiments
        for slot in range(SLOTS)
    ]
    progress, done = PlainLines(sys.stderr), 0

    def tell(index: int, answer: Mapping[str, Any]) -> None:
        nonlocal done
        done += 1
        detail = f"{answer['experiment']} seed {answer['seed']}: {answer['audit']['verdict']}"
        progress(Progress("judging", done, len(jobs), detail))

    answers = map_jobs(f"{Path(__file__).stem}:judge", jobs, arguments.processes, tell)
    document = {"date": datetime.now(UTC).date().isoformat(), "band": arguments.band, "answers": answers}
    atomic_write_json(out / "results.json", document)
    atomic_write_bytes(out / "results.md", markdown(answers, arguments.band).encode())
    print(markdown(answers, arguments.band))


if __name__ == "__main__":
    main()
