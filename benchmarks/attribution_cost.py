"""What attributing a forget set costs, beside local training on the same samples.

    python benchmarks/attribution_cost.py [--samples 500] [--out benchmarks/results/attribution_cost.md]

Processor seconds of one thread, the least of a few repetitions, on random inputs: time does not depend on values.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from table_file import show

from fedunlearn.channels.attribution import attribute
from fedunlearn.channels.layout import channel_layout
from fedunlearn.data.dataset import Samples
from fedunlearn.models import networks
from fedunlearn.tasks.classification import ClassificationTask
from fedunlearn.tasks.training import TrainingSettings, train_locally

CASES = (("lenet", (1, 28, 28)), ("groupnorm-cnn", (3, 32, 32)), ("resnet20", (3, 32, 32)))
TASK = ClassificationTask("random", "mnist5k")


def least(work: Callable[[], object], repetitions: int) -> float:
    """Processor seconds of the quickest of some repetitions."""
    seconds = []
    for _ in range(repetitions):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


def measure(network: str, shape: tuple[int, int, int], count: int, repetitions: int) -> tuple[float, float]:
    """Seconds of attributing `count` samples, and of two local epochs over them."""
    generator = torch.Generator().manual_seed(0)
    samples = Samples(
        torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator),
        torch.randint(0, 10, (count,), generator=generator),
    )
    model = networks.get(network)(shape, 10)
    layout = channel_layout(model, TASK.inputs(samples.inputs[:2]))
    batches = [(TASK.inputs(samples.inputs[i : i + 128]), samples.labels[i : i + 128]) for i in range(0, count, 128)]
    recipe = TrainingSettings(local_epochs=2, learning_rate=0.01)
    return (
        least(lambda: attribute(model, TASK.loss, batches, layout), repetitions),
        least(lambda: train_locally(TASK, model, samples, recipe, generator), repetitions),
    )


def main() -> None:
    """Measure every case and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        f"Attribution (gradient x activation, all layers) of {arguments.samples} samples, beside two local epochs over",
        "the same samples; processor seconds of one thread, least of "
        f"{arguments.repetitions}; torch {version('torch')}, captum {version('captum')}, "
        f"Python {platform.python_version()}.",
        "",
        "| network | attribution, s | two local epochs, s | ratio |",
        "|---|---:|---:|---:|",
    ]
    for network, shape in CASES:
        own, training = measure(network, shape, arguments.samples, arguments.repetitions)
        lines.append(f"| {network} | {own:.2f} | {training:.2f} | {own / training:.2f} |")
    show(lines, arguments.out)


if __name__ == "__main__":
    main()
