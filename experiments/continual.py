"""Four requests in a row, two classes each, against a vision transformer of a federation: 10-2, 8-2, 6-2, 4-2.

    python experiments/continual.py --out DIR [--seeds 6 9 10]

A model is trained for each seed; federations that start from it (`init`, no round of training) are then asked: with
a quarter of the training images ("full": the papers' authors use a tenth), with 4 images of each class over all
clients, and with a quarter but none of one remaining class, whose owners are away. Both GS-LoRA forms are tuned with
the same number of tries on a seed of their own; the other methods run with their own defaults in as many rounds and
passes. Retraining starts from fresh weights on all that is left of the training data. What DIR holds already is not
done again; the tables are made of what is there.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from continual_tables import tables
from continual_tasks import class_order, requested

from fedunlearn.audit import accuracy
from fedunlearn.audit.continual import standing
from fedunlearn.audit.probe import erasure_probe
from fedunlearn.data.sources import load_dataset
from fedunlearn.errors import FedunlearnError
from fedunlearn.federation import Federation
from fedunlearn.files import atomic_write_bytes, atomic_write_json, make_folder, read_json
from fedunlearn.reports.provenance import environment
from fedunlearn.server.cost import cost_of
from fedunlearn.server.session import Session
from fedunlearn.strategies.gs_lora import GROUPS_LEFT
from fedunlearn.tasks.training import evaluate

SEEDS, TUNING_SEED = (6, 9, 10), 7
CLIENTS = 4
TRAINED: dict[str, Any] = {"rounds": 8, "local_epochs": 3, "learning_rate": 0.05, "batch_size": 16}
EXECUTION: dict[str, Any] = {"workers": 0, "cohort": 1, "class_harm": 1.0}
SETTINGS: dict[str, dict[str, Any]] = {
    "full": {"task": "continual_tasks:QUARTER", "rounds": 5, "local_epochs": 8},
    "four": {"task": "continual_tasks:FOUR", "rounds": 5, "local_epochs": 64},
    "missing": {"task": "continual_tasks:MISSING", "rounds": 5, "local_epochs": 8},
}
"""Passes are over the retained images, which are fewer with each request: the last one has a fifth of the first's."""
TUNED = ("gs-lora", "gs-lora-plus-plus")
METHODS = (*TUNED, "fine-tune", "neggrad-plus", "scrub", "ewc", "lwf", "der-plus-plus", "selective-channels")
RETRAINED = "retrain"
COMMON: dict[str, Any] = {"rank": 4, "scale": 1.0}
TRIES: dict[str, list[dict[str, Any]]] = {
    "full": [
        {"learning_rate": 0.05, "forget_weight": 1.0, "sparsity": 0.03},
        {"learning_rate": 0.05, "forget_weight": 2.0, "sparsity": 0.03},
        {"learning_rate": 0.05, "forget_weight": 2.0, "sparsity": 0.05},
    ],
    "four": [
        {"learning_rate": 0.05, "forget_weight": 1.0, "sparsity": 0.03, "bound": 12.0},
        {"learning_rate": 0.1, "forget_weight": 1.0, "sparsity": 0.03, "bound": 12.0},
        {"learning_rate": 0.1, "forget_weight": 2.0, "sparsity": 0.03, "bound": 15.0},
    ],
}
PUSHES: dict[str, list[dict[str, Any]]] = {
    "full": [{"push": 0.05, "pull": 0.01}, {"push": 0.05, "pull": 0.1}, {"push": 0.2, "pull": 0.01}],
    "four": [{"push": 0.3, "pull": 0.1}, {"push": 1.0, "pull": 0.3}, {"push": 1.0, "pull": 0.1}],
}
"""What is tried beside that of GS-LoRA++, try by try: both forms have as many."""
AS_GOOD = 0.005
"""Tries whose H is this close to the best count as equal; the one that leaves more groups at zero is taken."""


def trained(out: Path, seed: int) -> Path:
    """The file of the model that a federation trained on all training data."""
    settings = {"task": "mnist5k", "network": "vit-small", "clients": CLIENTS, "partition": "iid", "held_out": 0.0}
    federation = Federation.simulate(
        **settings, **TRAINED, **EXECUTION, seed=seed, out=out / "runs" / f"trained-{seed}"
    )
    summary = federation.train()
    say(f"seed {seed}: trained, test accuracy {summary.test_accuracy}")
    return federation.folder / "models" / f"{summary.digest}.safetensors"


def tries(method: str, setting: str) -> list[dict[str, Any]]:
    """Options that are tried; one, its defaults, for a method that is not tuned."""
    if method not in TUNED:
        return [{}]
    like = "four" if setting == "four" else "full"
    pushes = PUSHES[like] if method == TUNED[1] else [{}] * len(TRIES[like])
    return [{**COMMON, **one, **push} for one, push in zip(TRIES[like], pushes, strict=True)]


def chosen(out: Path, method: str, setting: str) -> dict[str, Any]:
    """The sparsest of the tries with the highest H, averaged over the requests of the tuning seed."""
    candidates, like = tries(method, setting), "four" if setting == "four" else "full"
    if len(candidates) == 1:
        return candidates[0]
    found = [cell(out, TUNING_SEED, like, method, one, f"-try{number}") for number, one in enumerate(candidates)]
    return candidates[best([one["requests"] for one in found])]


def best(found: Sequence[Sequence[Mapping[str, Any]]]) -> int:
    """Which of several sequences of requests to take. One that was not served to its end is worth nothing."""
    longest = max(map(len, found))
    scores = [sum(request["h"] for request in one) / longest for one in found]
    close = [n for n, score in enumerate(scores) if score >= max(scores) - AS_GOOD]
    return max(close, key=lambda n: sum(request["zero_groups"] or 0 for request in found[n]))


def cell(out: Path, seed: int, setting: str, method: str, options: Mapping[str, Any], mark: str = "") -> dict[str, Any]:
    """One method on the four requests of one seed in one setting; read where just that is there already."""
    file = out / "cells" / f"{setting}-{method}{mark}-{seed}.json"
    asked = {"seed": seed, "setting": setting, "method": method, "options": dict(options), **SETTINGS[setting]}
    known = read_json(file) if file.is_file() else {}
    if any(known.get(name) != value for name, value in asked.items()):
        found = _sequence(out, seed, setting, method, dict(options))
        atomic_write_json(file, {**asked, **found})
        told = "; ".join(f"H {r['h']:.3f} r {r['remaining']:.3f} f {r['forgotten']:.3f}" for r in found["requests"])
        say(f"{setting} {method}{mark} seed {seed}: {told} {found['refused']}")
    return dict(read_json(file))


def _sequence(out: Path, seed: int, setting: str, method: str, options: dict[str, Any]) -> dict[str, Any]:
    start, folder = trained(out, seed), out / "runs" / f"{setting}-{method}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    if method == RETRAINED:
        shutil.copytree(out / "runs" / f"trained-{seed}", folder)
        federation = Federation.open(folder)
        asked = {"rounds": TRAINED["rounds"], "local_epochs": TRAINED["local_epochs"]}
    else:
        own = dict(SETTINGS[setting])
        asked = {"rounds": own.pop("rounds"), "local_epochs": own.pop("local_epochs")}
        federation = Federation.simulate(
            **own, **EXECUTION, clients=CLIENTS, partition="iid", held_out=0.0, network="vit-small", seed=seed,
            rounds=0, init=str(start), out=folder,
        )  # fmt: skip
        federation.train()
    session, requests, old = federation._session(), [], list[int]()
    original, refused = _accuracy(session, _head(session)), ""
    missing = [class_order(seed)[0]] if setting == "missing" else []
    for classes in requested(seed):
        try:
            request = federation.request_deletion(classes=classes)
            [served] = federation.unlearn(request, method=method, **asked, **options)
        except FedunlearnError as error:
            refused = str(error)
            break
        now = _accuracy(session, served.digest)
        place = standing(now, original, classes, old, missing)
        requests.append({"classes": classes, **vars(place), **_cost(session, served.branch)})
        old += classes
    return {
        "requests": requests,
        "original": [original.over(list(range(10))), *original.by_class],
        "refused": refused,
        "probe": vars(_probe(session, _head(session), old, seed)) if old else None,
    }


def _head(session: Session) -> str:
    main = session.ledger.branch("main")
    assert main is not None  # since it was trained
    return main.head


def _accuracy(session: Session, digest: str) -> accuracy.Accuracy:
    session.blank.load_state_dict(session.models.load(digest))
    test = session.dataset.test
    return accuracy.combine(accuracy.count(evaluate(session.task, session.blank, test).predictions, test.labels, 10))


def _probe(session: Session, digest: str, forgotten: Sequence[int], seed: int) -> Any:
    """On a tenth of all training images, forgotten classes included."""
    session.blank.load_state_dict(session.models.load(digest))
    whole, layer = load_dataset("mnist5k", seed), session.architecture.layout.output_layer
    generator = torch.Generator().manual_seed(seed)
    return erasure_probe(session.task, session.blank, layer, whole.train, whole.test, sorted(forgotten), generator)


def _cost(session: Session, branch: str) -> dict[str, Any]:
    """Bytes both ways, what the same training messages would carry dense, seconds, client epochs, zero groups."""
    rounds, phases = session.ledger.rounds(branch), session.ledger.phases(branch)
    model_bytes = sum(t.numel() * t.element_size() for t in session.blank.state_dict().values())
    cost = cost_of(rounds, phases, model_bytes)
    training = [clients for row in [*rounds, *phases] for name, clients in row.bytes.items() if name[:5] == "train"]
    extras = rounds[-1].extras and session.models.load(rounds[-1].extras)
    left = None if not extras else extras.get(f"array/{GROUPS_LEFT}")
    return {
        "bytes": cost["bytes_up"] + cost["bytes_down"],
        "dense_bytes": sum(2 * model_bytes * len(clients) for clients in training),
        "seconds": cost["seconds"],
        "client_epochs": cost["client_epochs"],
        "zero_groups": None if left is None else 4 - int(left[0]),
    }


def say(sentence: str) -> None:
    """One line of progress."""
    print(f"{datetime.now(UTC):%H:%M:%S} {sentence}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is lacking, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--methods", nargs="*", default=[*METHODS, RETRAINED], choices=[*METHODS, RETRAINED])
    asked = parser.parse_args(arguments)
    make_folder(asked.out / "cells")
    for method in asked.methods:
        for setting in asked.settings:
            # Retraining takes all data that is left, whatever clients still have in the other settings.
            if method == RETRAINED and setting != "full":
                continue
            options = chosen(asked.out, method, setting) if asked.seeds else {}
            for seed in asked.seeds:
                cell(asked.out, seed, setting, method, options)
    write(asked.out)
    return 0


def write(out: Path) -> None:
    """results.json and results.md of all cells that are there."""
    cells = [read_json(file) for file in sorted((out / "cells").glob("*.json"))]
    document = {
        "cells": cells,
        "tries": {s: {m: tries(m, s) for m in TUNED} for s in TRIES},
        "environment": environment(),
    }
    atomic_write_json(out / "results.json", document)
    atomic_write_bytes(out / "results.md", tables(cells, SETTINGS, (*METHODS, RETRAINED), SEEDS).encode())


if __name__ == "__main__":
    raise SystemExit(main())
