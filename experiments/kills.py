"""kill -9 at random moments of train, unlearn, audit and erase: does the next command end as if nothing had been?

    python experiments/kills.py [--kills 50] [--seed 0] [--out experiments/results/kills]

A small federation (digits, 3 clients, a server optimiser with momentum, a class that leaves everywhere) is taken
through the four commands once without a kill. Then each command is started again and again from the folder that it
began with, killed at a moment drawn uniformly from the time that it took, looked at, and given once more. A process
that was through before its moment came counts as no kill, and another moment is drawn. The same command goes on with
an experiment that was interrupted, if the package's source is what it was.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Threads do not survive a fork.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import captum.attr  # noqa: F401  imported once, before anything is forked
import flwr.serverapp.strategy  # noqa: F401

import fedunlearn.auditing
import fedunlearn.clients.app
import fedunlearn.server.jobs  # noqa: F401
from fedunlearn.federation import Federation
from fedunlearn.files import atomic_write_bytes, atomic_write_json, make_folder
from fedunlearn.reports.provenance import environment
from fedunlearn.server.branches import SERVED
from fedunlearn.server.lineage import lineage
from fedunlearn.tasks import get_task

HERE = Path(__file__).parent
SETTINGS: dict[str, Any] = {
    "clients": 3,
    "partition": "iid",
    "rounds": 3,
    "local_epochs": 1,
    "learning_rate": 0.1,
    "strategy": "fedavgm:server_momentum=0.5",
    "class_harm": 1.0,
    "workers": 0,
}
CLASS, BAND = 6, 2
TRIES = 20
"""Moments that are drawn until one of them comes before the process is through."""


def train(out: Path) -> None:
    """Train."""
    Federation.simulate("digits", out=out, **SETTINGS).train()


def unlearn(out: Path) -> None:
    """A class leaves everywhere, and is unlearned."""
    federation = Federation.open(out)
    federation.request_deletion(classes=[CLASS])
    if any(one.state != "done" for one in federation.requests()):
        federation.unlearn(rounds=2, ratio=0.25)


def audit(out: Path) -> None:
    """Retrain a small band and judge against it."""
    Federation.open(out).audit(f"class-{CLASS}", band=BAND, processes=1, restore=False)


def erase(out: Path) -> None:
    """Erase what else remembers the class."""
    Federation.open(out).erase(f"class-{CLASS}", dry_run=False)


COMMANDS: dict[str, Callable[[Path], None]] = {"train": train, "unlearn": unlearn, "audit": audit, "erase": erase}


def ended_as(out: Path) -> dict[str, Any]:
    """All that must be the same with and without a kill: models, rounds, requests, verdict, and what is left."""
    federation = Federation.open(out)
    session = federation._session()
    ledger = session.ledger
    entries = ledger.entries()
    line = lineage(entries)
    branches = {}
    for branch in ledger.branches():
        rounds = [
            (row.number, row.digest_before, row.digest_after, row.participants, row.seed, row.mask)
            for row in ledger.rounds(branch.name)
        ]
        phases = [(row.name, row.digest_after, row.mask) for row in ledger.phases(branch.name)]
        branches[branch.name] = (branch.kind, branch.state, branch.head, rounds, phases)
    audits = {}
    for path in sorted((out / "audit").glob("audit-*.json")):
        document = json.loads(path.read_text())
        audits[path.name] = [document[name] for name in ("verdict", "original", "unlearned", "primary", "canaries")]
        audits[path.name].append(document["band"]["digests"])
    stored = {digest for digest in line.states if session.models.has(digest)}
    return json.loads(
        json.dumps(
            {
                "branches": branches,
                "requests": [(one.id, one.state, one.clients, one.count) for one in federation.requests()],
                "arrived": sorted(str(event.request_id) for event in ledger.events("request-arrived")),
                "served": [event.detail for event in ledger.events(SERVED)],
                "audits": audits,
                "stored": sorted(stored),
                "descending": sorted(
                    line.states[digest].what for id in line.arrivals for digest in stored if line.descends(digest, id)
                ),
            }
        )
    )


def problems(out: Path) -> list[str]:
    """What `ledger verify` finds; a folder in which no ledger was begun yet has nothing to be wrong."""
    if not (out / "ledger.sqlite").is_file() or not (out / "run.json").is_file():
        return []
    return [f"{one.kind}: {one.sentence}" for one in Federation.open(out).verify_ledger().problems]


def in_child(work: Callable[[], Any], kill_after: float | None = None) -> tuple[int, Any]:
    """Do `work` in a forked process, which is killed after so many seconds; its wait status and what it returned."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        status = 1
        try:
            said = json.dumps(work()).encode()
            os.write(writer, len(said).to_bytes(8, "big"))
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(said)
            status = 0
        except BaseException:
            # A forked child ends here, whatever it was: it must not go on with its parent's work.
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)  # a child that has ended is a zombie until it is waited for
    status = os.waitpid(pid, 0)[1]
    # Processes that the child started may hold the pipe open; how much there is to read is said first.
    with os.fdopen(reader, "rb") as pipe:
        size = pipe.read(8) if status == 0 else b""
        return status, json.loads(pipe.read(int.from_bytes(size, "big"))) if len(size) == 8 else None


def checked(work: Callable[[], Any]) -> Any:
    """What `work` returns in a child that must not fail."""
    status, found = in_child(work)
    if status != 0:
        raise SystemExit(f"an uninterrupted command failed with status {status}.")
    return found


def one_kill(name: str, before: Path, out: Path, seconds: float, whole: Any, draw: random.Random) -> dict[str, Any]:
    """Start a command from `before`, kill it, look, give it again, and compare with `whole`."""
    moments = []
    while len(moments) < TRIES:
        shutil.rmtree(out, ignore_errors=True)
        if before.exists():
            shutil.copytree(before, out)
        moments.append(draw.uniform(0, seconds))
        status, _ = in_child(lambda: COMMANDS[name](out), kill_after=moments[-1])
        if os.WIFSIGNALED(status):
            break
    else:
        raise SystemExit(f"{name} was through before each of {TRIES} moments.")
    after_kill = checked(lambda: problems(out))
    ended, _ = in_child(lambda: COMMANDS[name](out))
    found = checked(lambda: ended_as(out)) if ended == 0 else None
    return {
        "command": name,
        "moment": round(moments[-1], 4),
        "of": round(seconds, 4),
        "tries": len(moments),
        "problems_after_kill": after_kill,
        "resumed": ended == 0,
        "problems_in_the_end": checked(lambda: problems(out)),
        "same_end": found == whole,
        "lost_or_twice": None if found is None else _lost_or_twice(found, whole),
        "differs": [] if found is None else [key for key in whole if found[key] != whole[key]],
    }


def _lost_or_twice(found: Any, whole: Any) -> int:
    """Requests that are not there exactly once, in the state they should be in."""
    wrong = {str(one) for one in found["requests"]} ^ {str(one) for one in whole["requests"]}
    wrong |= {id for id in found["arrived"] if found["arrived"].count(id) != 1}
    served = [one["request"] for one in found["served"]]
    return len(wrong | {id for id in served if served.count(id) != 1})


def run(kills: int, seed: int, folder: Path, done: list[dict[str, Any]], keep: Callable[[], None]) -> dict[str, float]:
    """Add the kills that are lacking to `done`; return how long each command takes without one."""
    # Loaded in the parent, where every child finds it; nothing is computed here.
    get_task("digits").dataset(0)
    ends, seconds = {}, {}
    befores = {name: folder / f"before-{name}" for name in COMMANDS}
    run_folder = folder / "whole"
    for name, command in COMMANDS.items():
        if run_folder.exists():
            shutil.copytree(run_folder, befores[name])
        started = time.monotonic()
        checked(lambda command=command: command(run_folder))
        seconds[name] = time.monotonic() - started
        ends[name] = checked(lambda: ended_as(run_folder))
    if wrong := checked(lambda: problems(run_folder)):
        raise SystemExit(f"the uninterrupted run does not hold: {wrong[0]}")
    names = list(COMMANDS)
    for number in range(len(done), kills):
        name = names[number % len(names)]
        draw = random.Random(f"{seed}/{number}")
        done.append(one_kill(name, befores[name], folder / "killed", seconds[name], ends[name], draw))
        keep()
        print(json.dumps(done[-1]), flush=True)
    return {name: round(value, 3) for name, value in seconds.items()}


def table(kills: list[dict[str, Any]]) -> str:
    """The kills by command, as Markdown."""
    lines = [
        "| command | kills | ledger holds right after | command given again works | ledger holds in the end | "
        "requests lost or twice | ends as without the kill |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in (*COMMANDS, "all"):
        of = [one for one in kills if name in (one["command"], "all")]
        counts = [
            sum(not one["problems_after_kill"] for one in of),
            sum(one["resumed"] for one in of),
            sum(not one["problems_in_the_end"] for one in of),
            sum(one["lost_or_twice"] or 0 for one in of),
            sum(one["same_end"] for one in of),
        ]
        lines.append(f"| {name} | {len(of)} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


def _known(progress: Path, seed: int, source: str) -> list[dict[str, Any]]:
    """The kills of an experiment that was interrupted; none when it was of another source or seed."""
    if not progress.is_file():
        return []
    content = json.loads(progress.read_text())
    return list(content["kills"]) if (content["seed"], content["source"]) == (seed, source) else []


def main(arguments: list[str] | None = None) -> int:
    """Run the kills and write the table; 1 when one of them did not end well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "kills")
    given = parser.parse_args(arguments)
    made_in = environment()
    progress = make_folder(given.out) / "progress.json"
    done = _known(progress, given.seed, made_in["source"])

    def keep() -> None:
        atomic_write_json(progress, {"seed": given.seed, "source": made_in["source"], "kills": done})

    with tempfile.TemporaryDirectory(prefix="fedunlearn-kills-") as folder:
        seconds = run(given.kills, given.seed, Path(folder), done, keep)
    document = {
        "command": f"python experiments/kills.py --kills {given.kills} --seed {given.seed}",
        "date": datetime.now(UTC).date().isoformat(),
        "seed": given.seed,
        "settings": {"task": "digits", **SETTINGS, "class": CLASS, "band": BAND},
        "environment": made_in,
        "seconds": seconds,
        "kills": done,
    }
    atomic_write_json(given.out / "results.json", document)
    progress.unlink(missing_ok=True)
    well = all(
        one["resumed"] and one["same_end"] and not one["problems_after_kill"] and not one["problems_in_the_end"]
        for one in done
    )
    packages = ", ".join(f"{name} {version}" for name, version in made_in["packages"].items())
    text = (
        f"# kill -9 at {given.kills} random moments\n\n{table(done)}\n\n"
        f"Moments were drawn uniformly from the time that each command takes "
        f"({', '.join(f'{name} {value:.1f} s' for name, value in seconds.items())}); every one is in "
        f"[results.json](results.json).\n\n"
        f"`{document['command']}`, {document['date']}, {packages}, source {made_in['source'][:12]}.\n"
    )
    atomic_write_bytes(given.out / "results.md", text.encode())
    print(text)
    return 0 if well else 1


if __name__ == "__main__":
    raise SystemExit(main())
