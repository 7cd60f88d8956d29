"""kill -9 at points all over training, unlearning, auditing and erasing: the next command ends as an uninterrupted run.

`experiments/kills.py` does the same fifty times, at random moments.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

# One process imports everything once and forks a child for every attempt, so that a kill costs no start-up.
# A durable step is what a crash can fall between: a file that is made safe, or a transaction that is.
SCRIPT = """
import json, os, signal, sys
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # threads do not survive a fork
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
from fedunlearn.federation import Federation

folder = Path(sys.argv[1])
TINY = dict(clients=3, partition="iid", rounds=2, local_epochs=1, learning_rate=0.1)
TINY |= dict(network="perceptron", strategy="fedavgm:server_momentum=0.5", class_harm=1.0, workers=0)
kill_at, steps = None, 0
# Imported and loaded before the first fork; no tensor is computed with here.
import captum.attr, flwr.serverapp.strategy
import fedunlearn.auditing, fedunlearn.clients.app, fedunlearn.server.jobs
from fedunlearn.server.lineage import lineage
from fedunlearn.tasks import get_task
get_task("digits").dataset(0)

def step(*_):
    global steps
    steps += 1
    if steps == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)

real_fsync = os.fsync
def fsync(descriptor):
    step()
    real_fsync(descriptor)
os.fsync = fsync
event.listen(Engine, "commit", step)

def run(out):
    # What a person would type, again and again until it ends well.
    federation = Federation.simulate("digits", out=out, **TINY)
    federation.train(1)
    federation.request_deletion(classes=[6])
    federation.train(2)
    federation.request_deletion(client=2)
    if any(one.state != "done" for one in federation.requests()):
        federation.unlearn(rounds=1, ratio=0.25)
    [first] = [one.id for one in federation.requests() if one.scope == "class-everywhere"]
    if not (federation.folder / "audit" / f"audit-{first}.json").is_file():
        federation.audit(first, "quick", restore=False)
    federation.erase(first, dry_run=False)
    return federation

def summary(federation):
    ledger = federation._session().ledger
    branches = {}
    for branch in ledger.branches():
        rounds = [(r.number, r.digest_before, r.digest_after, r.participants) for r in ledger.rounds(branch.name)]
        phases = [(p.name, p.digest_after) for p in ledger.phases(branch.name)]
        branches[branch.name] = (branch.state, branch.head, rounds, phases)
    states = [(one.id, one.state, one.count, one.clients) for one in federation.requests()]
    arrived = [event.request_id for event in ledger.events("request-arrived")]
    models, line = federation._session().models, lineage(ledger.entries())
    left = [one.what for one in line.descendants(states[0][0]) if models.has(one.digest)]
    audits = {
        path.name: [json.loads(path.read_text())[key] for key in ("verdict", "original", "unlearned", "primary")]
        for path in sorted((federation.folder / "audit").glob("audit-*.json"))
    }
    held = federation.verify_ledger()
    served = [(e.detail["request"], e.detail["from"], e.detail["to"]) for e in ledger.events("unlearned-model-served")]
    return dict(
        branches=branches,
        requests=states,
        served=served,
        arrived=sorted(arrived),
        left=left,
        audits=audits,
        problems=[(one.kind, one.sentence) for one in held.problems],
        notes=held.notes,
    )

def problems(out):
    # Right after the kill, before anything is mended; a run that has no ledger yet has nothing to be wrong.
    if not (out / "ledger.sqlite").is_file() or not (out / "run.json").is_file():
        return []
    return [one.sentence for one in Federation.open(out).verify_ledger().problems]

def child(work):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        status = 1
        try:
            os.write(writer, json.dumps(work()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    return os.waitpid(pid, 0)[1], said

def attempt(name, at=None):
    def work():
        global kill_at
        kill_at = at
        found = summary(run(folder / name))
        return dict(found, steps=steps)
    return child(work)

status, said = attempt("whole")
assert status == 0
whole = json.loads(said)
total = whole.pop("steps")
print(json.dumps(dict(steps=total)), flush=True)
for number in range(5):
    point = round(total * (number + 0.5) / 5)
    killed, _ = attempt(f"killed-{point}", point)
    status, between = child(lambda: problems(folder / f"killed-{point}"))
    between = json.loads(between) if between else None
    if number % 2:
        attempt(f"killed-{point}", 7)  # and once more while it resumes
    ended, said = attempt(f"killed-{point}")
    found = json.loads(said) if said else {}
    found.pop("steps", None)
    said = dict(point=point, killed=killed, between=between, ended=ended, found=found, whole=whole)
    print(json.dumps(said), flush=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_run_ends_as_an_uninterrupted_one(start_script: Callable, tmp_path: Path) -> None:
    process = start_script(SCRIPT, tmp_path)
    said, _ = process.communicate()
    assert process.returncode == 0
    first, *attempts = [json.loads(line) for line in said.splitlines()]
    assert first["steps"] > 50 and len(attempts) == 5
    for one in attempts:
        assert one["killed"] == 9, one["point"]
        assert one["between"] == [], one["point"]
        assert one["ended"] == 0, one["point"]
        assert one["found"] == one["whole"], one["point"]
    whole = attempts[0]["whole"]
    assert {state for _, state, *_ in whole["requests"]} == {"done"}
    assert len(whole["served"]) == len(whole["requests"]) == len(whole["arrived"]) == 2
    assert whole["problems"] == whole["notes"] == whole["left"] == [] and len(whole["audits"]) == 1
