"""What training several clients as one computation gains: single clients against cohorts of 2, 4, 8 and 16.

    python benchmarks/cohort.py [--rounds 3] [--out benchmarks/results/cohort.md]

Processor seconds of one thread for one client's step (forward, backward, optimiser), the least of a few rounds in which
all variants take turns; random inputs, because time does not depend on values. Each case is also checked: the bits of
the parameters after it are those of single clients. Beside it, the plain form of `torch.func.vmap`.
"""

from __future__ import annotations

import argparse
import copy
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from torch.func import functional_call, vmap
from torch.nn import functional

from fedunlearn.data.dataset import Samples
from fedunlearn.models import networks
from fedunlearn.tasks.classification import ClassificationTask
from fedunlearn.tasks.cohort import train_cohort
from fedunlearn.tasks.cohort_choice import Choices
from fedunlearn.tasks.local_training import LocalTraining
from fedunlearn.tasks.randomness import isolated_seed
from fedunlearn.tasks.training import TrainingSettings, train_locally

CASES = (
    ("lenet", (1, 8, 8)),
    ("groupnorm-cnn", (1, 8, 8)),
    ("resnet20", (1, 8, 8)),
    ("lenet", (1, 28, 28)),
    ("groupnorm-cnn", (3, 32, 32)),
    ("resnet20", (3, 32, 32)),
)
BATCH_SIZES = (4, 8, 32)
WIDTHS = (2, 4, 8, 16)
TASK = ClassificationTask("random", "digits")


def trainings(
    network: str, shape: tuple[int, int, int], clients: int, batch_size: int, steps: int
) -> list[LocalTraining]:
    """Clients with equally many samples, `steps` full batches each, and equal models."""
    data = torch.Generator().manual_seed(0)
    with isolated_seed(0):
        start = networks.get(network)(shape, 10)
    recipe = TrainingSettings(local_epochs=1, learning_rate=0.01, batch_size=batch_size)
    made = []
    for client in range(clients):
        count = batch_size * steps
        inputs = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=data)
        samples = Samples(inputs, torch.randint(0, 10, (count,), generator=data))
        made.append(LocalTraining(TASK, copy.deepcopy(start), samples, recipe, torch.Generator().manual_seed(client)))
    return made


def train_with_vmap(made: list[LocalTraining]) -> None:
    """The plain form: stacked parameters, `vmap` over the loss, one backward pass and torch's optimiser."""
    model, recipe = made[0].model, made[0].settings
    names = dict(model.named_parameters())
    stacked = {n: torch.stack([dict(m.model.named_parameters())[n].detach() for m in made]) for n in names}
    leaves = {name: stack.requires_grad_() for name, stack in stacked.items()}
    optimizer = torch.optim.SGD(leaves.values(), recipe.learning_rate, recipe.momentum)
    inputs = torch.stack([one.samples.inputs for one in made])
    labels = torch.stack([one.samples.labels for one in made])

    def loss(values: dict[str, torch.Tensor], raw: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(functional_call(model, values, (TASK.inputs(raw),)), wanted)

    for start in range(0, inputs.shape[1], recipe.batch_size):
        optimizer.zero_grad()
        end = start + recipe.batch_size
        vmap(loss)(leaves, inputs[:, start:end], labels[:, start:end]).sum().backward()
        optimizer.step()


def same_bits(one: list[LocalTraining], other: list[LocalTraining]) -> bool:
    """Whether the models of both are equal, bit for bit."""
    pairs = zip(one, other, strict=True)
    return all(
        torch.equal(a, b) for x, y in pairs for a, b in zip(x.model.parameters(), y.model.parameters(), strict=True)
    )


def measure(
    network: str, shape: tuple[int, int, int], batch_size: int, rounds: int, steps: int
) -> tuple[float, dict[int, float], dict[int, float], bool, list[int]]:
    """Seconds of a client's step alone, in cohorts, by vmap; whether bits agreed; and what "auto" would take."""
    alone, cohorts, stacked = [], {w: [] for w in WIDTHS}, {w: [] for w in WIDTHS}  # type: ignore[var-annotated]
    choices, automatic, exact = Choices(), Choices(), True
    # Beforehand, what is measured once in a process: which layers are exact, and what pays off.
    for width in WIDTHS:
        train_cohort(trainings(network, shape, width, batch_size, 10), width, choices)
    for _ in range(4):
        train_cohort(trainings(network, shape, max(WIDTHS), batch_size, 10), "auto", automatic)
    for _ in range(rounds):
        for width in WIDTHS:
            single, together, plain = (trainings(network, shape, width, batch_size, steps) for _ in range(3))
            alone.append(seconds(lambda made=single: [train_locally(*one) for one in made]) / (width * steps))  # type: ignore[misc]
            cohorts[width].append(
                seconds(lambda made=together, w=width: train_cohort(made, w, choices)) / (width * steps)  # type: ignore[misc]
            )
            stacked[width].append(seconds(lambda made=plain: train_with_vmap(made)) / (width * steps))  # type: ignore[misc]
            exact = exact and same_bits(single, together)
    (known,) = automatic._known.values()
    least = {width: min(taken) for width, taken in cohorts.items()}
    return min(alone), least, {w: min(t) for w, t in stacked.items()}, exact, known.widths(max(WIDTHS), "auto")


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds of this thread."""
    started = time.thread_time()
    work()
    return time.thread_time() - started


def row(network: str, shape: tuple[int, int, int], batch_size: int, rounds: int, steps: int) -> str:
    """One line of the table."""
    alone, cohorts, stacked, exact, taken = measure(network, shape, batch_size, rounds, steps)
    cells = [f"{alone / cohorts[width]:.2f} ({alone / stacked[width]:.2f})" for width in WIDTHS]
    auto = " + ".join(map(str, taken)) or "1"
    size = " x ".join(map(str, shape))
    return f"| {network} | {size} | {batch_size} | {1000 * alone:.2f} | {' | '.join(cells)} | {auto} | {exact} |"


def main() -> None:
    """Measure every case and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--cases", type=int, default=len(CASES), help="only the first so many networks")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "One client's step among 2, 4, 8 and 16: times quicker than by itself (in brackets, the plain form of",
        f"`torch.func.vmap`), set-up included. Processor seconds of one thread, least of {arguments.rounds} rounds of "
        f"{arguments.steps} steps; torch {version('torch')}, Python {platform.python_version()}, {processor()}.",
        "",
        '| network | input | batch | alone, ms | 2 | 4 | 8 | 16 | "auto" of 16 | same bits |',
        "|---|---|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for network, shape in CASES[: arguments.cases]:
        for batch_size in BATCH_SIZES:
            lines.append(row(network, shape, batch_size, arguments.rounds, arguments.steps))
            print(lines[-1], flush=True)
    if arguments.out is not None:
        arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def processor() -> str:
    """The processor's name, where the system tells it."""
    information = Path("/proc/cpuinfo")
    names = (
        [line for line in information.read_text().splitlines() if line.startswith("model name")]
        if (information.exists())
        else []
    )
    return names[0].partition(":")[2].strip() if names else platform.machine()


if __name__ == "__main__":
    main()
