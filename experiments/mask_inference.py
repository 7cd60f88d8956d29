"""What the indices of masks give away: the class that is forgotten, and who asked.

    python experiments/mask_inference.py [--task mnist5k] [--clients 10] [--rounds 15] [--ratio 0.25]
        [--out experiments/results/mask-inference]

One federation is trained; then every client has each of its classes localised, as a request for that class would
(reference of what all clients hold, attribution of the class at the client), and only the masks are kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from fedunlearn.audit.mask_leakage import infer
from fedunlearn.channels.attribution import attribute
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.selection import rank, top_ratio, weighted_mean
from fedunlearn.data.dataset import Samples
from fedunlearn.data.holding import holding
from fedunlearn.federation import Federation
from fedunlearn.server.branches import served_digest
from fedunlearn.server.session import Session
from fedunlearn.tasks.randomness import seeded_generator

HERE = Path(__file__).parent
FEWEST = 20
"""A client with fewer samples of a class asks for nothing: a mask of a few samples says mostly which they are."""


def masks_of(session: Session, ratio: float) -> list[tuple[ChannelMask, int, int]]:
    """The mask of every class at every client that holds enough of it, with the class and the client."""
    layout = session.architecture.layout
    model = session.blank
    model.load_state_dict(session.models.load(served_digest(session)))

    def scores(samples: Samples) -> dict[str, torch.Tensor]:
        batch = (session.task.inputs(samples.inputs), samples.labels)
        return attribute(model, session.task.loss, [batch], layout)

    own = []
    for client in range(session.settings.clients):
        held = holding(session.settings, client, session.dataset)
        own.append(held.samples.take(held.training_positions()))
    found = []
    for client, samples in enumerate(own):
        for label, count in enumerate(samples.labels.bincount(minlength=len(session.dataset.classes)).tolist()):
            if count < FEWEST:
                continue
            kept = [
                part.take((part.labels != label).nonzero().flatten()) if other == client else part
                for other, part in enumerate(own)
            ]
            parts = [(scores(part), len(part)) for part in kept if len(part) >= FEWEST]
            reference = weighted_mean([one for one, _ in parts], [number for _, number in parts])
            asked = scores(samples.take((samples.labels == label).nonzero().flatten()))
            found.append((top_ratio(rank("excess", asked, reference), ratio, layout), label, client))
    return found


def measure(task: str, clients: int, rounds: int, ratio: float, seed: int) -> dict[str, Any]:
    """Accuracy of reading the class, and the client, off the masks."""
    with tempfile.TemporaryDirectory() as folder:
        federation = Federation.simulate(
            task, out=Path(folder) / "run", clients=clients, rounds=rounds, partition="dirichlet:1.0", seed=seed
        )
        federation.train()
        session = Session(federation._folder)
        found = masks_of(session, ratio)
        layout = session.architecture.layout
    results: dict[str, Any] = {"task": task, "clients": clients, "rounds": rounds, "ratio": ratio, "seed": seed}
    for what, position in (("class", 1), ("client", 2)):
        answers = [one[position] for one in found]
        told = infer([one[0] for one in found], answers, layout, seeded_generator(seed, "mask-inference", what))
        results[what] = {"accuracy": told.accuracy, "chance": told.chance, "p": told.p_value, "masks": told.masks}
    return results


def table(results: dict[str, Any]) -> str:
    """As Markdown."""
    lines = ["| read off the mask | accuracy | chance | p | masks |", "|---|---:|---:|---:|---:|"]
    for what in ("class", "client"):
        one = results[what]
        lines.append(f"| {what} | {one['accuracy']:.3f} | {one['chance']:.3f} | {one['p']:.3f} | {one['masks']} |")
    given = ", ".join(f"{name} {results[name]}" for name in ("task", "clients", "rounds", "ratio", "seed"))
    return "\n".join([f"Settings: {given}.", "", *lines]) + "\n"


def main() -> None:
    """Read the words, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="mnist5k")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--ratio", type=float, default=0.25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "mask-inference")
    words = parser.parse_args()
    results = measure(words.task, words.clients, words.rounds, words.ratio, words.seed)
    words.out.mkdir(parents=True, exist_ok=True)
    (words.out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (words.out / "table.md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
