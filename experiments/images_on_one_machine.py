"""Decouple-retain and its rivals on completed images, with one client that leaves and one that stays.

    python experiments/images_on_one_machine.py --out DIR --seeds 1 2 3

The phases are the methods' own; there are no messages, so that a model trains in half a minute. Original and retrained
model are trained on one machine. What is written is one JSON file a seed, and `results.md` of all that are there.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fedunlearn.audit.error_histogram import histogram, quantile
from fedunlearn.audit.image_quality import qualities
from fedunlearn.channels.adapters import adapted
from fedunlearn.channels.layout import channel_layout
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.randomness import derive_seed
from fedunlearn.reports.provenance import environment
from fedunlearn.strategies import methods
from fedunlearn.strategies.method import ClientReply, State, Work
from fedunlearn.tasks import get_task
from fedunlearn.tasks.outputs import answers, displacements, errors
from fedunlearn.tasks.training import TrainingSettings, train_locally

TASK, NETWORK = get_task("inpainting=0.3:mnist5k"), "auto-encoder-small"
FORGOTTEN, HELD_OUT, PASSES, ROUNDS = 80, 400, 6, 2
RECIPE = TrainingSettings(local_epochs=1, learning_rate=0.1, batch_size=32)
ASCENT = {"step": 5.0, "clip": 0.1}
CONTENDERS: Mapping[str, tuple[str, dict]] = {
    "ascent-only": ("ascent-only", ASCENT),
    "decouple-retain": ("decouple-retain", ASCENT),
    "decouple-retain in adapters": ("decouple-retain", {**ASCENT, "channels": "adapters"}),
    **{
        name: (name, {})
        for name in (
            "fine-tune",
            "max-loss",
            "noisy-label",
            "retain-label",
            "random-encoder",
            "encoder-to-noise",
        )
    },
}
COLUMNS = ("forget_psnr", "gap", "retain_psnr", "unseen_psnr", "forget_ssim", "out_of_distribution")


def psnr_and_ssim(model: nn.Module, samples: Samples) -> tuple[float, float]:
    """Of the mean squared error over what was hidden, in decibels; and the mean similarity there."""
    square, similarity = qualities(TASK, model, samples).double().mean(dim=0).tolist()
    return -10 * math.log10(square), similarity


def trained(seed: int, samples: Samples, model_seed: int, dataset) -> nn.Module:  # type: ignore[no-untyped-def]
    model = TASK.build(NETWORK, model_seed, dataset)
    recipe = TrainingSettings(PASSES, RECIPE.learning_rate, batch_size=RECIPE.batch_size)
    train_locally(TASK, model, samples, recipe, torch.Generator().manual_seed(derive_seed("train", seed, model_seed)))
    return model


def serve(name: str, options: dict, state: State, clients: list, network: Callable) -> nn.Module:
    """The phases of one method, on a client that leaves and one that stays."""
    for number, phase in enumerate(methods.get(name).phases(state.settings, PASSES)):
        down = phase.down(state)
        if down is None:
            continue
        replies = []
        for index, (forget, retain, held_out) in enumerate(clients):
            if not {"target": len(forget), "remaining": len(retain), "all": 1}[phase.to]:
                continue
            model = network(state.model if down.packed is not None else state.base)
            if state.adapters is not None:
                model = adapted(network(state.base), state.adapters)
            seed = derive_seed(state.seed, phase.message, number, index)
            work = Work(
                role="target" if len(forget) else "remaining",
                task=TASK,
                model=model,
                base=state.base,
                layout=state.layout,
                mask=state.mask,
                portion=state.portion,
                classes=10,
                forget=forget,
                retain=retain,
                held_out=held_out,
                arrays=down.arrays,
                settings=state.settings,
                training=RECIPE,
                round=number,
                generator=torch.Generator().manual_seed(seed),
                keep=lambda name, arrays: None,
            )
            reply = phase.compute(work)
            replies.append(ClientReply(index, work.role, reply.arrays, reply.metrics))
        state = phase.combine(state, replies)
    return network(state.model)


def run(seed: int) -> dict[str, dict[str, float]]:
    """Model -> figures."""
    dataset = TASK.dataset(seed)
    order = np.random.default_rng(derive_seed("split", seed)).permutation(len(dataset.train))
    held_out, rest = dataset.train.take(order[:HELD_OUT]), dataset.train.take(order[HELD_OUT:])
    forget, retain = rest.take(range(FORGOTTEN)), rest.take(range(FORGOTTEN, len(rest)))
    original, retrained = trained(seed, rest, 0, dataset), trained(seed, retain, 1, dataset)
    threshold = quantile(histogram(errors(TASK, original, held_out)), 0.95)
    before, reference = answers(TASK, original, forget), psnr_and_ssim(retrained, forget)[0]

    def figures(model: nn.Module) -> dict[str, float]:
        own, similarity = psnr_and_ssim(model, forget)
        apart = displacements(TASK, model, forget, before)
        return {
            "forget_psnr": own,
            "gap": own - reference,
            "retain_psnr": psnr_and_ssim(model, retain.take(range(400)))[0],
            "unseen_psnr": psnr_and_ssim(model, dataset.test)[0],
            "forget_ssim": similarity,
            "out_of_distribution": float((apart >= threshold).double().mean()),
        }

    def network(state: Mapping[str, torch.Tensor]) -> nn.Module:
        model = TASK.build(NETWORK, 0, dataset)
        model.load_state_dict(dict(state))
        return model

    base = {name: tensor.clone() for name, tensor in original.state_dict().items()}
    layout = channel_layout(original, TASK.degrade(TASK.inputs(dataset.test.inputs[:2])))
    none = Samples(forget.inputs[:0], forget.labels[:0])
    clients = [(forget, none, held_out.take(range(40))), (none, retain, held_out)]
    found = {"original": figures(original), "retrained": figures(retrained)}
    for label, (name, options) in CONTENDERS.items():
        settings = UnlearnSettings(method=name, rounds=ROUNDS, options=options)
        state = State(base, base, layout, seed, retrained.state_dict(), settings, RECIPE, PASSES, network=network)
        found[label] = figures(serve(name, options, state, clients, network))
        print(seed, label, {key: round(value, 3) for key, value in found[label].items()}, flush=True)
    return found


def table(documents: list[dict]) -> str:
    """Means and deviations over the seeds; the mean size of the gap."""
    seeds = [document["seed"] for document in documents]
    lines = [
        "# Completed images on one machine",
        "",
        f"Seeds {', '.join(map(str, seeds))}. Mean and standard deviation over the seeds; PSNR in decibels, over what",
        "was hidden; *gap* is the size of the distance to the retrained model's PSNR on the forget set.",
        "",
        "| model | " + " | ".join(COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for name in documents[0]["models"]:
        cells = []
        for column in COLUMNS:
            values = [document["models"][name][column] for document in documents]
            values = [abs(value) for value in values] if column == "gap" else values
            spread = f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.2f}{spread}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    made = json.dumps(documents[0]["environment"], sort_keys=True)
    return "\n".join([*lines, "", f"Made by `experiments/images_on_one_machine.py` in `{made}`.", ""])


def main() -> None:
    """Run the seeds that lack, and write the table."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        path = arguments.out / f"seed{seed}.json"
        if not path.is_file():
            document = {"seed": seed, "models": run(seed), "environment": environment()}
            path.write_text(json.dumps(document, indent=1, sort_keys=False), encoding="utf-8")
    there = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(arguments.out.glob("seed*.json"))]
    (arguments.out / "results.md").write_text(table(there), encoding="utf-8")


if __name__ == "__main__":
    main()
