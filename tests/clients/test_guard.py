from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from fedunlearn.audit.error_histogram import BINS as ERROR_BINS
from fedunlearn.audit.loss_histogram import BINS
from fedunlearn.clients import app as app_module
from fedunlearn.clients import handlers, measuring, pictures
from fedunlearn.clients.guard import check, guarded
from fedunlearn.clients.site import Site
from fedunlearn.engines.local import FIRST_NODE_ID, LocalGrid
from fedunlearn.errors import ClientError
from fedunlearn.strategies.content import ARRAYS, CONFIG, FLAGS, METRICS, array_record
from fedunlearn.strategies.localisation import FORGET_RATE, REWIND, STEP_NUMBERS
from fedunlearn.tasks import get_task
from fedunlearn.tasks.base import ImageToImageTask
from fedunlearn.tasks.training import evaluate

LAYER, PARAMETER = "convolution1", "convolution1.weight"
ACTIONS = sorted(
    {"train", "query.requests", "query.acknowledge", "evaluate.audit", "evaluate.measure", "evaluate.pictures"}
    | {f"{kind}.{action}" for kind, action in app_module._phase_messages()}
)
SECRET_IDS = [90210, 90217, 90219]


def images(site: Site) -> np.ndarray:
    return site.holding.samples.inputs[:20].numpy()


def labels(site: Site) -> np.ndarray:
    return site.holding.samples.labels[:20].numpy()


def reconstructions(site: Site) -> np.ndarray:
    """Images as a model would complete them, one after the other."""
    task = get_task("inpainting:digits")
    assert isinstance(task, ImageToImageTask)
    model = task.build(None, 0, task.dataset(0)).eval()
    with torch.no_grad():
        made: np.ndarray = task.reconstruct(model, task.inputs(site.holding.samples.inputs[:20])).numpy()
    return made


def losses(site: Site) -> list[float]:
    return evaluate(site.task, site.blank, site.holding.samples.take(np.arange(20))).losses.tolist()


def arrays(**named: np.ndarray) -> RecordDict:
    return RecordDict({ARRAYS: array_record(named)})


def metrics(**named: object) -> RecordDict:
    return RecordDict({METRICS: MetricRecord({k.replace("__", "."): v for k, v in named.items()})})


def config(**named: object) -> RecordDict:
    return RecordDict({CONFIG: ConfigRecord({k.replace("_", "-"): v for k, v in named.items()})})


def with_a_tail(array: np.ndarray, tail: bytes) -> RecordDict:
    whole = Array(array)
    return RecordDict(
        {ARRAYS: ArrayRecord({PARAMETER: Array(whole.dtype, whole.shape, whole.stype, whole.data + tail)})}
    )


def with_kind(array: np.ndarray, kind: str) -> RecordDict:
    whole = Array(array)
    return RecordDict({ARRAYS: ArrayRecord({PARAMETER: Array(whole.dtype, whole.shape, kind, whole.data)})})


def in_disguise(site: Site) -> RecordDict:
    """Bytes of images that say they are the parameter."""
    honest = Array(site.blank.state_dict()[PARAMETER].numpy())
    data = (images(site).tobytes() * 9)[: len(honest.data)]
    return RecordDict({ARRAYS: ArrayRecord({PARAMETER: Array(honest.dtype, honest.shape, honest.stype, data)})})


# What a handler tries to send -> the record that the refusal must name.
CONTRABAND: dict[str, tuple[str, Callable[[Site], RecordDict]]] = {
    "images": (f"{ARRAYS}['images']", lambda site: arrays(images=images(site))),
    "images as a parameter": (f"{ARRAYS}['{PARAMETER}']", lambda site: arrays(**{PARAMETER: images(site)})),
    "images as scores": (f"{ARRAYS}['{LAYER}']", lambda site: arrays(**{LAYER: images(site).ravel()})),
    "reconstructions": (f"{ARRAYS}['images']", lambda site: arrays(images=reconstructions(site))),
    "reconstructions as a parameter": (
        f"{ARRAYS}['{PARAMETER}']",
        lambda site: arrays(**{PARAMETER: reconstructions(site)}),
    ),
    "a reconstruction as scores": (
        f"{ARRAYS}['{LAYER}']",
        lambda site: arrays(**{LAYER: reconstructions(site)[0, 0]}),
    ),
    "a reconstruction as a number": (
        f"{METRICS}['seconds']",
        lambda site: metrics(seconds=reconstructions(site)[0].ravel().tolist()),
    ),
    "a reconstruction as errors": (
        f"{METRICS}['retain.error-sum']",
        lambda site: metrics(**{"retain__error-sum": reconstructions(site)[0].ravel().tolist()}),
    ),
    "one image's error": (
        f"{METRICS}['forget.all.error-sum']",
        lambda site: metrics(**{"forget__all__error-sum": float(reconstructions(site)[0].mean())}),
    ),
    "images in disguise": (f"{ARRAYS}['{PARAMETER}']", in_disguise),
    "images behind an array": (
        f"{ARRAYS}['{PARAMETER}']",
        lambda site: with_a_tail(site.blank.state_dict()[PARAMETER].numpy(), images(site).tobytes()[:64]),
    ),
    "one byte behind an array": (
        f"{ARRAYS}['{PARAMETER}']",
        lambda site: with_a_tail(site.blank.state_dict()[PARAMETER].numpy(), b"\x01"),
    ),
    "labels": (f"{ARRAYS}['labels']", lambda site: arrays(labels=labels(site))),
    "labels by layer": (
        f"{ARRAYS}['{LAYER}']",
        lambda site: arrays(**{LAYER: np.resize(labels(site), 16).astype(np.int64)}),
    ),
    "labels as doubles": (
        f"{ARRAYS}['{LAYER}']",
        lambda site: arrays(**{LAYER: np.resize(labels(site), 16).astype(np.float64)}),
    ),
    "labels in a type": (
        f"{ARRAYS}['{LAYER}']",
        lambda site: RecordDict(
            {ARRAYS: ArrayRecord({LAYER: Array("".join(map(str, labels(site))), (16,), "numpy.ndarray", b"")})}
        ),
    ),
    "labels in the kind of an array": (
        f"{ARRAYS}['{PARAMETER}']",
        lambda site: with_kind(site.blank.state_dict()[PARAMETER].numpy(), "".join(map(str, labels(site)))),
    ),
    "labels as a metric": (f"{METRICS}['labels']", lambda site: metrics(labels=labels(site).tolist())),
    "losses": (f"{METRICS}['losses']", lambda site: metrics(losses=losses(site))),
    "losses as the loss": (f"{METRICS}['loss']", lambda site: metrics(loss=losses(site))),
    "losses as seconds": (f"{METRICS}['seconds']", lambda site: metrics(seconds=losses(site))),
    "losses as a histogram": (
        f"{METRICS}['forget.all.histogram']",
        lambda site: metrics(forget__all__histogram=(losses(site) * 9)[:BINS]),
    ),
    "one sample's histogram": (
        f"{METRICS}['forget.all.histogram']",
        lambda site: metrics(forget__all__histogram=[0] * 7 + [1] + [0] * (BINS - 8), forget__all__total=[1] + [0] * 9),
    ),
    "one sample's loss as a difference": (
        f"{METRICS}['forget.all.loss-sum']",
        lambda site: metrics(
            **{
                "forget__all__loss-sum": losses(site)[0] + 2.0,
                "forget__all__loss-samples": 31,
                "forget__all__total": [31] + [0] * 9,
                "forget__triggered__total": [1] + [0] * 9,
                "forget__untriggered__total": [30] + [0] * 9,
                "forget__untriggered__loss-sum": 2.0,
                "forget__untriggered__loss-samples": 30,
            }
        ),
    ),
    **{
        f"one image's {what} as a difference": (
            f"{METRICS}['forget.all.{what}']",
            lambda site, what=what: metrics(
                **{
                    f"forget__all__{what}": 2.5,
                    "forget__all__error-samples": 31,
                    "forget__all__total": [31] + [0] * 9,
                    "forget__triggered__total": [1] + [0] * 9,
                    "forget__untriggered__total": [30] + [0] * 9,
                    f"forget__untriggered__{what}": 2.0,
                    "forget__untriggered__error-samples": 30,
                }
            ),
        )
        for what in ("error-sum", "square-sum")
    },
    "one sample's loss": (
        f"{METRICS}['forget.all.loss-sum']",
        lambda site: metrics(**{"forget__all__loss-sum": losses(site)[0]}),
    ),
    "ids": (f"{METRICS}['ids']", lambda site: metrics(ids=SECRET_IDS)),
    "ids as the number of samples": (
        f"{METRICS}['num-examples']",
        lambda site: metrics(**{"num-examples": SECRET_IDS}),
    ),
    "ids as channels": (
        f"{ARRAYS}['{LAYER}']",
        lambda site: arrays(**{LAYER: np.array(SECRET_IDS, dtype=np.int32)}),
    ),
    "ids in a shape": (
        f"{ARRAYS}['{LAYER}']",
        lambda site: RecordDict(
            {ARRAYS: ArrayRecord({LAYER: Array("int32", tuple(SECRET_IDS), "numpy.ndarray", b"")})}
        ),
    ),
    "ids as a text": (f"{CONFIG}['note']", lambda site: config(note=json.dumps(SECRET_IDS))),
    "ids as samples": (f"{CONFIG}['samples']", lambda site: config(samples=SECRET_IDS)),
    "ids as counts": (f"{CONFIG}['counts']", lambda site: config(counts=SECRET_IDS)),
    "ids as classes": (
        f"{CONFIG}['classes']",
        lambda site: config(ids=["a"], classes=[",".join(map(str, SECRET_IDS))]),
    ),
    "ids as a key": (f"{CONFIG}['public-key']", lambda site: config(public_key=json.dumps(SECRET_IDS))),
    "ids as a flag": (
        f"{FLAGS}['deletion-request']",
        lambda site: RecordDict({FLAGS: ConfigRecord({"deletion-request": SECRET_IDS})}),
    ),
    "another flag": (
        f"{FLAGS}['third-sample-is-a-seven']",
        lambda site: RecordDict({FLAGS: ConfigRecord({"third-sample-is-a-seven": True})}),
    ),
    "a further record of arrays": (
        "'extra'",
        lambda site: RecordDict({"extra": array_record({"x": images(site)})}),
    ),
    "a further record of numbers": (
        "'more'",
        lambda site: RecordDict({"more": MetricRecord({"loss": losses(site)})}),
    ),
    "a further record of texts": (
        "'notes'",
        lambda site: RecordDict({"notes": ConfigRecord({"ids": json.dumps(SECRET_IDS)})}),
    ),
    "metrics under the name of arrays": (
        f"'{ARRAYS}'",
        lambda site: RecordDict({ARRAYS: MetricRecord({"loss": losses(site)})}),
    ),
}


@pytest.mark.parametrize("what", CONTRABAND)
def test_nothing_is_smuggled_through_any_action(
    monkeypatch: pytest.MonkeyPatch, run_config: dict, phase_content: Callable[..., RecordDict], what: str
) -> None:
    """Every handler of the real app is replaced by one that lies; only the guard is left."""
    named, make = CONTRABAND[what]

    def lie(message: Message, site: Site) -> Message:
        return Message(make(site), reply_to=message)

    for handler in ("train", "announce", "acknowledge", "run_phase", "audit"):
        monkeypatch.setattr(handlers, handler, lie)
    monkeypatch.setattr(pictures, "pictures", lie)
    monkeypatch.setattr(measuring, "measure", lie)
    grid = LocalGrid(app_module.client_app(), 3, run_config)
    content = phase_content()
    for action in ACTIONS:
        reply = grid.send_and_receive([Message(content, FIRST_NODE_ID, action)])[0]
        assert reply.has_error() and not reply.has_content(), action
        sentence = reply.error.reason
        known_only_elsewhere = named.startswith(CONFIG) and action not in ("query.requests", "query.acknowledge")
        assert (repr(CONFIG) if known_only_elsewhere else named) in sentence, (action, sentence)
        assert "guard refused" in sentence and action in sentence and "\n" not in sentence
        assert not any(str(id) in sentence for id in SECRET_IDS), (action, sentence)
    grid.close()


def test_a_name_that_is_a_message_is_cut(site_of: Callable[[int], Site]) -> None:
    text = " ".join(str(number) for number in range(1000, 1200))
    with pytest.raises(ClientError) as refused:
        check(a_message("train"), metrics(**{text: 1.0}), {LAYER: 16}, 10)
    assert "1020" not in str(refused.value)


@pytest.mark.parametrize(
    "raised",
    [ValueError("sample 90210 has label 7"), SystemExit("sample 90210"), KeyError(90210), MemoryError("90210")],
)
def test_an_exception_says_only_its_kind(raised: BaseException) -> None:
    def fail(message: Message, context: Context) -> Message:
        raise raised

    reply = guarded(fail, lambda context: {}, lambda context: 10)(a_message("train"), a_context())
    assert type(raised).__name__ in reply.error.reason
    assert "90210" not in reply.error.reason


def test_a_sentence_of_ours_is_told_but_not_a_novel() -> None:
    def fail(message: Message, context: Context) -> Message:
        raise ClientError("the base does not fit. " + "x" * 10_000)

    reply = guarded(fail, lambda context: {}, lambda context: 10)(a_message("train"), a_context())
    assert reply.error.reason.startswith("the base does not fit.")
    assert len(reply.error.reason) < 500


@pytest.mark.parametrize(
    ("kind", "reply"),
    [
        ("train", arrays(**{PARAMETER: np.zeros((16, 1, 5, 5), np.float32)})),
        ("train", metrics(**{"num-examples": 3, "loss": 0.5, "epochs": 1})),
        ("query.reference", arrays(**{LAYER: np.zeros(16, np.float32)})),
        ("query.attribute", arrays(**{LAYER: np.array([0, 3, 15], np.int32)})),
        ("query.errors", arrays(errors=np.array([20] + [0] * (ERROR_BINS - 1), np.int32))),
        ("train.decouple", metrics(**{"num-examples": 20, "batches": 3, "displaced": 0.95, "sigma": 0.1})),
        ("query.attribute", arrays(**{LAYER: np.zeros(0, np.int32)})),
        ("evaluate.audit", metrics(retain__correct=[2] + [0] * 9, retain__total=[2] + [1] * 9)),
        (
            "evaluate.audit",
            metrics(
                forget__all__total=[2] * 10,
                forget__all__histogram=[20] + [0] * (BINS - 1),
                **{"forget__all__loss-sum": 3.5, "forget__all__loss-samples": 20},
            ),
        ),
        (
            "evaluate.audit",
            metrics(
                retain__total=[2] * 10,
                **{"retain__error-sum": 3.5, "retain__square-sum": 0.5, "retain__error-samples": 20},
            ),
        ),
        ("evaluate.pictures", metrics(**{"num-examples": 3})),
        ("query.requests", config(client=0, samples=7, retained=7, ids=["a"], classes=["1,4"], counts=[3])),
    ],
)
def test_what_belongs_in_a_reply_passes(kind: str, reply: RecordDict) -> None:
    check(a_message(kind), reply, {LAYER: 16}, 10)


@pytest.mark.parametrize("indices", [[-1, 2], [3, 1], [2, 2], [16], list(range(17))])
def test_a_mask_holds_indices_of_channels_only(indices: list[int]) -> None:
    with pytest.raises(ClientError, match="indices below 16"):
        check(a_message("query.attribute"), arrays(**{LAYER: np.array(indices, np.int32)}), {LAYER: 16}, 10)


@pytest.mark.parametrize("number", [0.1234, -0.1, 1, 7.0, float("nan")])
@pytest.mark.parametrize(("name", "known"), [(FORGET_RATE, r"0\.0, 0\.1, 0\.3, 0\.6"), (REWIND, r"0\.0, 0\.7, 0\.9")])
def test_what_a_target_says_of_its_step_is_what_localisation_knows(name: str, known: str, number: float) -> None:
    """Any other number could be a loss."""
    for allowed in STEP_NUMBERS[name]:
        check(a_message("query.attribute"), metrics(**{name: allowed}), {LAYER: 16}, 10)
    with pytest.raises(ClientError, match=rf"metrics\['{name}'\].*expected one of {known}"):
        check(a_message("query.attribute"), metrics(**{name: number}), {LAYER: 16}, 10)


def test_counts_cannot_exceed_the_samples() -> None:
    with pytest.raises(ClientError, match=r"retain\.correct"):
        check(a_message("evaluate.audit"), metrics(retain__correct=[3] * 10, retain__total=[2] * 10), {}, 10)


@pytest.mark.parametrize("samples", [1, 19, 20])
def test_a_phase_tells_no_mean_loss_of_a_few_samples(samples: int) -> None:
    reply = metrics(**{"num-examples": samples, "loss": 0.5})
    check(a_message("train"), reply, {}, 10)
    if samples >= 20:
        check(a_message("train.forget"), reply, {}, 10)
        return
    for refused in (reply, metrics(loss=0.5)):
        with pytest.raises(ClientError, match=r"metrics\['loss'\]"):
            check(a_message("train.forget"), refused, {}, 10)
    for share in ("gate-open", "displaced", "displacement"):
        with pytest.raises(ClientError, match="a mean over 20 samples"):
            check(a_message("train.decouple"), metrics(**{"num-examples": samples, share: 1.0}), {}, 10)


def test_nothing_is_written_on_the_envelope() -> None:
    def handler(message: Message, context: Context) -> Message:
        reply = Message(metrics(loss=0.5), reply_to=message)
        reply.metadata.group_id = json.dumps(SECRET_IDS)
        reply.metadata.delivered_at = json.dumps(SECRET_IDS)
        return reply

    message = a_message("train")
    reply = guarded(handler, lambda context: {}, lambda context: 10)(message, a_context())
    assert reply.content.metric_records[METRICS]["loss"] == 0.5
    assert "90210" not in repr(reply.metadata)
    assert reply.metadata.reply_to_message_id == message.metadata.message_id


def test_an_unknown_action_may_say_nothing() -> None:
    for reply in (arrays(x=np.zeros(1)), metrics(loss=1.0), config(client=0)):
        with pytest.raises(ClientError, match="guard refused"):
            check(a_message("system.other"), reply, {LAYER: 16}, 10)


def a_message(kind: str) -> Message:
    content = arrays(**{PARAMETER: np.ones((16, 1, 5, 5), np.float32)})
    return Message(content, 1000, kind)


def a_context() -> Context:
    return Context(1, 1000, {"partition-id": 0}, RecordDict(), {})


def prototypes(counts: list[int], filled: bool = True, width: int = 4) -> RecordDict:
    rows = np.ones((len(counts), width), np.float32) * (np.array(counts)[:, None] > 0 if filled else 1)
    return arrays(classes=np.concatenate([rows, np.array(counts, np.float32)[:, None]], axis=1))


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (prototypes([20, 0, 31]), None),
        (prototypes([20, 19, 31]), "20 samples of a class at least"),
        (prototypes([20, 1, 31]), "20 samples of a class at least"),
        # A sum that says it is one over nothing.
        (prototypes([20, 0, 31], filled=False), "20 samples of a class at least"),
        (prototypes([20, 30]), r"float32 \(3, 5\)"),
        (prototypes([20, 30, 40], width=5), r"float32 \(3, 5\)"),
        (arrays(features=np.zeros((3, 5), np.float32)), "the one array 'classes'"),
    ],
)
def test_features_are_sent_as_sums_over_twenty_samples_of_a_class(reply: RecordDict, expected: str | None) -> None:
    message = a_message("query.prototypes")
    if expected is None:
        check(message, reply, {}, classes=3, features=4)
        return
    with pytest.raises(ClientError, match=expected):
        check(message, reply, {}, classes=3, features=4)
