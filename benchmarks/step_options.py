"""What `--precision` and `--compile` make of a client's training on a processor, beside float32 as it is.

    python benchmarks/step_options.py [--repetitions 20] [--networks lenet resnet20] [--out FILE]

Processor seconds of one thread for a whole local training (one pass in batches of 32, forward, backward and optimiser,
and what is done once a training), the least of some repetitions in which all variants take turns. Images are random,
because time does not depend on values. The masked rows train a tenth of each layer's channels. "First" is what the
first training of a variant takes, by the clock: of compiled ones, the making of code, unless torch finds it on disk
from an earlier process.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from recovery_round import BATCH, TASK, least_of, random_portion
from table_file import show
from torch import nn

from fedunlearn.channels.layout import channel_layout
from fedunlearn.channels.packing import Portion
from fedunlearn.data.dataset import Dataset, Samples
from fedunlearn.tasks.device import THIS_PROCESSOR, Device
from fedunlearn.tasks.training import TrainingSettings, train_locally

SHAPES = {"lenet": (1, 28, 28), "groupnorm-cnn": (3, 32, 32), "resnet20": (3, 32, 32)}
SAMPLES = (32, 4, 36)
"""One full batch, a small one, and both: what a client of `mnist5k` among a hundred has."""
DEVICES = {
    "float32": THIS_PROCESSOR,
    "bfloat16": Device(precision="bfloat16"),
    "compiled": Device(compile=True),
    "bfloat16, compiled": Device(precision="bfloat16", compile=True),
}


def model_and_samples(network: str, count: int) -> tuple[nn.Module, Samples]:
    """A network of ten classes, and random images for it."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (count, *SHAPES[network]), dtype=torch.uint8, generator=generator)
    samples = Samples(inputs, torch.randint(0, 10, (count,), generator=generator))
    return TASK.build(network, 0, Dataset(samples, samples, tuple(map(str, range(10))))), samples


def training(model: nn.Module, samples: Samples, portion: Portion | None, device: Device) -> Callable[[], object]:
    """One client's training from the same start, each time that it is called."""
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def work() -> None:
        model.load_state_dict(start)
        recipe = TrainingSettings(local_epochs=1, learning_rate=0.01, batch_size=BATCH)
        train_locally(TASK, model, samples, recipe, torch.Generator().manual_seed(0), portion, device=device)

    return work


def rows(network: str, count: int, repetitions: int) -> list[str]:
    """The table's rows of one network and number of samples."""
    # Of one function, torch keeps eight variants, and runs every further one as it is.
    torch.compiler.reset()
    model, samples = model_and_samples(network, count)
    masked = random_portion(channel_layout(model, TASK.inputs(samples.inputs[:2])), 0.1)
    works, first = {}, {}
    for name, device in DEVICES.items():
        for moving, portion in (("everything", None), ("0.1", masked)):
            works[f"{name} | {moving}"] = work = training(model, samples, portion, device)
            started = time.perf_counter()
            work()
            first[f"{name} | {moving}"] = time.perf_counter() - started
            work()
    seconds = least_of(works, repetitions)
    plain = seconds["float32 | everything"]
    return [
        f"| {network} | {count} | {name} | {1e3 * taken:.1f} | {taken / plain:.2f} | "
        f"{taken / seconds[name.split(' |')[0] + ' | everything']:.2f} | {first[name]:.1f} |"
        for name, taken in seconds.items()
    ]


def main() -> None:
    """Measure every case and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--networks", nargs="*", default=["lenet", "resnet20"], choices=SHAPES)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        f"A client's training, one pass in batches of {BATCH}; processor time of one thread, least of "
        f"{arguments.repetitions}; torch {version('torch')},",
        f"Python {platform.python_version()}, {torch.backends.cpu.get_cpu_capability()}, bfloat16 in hardware: "
        f"{torch.ops.mkldnn._is_mkldnn_bf16_supported()}.",
        "",
        "| network | samples | computed in | moving | ms | to float32, everything | to its own everything | first, s |",
        "|---|---:|---|---|---:|---:|---:|---:|",
    ]
    for network in arguments.networks:
        for count in SAMPLES:
            lines += rows(network, count, arguments.repetitions)
    show(lines, arguments.out)


if __name__ == "__main__":
    main()
