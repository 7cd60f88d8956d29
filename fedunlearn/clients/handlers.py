"""What a client does with each kind of message. Every handler is a function of (message, site)."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from torch import nn

from fedunlearn.announcement import check_request_id
from fedunlearn.audit.counts import MINIMUM_SAMPLES, leave_few
from fedunlearn.audit.examination import FORGET_PARTS, examine
from fedunlearn.channels.adapters import AdapterPlan, Adapters, adapted
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.packing import Portion, digest_state, unpack
from fedunlearn.clients.heads import HeadStore
from fedunlearn.clients.preparing import prepare, read_prepared
from fedunlearn.clients.site import Site
from fedunlearn.config import UnlearnSettings, make_settings
from fedunlearn.errors import ClientError, CorruptModel
from fedunlearn.files import atomic_write_bytes
from fedunlearn.ledger_head import RECORD, from_record
from fedunlearn.randomness import derive_seed
from fedunlearn.strategies.content import (
    ADAPTERS,
    ARRAYS,
    BASE,
    CONFIG,
    EXTRA,
    FLAGS,
    MASK,
    METRICS,
    PLAN,
    array_record,
    numpy_arrays,
    state_of,
)
from fedunlearn.strategies.method import ModelState, Phase, Reply, Work, methods
from fedunlearn.tasks.cohort import train_one
from fedunlearn.tasks.local_training import LocalTraining
from fedunlearn.tasks.training import TrainingResult

logger = logging.getLogger("fedunlearn.clients")

# File systems end at 255; many requests that are served together would go beyond.
_LONGEST_FILE_NAME = 128


def announce(message: Message, site: Site) -> Message:
    """Who this client is, how much it holds, and which requests it has filed; never a sample's id."""
    announced = site.inbox.announcements()
    forgotten = site.inbox.forgotten_positions()
    config = ConfigRecord(
        {
            "client": site.client,
            "samples": len(site.holding.samples),
            "retained": len(site.holding.training_positions(forgotten)),
            "public-key": site.public_key,
            "ids": [request.id for request in announced],
            "scopes": [str(request.scope) for request in announced],
            "classes": [",".join(map(str, request.classes or ())) for request in announced],
            "counts": [request.count for request in announced],
            "commitments": [request.commitment for request in announced],
            "signatures": [request.signature for request in announced],
            "holders": [request.holders for request in announced],
        }
    )
    return Message(RecordDict({CONFIG: config}), reply_to=message)


def acknowledge(message: Message, site: Site) -> Message:
    """Write down what the server says of requests that were filed here; others are none of our business.

    The head of the server's ledger that came with it is kept. Raises ClientError when it takes an earlier one back.
    """
    config = _config(message)
    filed = {request.id for request in site.inbox.all()}
    told = zip(_texts(config, "ids"), _texts(config, "states"), _texts(config, "reasons"), strict=True)
    for id, state, reason in told:
        if id in filed:
            site.inbox.acknowledge(id, state, reason)
    if RECORD in message.content.config_records:
        HeadStore(site.folder).accept(*from_record(message.content.config_records[RECORD]))
    return announce(message, site)


def train(message: Message, site: Site) -> Message:
    """An ordinary round of local training, without anything that a filed request names."""
    training = ordinary_training(message, site)
    result = train_one(training, site.device)
    return trained(message, site, training, result)


def ordinary_training(message: Message, site: Site) -> LocalTraining:
    """What an ordinary round's message asks this client to train."""
    config = _config(message)
    round_number = _integer(config, "server-round")
    seed = derive_seed(_integer(config, "seed"), "train", round_number, site.client)
    settings = replace(site.training, proximal_mu=float(_number(config, "proximal-mu", 0.0)))
    model = site.load(state_of(message.content.array_records[ARRAYS]))
    return LocalTraining(site.task, model, site.training_samples(), settings, torch.Generator().manual_seed(seed))


def trained(message: Message, site: Site, training: LocalTraining, result: TrainingResult) -> Message:
    """The answer to an ordinary round's message, once its training is done."""
    prepare(site, training.model, training.samples, _integer(_config(message), "server-round"))
    arrays = {name: tensor.numpy() for name, tensor in training.model.state_dict().items()}
    metrics = {"num-examples": len(training.samples), "loss": result.mean_loss}
    return _reply(message, arrays, metrics, {"deletion-request": bool(site.inbox.pending())})


def run_phase(message: Message, site: Site) -> Message:
    """One phase of a method: its own client computation, on this client's data.

    Which computation runs is looked up among the registered methods; the message carries no code.
    """
    asked = phase_work(message, site)
    if asked is None:
        return _reply(message, {}, {}, {"needs-base": True})
    phase, work = asked
    return phase_answer(message, site, phase.compute(work))


def phase_work(message: Message, site: Site) -> tuple[Phase, Work] | None:
    """The phase that a message is about, and what to compute it from; None when its base model is not here."""
    config = _config(message)
    base = base_model(message, site)
    if base is None:
        return None
    settings = make_settings(UnlearnSettings, json.loads(str(config["settings"])))
    phases = methods.get(str(config["method"])).phases(settings, _integer(config, "rounds"))
    number = _integer(config, "phase")
    if not 0 <= number < len(phases) or phases[number].message != message.metadata.message_type:
        raise ClientError(
            f"phase {number} of method {config['method']!r} does not send {message.metadata.message_type!r}; "
            "server and client must run the same version of the method."
        )
    requests = _texts(config, "requests")
    positions = site.forget_positions(requests)
    mask, portion = _what_moves(message, site, base)
    records = message.content.array_records
    seed = derive_seed(_integer(config, "seed"), message.metadata.message_type, number, site.client)

    def keep(name: str, arrays: Mapping[str, np.ndarray]) -> None:
        buffer = BytesIO()
        np.savez(buffer, **dict(arrays))  # type: ignore[arg-type]
        atomic_write_bytes(kept_path(site.folder, name, requests), buffer.getvalue(), mode=0o600)

    work = Work(
        role="target" if len(positions) else "remaining",
        task=site.task,
        model=_received(message, site, base, portion),
        base=base,
        layout=site.layout,
        mask=mask,
        portion=portion,
        classes=site.classes,
        forget=site.holding.samples.take(positions),
        retain=site.training_samples(),
        held_out=site.held_out_samples(),
        arrays=numpy_arrays(records[EXTRA]) if EXTRA in records else {},
        settings=settings,
        training=site.training,
        round=number,
        generator=torch.Generator().manual_seed(seed),
        keep=keep,
        device=site.device,
        prepared=read_prepared(site.folder, str(config["method"])),
        plan=_plan(message),
    )
    return phases[number], work


def phase_answer(message: Message, site: Site, reply: Reply) -> Message:
    """The answer to a phase's message, once it is computed."""
    metrics = dict(reply.metrics)
    if metrics.get("num-examples", 0) < MINIMUM_SAMPLES:
        metrics.pop("loss", None)  # the mean over a single sample is its loss
    return _reply(message, reply.arrays, metrics, {"deletion-request": bool(site.inbox.pending())})


def kept_path(folder: Path, name: str, requests: Sequence[str], suffix: str = ".npz") -> Path:
    """Where a client keeps, in its own folder, what it computed for a job and does not send."""
    joined = "+".join(check_request_id(id) for id in requests)
    if len(joined) > _LONGEST_FILE_NAME:
        joined = hashlib.sha256(joined.encode()).hexdigest()
    return folder / f"{name}-{joined}{suffix}"


def audit(message: Message, site: Site) -> Message:
    """Counts, sums and histograms of a model on this client's forget set (in parts), retained or held-out samples.

    A client that is sent the whole model keeps it as a base for later messages.
    """
    config = _config(message)
    base = base_model(message, site)
    if base is None:
        return _reply(message, {}, {}, {"needs-base": True})
    _, portion = _what_moves(message, site, base)
    records = message.content.array_records
    model = site.load(unpack(base, numpy_arrays(records[ARRAYS]), portion) if ARRAYS in records else base)
    positions = site.forget_positions(_texts(config, "requests"))
    groups = {"forget.all": positions}
    parts = site.holding.parts[positions]
    subtractable = False
    if len(set(parts)) > 1 or (len(parts) and parts[0] != "ordinary"):
        groups["forget.triggered"] = positions[parts == "triggered"]
        groups["forget.untriggered"] = positions[parts == "ordinary"]
        groups["forget.canaries"] = positions[parts == "canaries"]
        # The sums of a part that is too small would follow from those of the whole.
        subtractable = leave_few(len(groups[f"forget.{part}"]) for part in FORGET_PARTS)
    if bool(config.get("retained", True)):
        groups["retain"] = site.holding.training_positions(site.inbox.forgotten_positions())
    if bool(config.get("held-out", False)):
        groups["held-out"] = site.holding.held_out
    metrics: dict[str, int | float | list[int] | list[float]] = {"num-examples": len(positions)}
    for group, members in groups.items():
        if len(members) == 0:
            continue
        true_labels = site.holding.true_labels[members] if group == "forget.canaries" else None
        samples = site.holding.samples.take(members)
        found = examine(
            site.task,
            model,
            samples,
            site.classes,
            true_labels,
            counts_alone=subtractable and group == "forget.all",
            with_errors=bool(config.get("errors", False)),
        )
        for name, value in found.items():
            metrics[f"{group}.{name}"] = value
    return Message(RecordDict({METRICS: MetricRecord(metrics)}), reply_to=message)


def _reply(
    message: Message,
    arrays: Mapping[str, np.ndarray],
    metrics: Mapping[str, float],
    flags: Mapping[str, bool],
) -> Message:
    content = RecordDict({FLAGS: ConfigRecord(dict(flags)), METRICS: MetricRecord(dict(metrics))})
    content[ARRAYS] = array_record(arrays)
    return Message(content, reply_to=message)


def _config(message: Message) -> ConfigRecord:
    if CONFIG not in message.content.config_records:
        raise ClientError(f"a {message.metadata.message_type!r} message came without its record {CONFIG!r}.")
    return message.content.config_records[CONFIG]


def _integer(config: ConfigRecord, name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int):
        raise ClientError(f"the message's configuration lacks the whole number {name!r}.")
    return value


def _number(config: ConfigRecord, name: str, default: float) -> float:
    value = config.get(name, default)
    if not isinstance(value, int | float):
        raise ClientError(f"the message's configuration gives {name!r} as {value!r}; expected a number.")
    return value


def _texts(config: ConfigRecord, name: str) -> list[str]:
    value = config.get(name, [])
    return [str(item) for item in value] if isinstance(value, list) else []


def base_model(message: Message, site: Site) -> ModelState | None:
    """The base that the message names: out of the message, or out of this client's own store; else None."""
    digest = str(_config(message)["base"])
    if BASE in message.content.array_records:
        base = state_of(message.content.array_records[BASE])
        if digest_state(base) != digest:
            raise ClientError("the base model that came does not have the digest that the message names.")
        site.base_models.put(base)
        return base
    if not site.base_models.has(digest):
        return None
    try:
        return site.base_models.get(digest)
    except CorruptModel as error:
        # It is deleted now; the server sends it again.
        logger.warning("%s", error)
        return None


def _what_moves(message: Message, site: Site, base: ModelState) -> tuple[ChannelMask | None, Portion]:
    plan = _plan(message)
    if plan is not None:
        return None, plan.portion
    if MASK not in message.content.array_records:
        return None, Portion.everything(base)
    mask = ChannelMask.from_arrays(numpy_arrays(message.content.array_records[MASK]))
    mask.validate(site.layout)
    return mask, mask.portion(site.layout)


def _received(message: Message, site: Site, base: ModelState, portion: Portion) -> nn.Module:
    """The model that the message is about: the base, with what came of its moving part, or of its adapters."""
    records, plan = message.content.array_records, _plan(message)
    packed = numpy_arrays(records[ARRAYS]) if ARRAYS in records else None
    if plan is None:
        return site.load(base if packed is None else unpack(base, packed, portion))
    adapters = Adapters.fresh(plan, base)
    if packed is not None:
        adapters = replace(adapters, factors=unpack(adapters.factors, packed, portion))
    return adapted(site.load(base), adapters)


def _plan(message: Message) -> AdapterPlan | None:
    record = message.content.config_records.get(ADAPTERS)
    return None if record is None else AdapterPlan.of_text(str(record.get(PLAN)))
