"""The guard on outgoing messages: an allow-list of what each handler may send.

It promises a schema, not magic: records, names, types, shapes and sizes. Data hidden inside correctly
shaped weights passes it; how much those give away is what a leakage audit measures.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict

from fedunlearn.audit.loss_histogram import BINS
from fedunlearn.errors import ClientError, FedunlearnError
from fedunlearn.strategies.content import ARRAYS, CONFIG, FLAGS, METRICS

logger = logging.getLogger("fedunlearn.clients")

Handler = Callable[[Message, Context], Message]
ERROR_CODE = 2
"""Flower's own code for an exception in a ClientApp."""

MOST_REQUESTS = 256
NUMBER, DIGEST, ID = r"\d{1,12}", r"[0-9a-f]{64}", r"[A-Za-z0-9_-]{1,64}"
ANNOUNCEMENT = {
    "client": NUMBER,
    "samples": NUMBER,
    "retained": NUMBER,
    "public-key": r"[A-Za-z0-9+/]{43}=",
    "ids": ID,
    "scopes": "client|classes|samples|class-everywhere",
    "classes": r"(\d{1,5}(,\d{1,5})*)?",
    "counts": NUMBER,
    "commitments": DIGEST,
    "signatures": r"[A-Za-z0-9+/]{86}==",
}
"""What a client announces: each value, or each entry of a list, matches its pattern whole."""

TRAINING_NUMBERS = frozenset({"num-examples", "loss", "epochs", "seconds", "batches", "gate-open"})
QUERY_NUMBERS = frozenset({"num-examples", "seconds"})
AUDIT_NUMBER = re.compile(
    r"num-examples|seconds|(retain|forget\.(all|triggered|untriggered|canaries))"
    r"\.(correct|total|histogram|loss-sum|loss-samples|exposure-sum|exposure-samples)"
)


@dataclass(frozen=True)
class Allowed:
    """What the reply to one kind of message may hold.

    Attributes:
        arrays: judges one array by name; returns what was expected of it, or None when it is fine.
        numbers: judges the name of a metric.
        lists: last part of a metric's name -> the length its list of whole numbers must have.
        texts: name of a configuration value -> the pattern of its entries.
    """

    arrays: Callable[[str, np.dtype, tuple[int, ...], int], str | None]
    numbers: Callable[[str], bool]
    lists: Mapping[str, int] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


def check(incoming: Message, reply: RecordDict, channels: Mapping[str, int], classes: int) -> None:
    """Raise ClientError naming the first record of `reply` that is not allowed.

    Args:
        incoming: the message that is answered.
        reply: what the handler wants to send.
        channels: layer name -> number of channels of the client's own model.
        classes: number of classes; lists of counts may be that long, histograms as long as their bins.
    """
    kind = incoming.metadata.message_type
    allowed = _allowed(incoming, channels, classes)
    for name, record in reply.items():
        if isinstance(record, ArrayRecord) and name == ARRAYS:
            for key, array in record.items():
                dtype, shape = np.dtype(array.dtype), tuple(array.shape)
                wrong = allowed.arrays(key, dtype, shape, len(array.data))
                if wrong:
                    raise _refused(kind, f"{name}[{key!r}]", f"{dtype} {shape}", wrong)
        elif isinstance(record, MetricRecord) and name == METRICS:
            for key, number in record.items():
                if not allowed.numbers(key):
                    raise _refused(kind, f"{name}[{key!r}]", "a number of that name", "a name on the allow-list")
                _check_list(kind, f"{name}[{key!r}]", key, number, allowed.lists)
        elif isinstance(record, ConfigRecord) and name == FLAGS:
            for key, flag in record.items():
                if not isinstance(flag, bool):
                    raise _refused(kind, f"{name}[{key!r}]", type(flag).__name__, "true or false")
        elif isinstance(record, ConfigRecord) and name == CONFIG:
            for key, text in record.items():
                _check_text(kind, key, text, allowed.texts)
        else:
            raise _refused(kind, repr(name), type(record).__name__, "no such record")


def _allowed(incoming: Message, channels: Mapping[str, int], classes: int) -> Allowed:
    kind = incoming.metadata.message_type
    if kind in ("query.requests", "query.acknowledge"):
        return Allowed(_no_array, lambda _: False, texts=ANNOUNCEMENT)
    if kind == "query.attribute":
        return Allowed(_channel_indices(channels), QUERY_NUMBERS.__contains__)
    if kind.startswith("query"):
        return Allowed(_score_per_channel(channels, classes), QUERY_NUMBERS.__contains__)
    if kind.startswith("train"):
        return Allowed(_like_incoming(incoming), TRAINING_NUMBERS.__contains__)
    if kind.startswith("evaluate"):
        lists = {"histogram": BINS, "total": classes, "correct": classes}
        return Allowed(_no_array, lambda key: AUDIT_NUMBER.fullmatch(key) is not None, lists=lists)
    return Allowed(_no_array, lambda _: False)


def _no_array(name: str, dtype: np.dtype, shape: tuple[int, ...], size: int) -> str | None:
    return "no array at all"


def _score_per_channel(
    channels: Mapping[str, int], classes: int
) -> Callable[[str, np.dtype, tuple[int, ...], int], str | None]:
    """Aggregates only: one float a channel under the layer's name, or one float a class."""

    def judge(name: str, dtype: np.dtype, shape: tuple[int, ...], size: int) -> str | None:
        expected = (channels[name],) if name in channels else (classes,) if name.startswith("classes") else None
        if expected is None:
            return f"the name of a layer ({', '.join(channels)})"
        if dtype != np.float32 or shape != expected:
            return f"float32 {expected}"
        return _plain_size(dtype, shape, size)

    return judge


def _channel_indices(
    channels: Mapping[str, int],
) -> Callable[[str, np.dtype, tuple[int, ...], int], str | None]:
    def judge(name: str, dtype: np.dtype, shape: tuple[int, ...], size: int) -> str | None:
        if name not in channels:
            return f"the name of a layer ({', '.join(channels)})"
        if dtype != np.int32 or len(shape) != 1 or shape[0] > channels[name]:
            return f"int32, at most {channels[name]} indices"
        return _plain_size(dtype, shape, size)

    return judge


def _like_incoming(incoming: Message) -> Callable[[str, np.dtype, tuple[int, ...], int], str | None]:
    """What a training reply may hold is what came down: same names, types and shapes."""
    sent = incoming.content.array_records.get(ARRAYS, ArrayRecord())

    def judge(name: str, dtype: np.dtype, shape: tuple[int, ...], size: int) -> str | None:
        if name not in sent:
            return "only parameters that the server sent"
        expected = np.dtype(sent[name].dtype), tuple(sent[name].shape)
        return _plain_size(dtype, shape, size) if (dtype, shape) == expected else f"{expected[0]} {expected[1]}"

    return judge


def _plain_size(dtype: np.dtype, shape: tuple[int, ...], size: int) -> str | None:
    """A serialised array is its header and its numbers; more bytes would be something carried along."""
    most = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize + 256
    return None if size <= most else f"at most {most} bytes"


def _check_list(kind: str, where: str, key: str, number: object, lists: Mapping[str, int]) -> None:
    expected = lists.get(key.rpartition(".")[2])
    if isinstance(number, list):
        if expected is None or len(number) != expected or not all(isinstance(n, int) for n in number):
            raise _refused(kind, where, f"a list of {len(number)}", f"{expected or 'no list, one number'} counts")
    elif expected is not None:
        raise _refused(kind, where, "one number", f"a list of {expected} counts")


def _check_text(kind: str, key: str, value: object, allowed: Mapping[str, str]) -> None:
    where = f"{CONFIG}[{key!r}]"
    if key not in allowed:
        raise _refused(kind, where, "a value of that name", "a name on the allow-list")
    values = value if isinstance(value, list) else [value]
    if len(values) > MOST_REQUESTS:
        raise _refused(kind, where, f"{len(values)} values", f"{MOST_REQUESTS} at most")
    for item in values:
        if not isinstance(item, str | int) or re.fullmatch(allowed[key], str(item)) is None:
            raise _refused(kind, where, f"a {type(item).__name__} of another form", f"the pattern {allowed[key]}")


def _refused(kind: str, where: str, found: str, expected: str) -> ClientError:
    return ClientError(
        f"the guard refused to send {where} in answer to {kind!r}: it is {found}, expected {expected}; "
        "nothing was sent."
    )


def guarded(
    handler: Handler, channels: Callable[[Context], Mapping[str, int]], classes: Callable[[Context], int]
) -> Handler:
    """`handler` behind the guard; an exception becomes an error reply of one sentence.

    The traceback stays in the client's log.
    """

    def guard(message: Message, context: Context) -> Message:
        try:
            reply = handler(message, context)
            if reply.has_content():
                check(message, reply.content, channels(context), classes(context))
            return reply
        except FedunlearnError as error:
            logger.warning("%s", error)
            sentence = str(error)
        except Exception as error:
            logger.exception("handler of %r failed", message.metadata.message_type)
            sentence = f"the client failed in {message.metadata.message_type!r} ({type(error).__name__})."
        return Message(Error(ERROR_CODE, sentence), reply_to=message)

    return guard
