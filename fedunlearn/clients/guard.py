"""The guard on outgoing messages: an allow-list of what each handler may send.

It promises a schema, not magic: records, names, types, shapes and sizes. Data hidden inside correctly
shaped weights passes it; how much those give away is what a leakage audit measures.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict

from fedunlearn.audit import error_histogram
from fedunlearn.audit.counts import MINIMUM_SAMPLES, leave_few
from fedunlearn.audit.examination import FORGET_PARTS
from fedunlearn.audit.loss_histogram import BINS
from fedunlearn.clients.guard_arrays import (
    Judge,
    channel_indices,
    counts_by_bin,
    feature_sums,
    like_incoming,
    no_array,
    score_per_channel,
    score_per_class_and_channel,
)
from fedunlearn.clients.guard_measurements import undeclared
from fedunlearn.errors import ClientError, FedunlearnError
from fedunlearn.strategies.content import ARRAYS, CONFIG, FLAGS, METRICS
from fedunlearn.strategies.localisation import STEP_NUMBERS
from fedunlearn.strategies.measurement import MEASURE

logger = logging.getLogger("fedunlearn.clients")

Handler = Callable[[Message, Context], Message]
ERROR_CODE = 2
"""Flower's own code for an exception in a ClientApp."""

MOST_REQUESTS = 256
LONGEST_SENTENCE, LONGEST_NAME = 400, 48
NUMBER, DIGEST, ID = r"\d{1,12}", r"[0-9a-f]{64}", r"[A-Za-z0-9_-]{1,64}"
SAID_ONCE = {"client": NUMBER, "samples": NUMBER, "retained": NUMBER, "public-key": r"[A-Za-z0-9+/]{43}="}
"""What a client announces of itself: each value matches its pattern whole."""
SAID_PER_REQUEST = {
    "ids": ID,
    "scopes": "client|classes|samples|class-everywhere",
    "classes": r"(\d{1,5}(,\d{1,5})*)?",
    "counts": NUMBER,
    "commitments": DIGEST,
    "signatures": r"[A-Za-z0-9+/]{86}==",
    "holders": NUMBER,
}
"""What it announces of each pending request, in lists of one length."""

FLAG_NAMES = frozenset({"deletion-request", "needs-base"})
OF_SEVERAL = frozenset({"gate-open", "displaced", "displacement"})
"""Numbers of a training that tell on which side of something a sample is, unless they are of many."""
TRAINING_NUMBERS = frozenset({"num-examples", "loss", "epochs", "seconds", "batches", "sigma"}) | OF_SEVERAL
ERASED = frozenset({"models", "files"})
"""How many of each a client erased."""
QUERY_NUMBERS = frozenset({"num-examples", "seconds"})
AUDIT_NUMBER = re.compile(
    r"num-examples|seconds|(retain|held-out|forget\.(all|triggered|untriggered|canaries))"
    r"\.(correct|total|histogram|loss-sum|loss-samples|exposure-sum|exposure-samples|error-sum|square-sum|error-samples)"
)


SUMMED_OVER = {
    "loss-sum": "loss-samples",
    "exposure-sum": "exposure-samples",
    "error-sum": "error-samples",
    "square-sum": "error-samples",
}
"""Sums -> the number of samples that has to come with each."""


@dataclass(frozen=True)
class Allowed:
    """What the reply to one kind of message may hold.

    Attributes:
        arrays: judges each array.
        numbers: judges the name of a metric.
        lists: last part of a metric's name -> the length its list of counts must have.
        announcement: whether the client may say who it is and what it has filed.
    """

    arrays: Judge
    numbers: Callable[[str], bool] = lambda _: False
    lists: Mapping[str, int] = field(default_factory=dict)
    announcement: bool = False


def check(incoming: Message, reply: RecordDict, channels: Mapping[str, int], classes: int, features: int = 0) -> None:
    """Raise ClientError naming the first record of `reply` that is not allowed.

    The sentence says what was expected and nothing of what was found, because it is sent.

    Args:
        incoming: the message that is answered.
        reply: what the handler wants to send.
        channels: layer name -> number of channels of the client's own model.
        classes: number of classes; lists of counts may be that long, histograms as long as their bins.
        features: numbers that go into the output layer of the client's own model.
    """
    kind = incoming.metadata.message_type
    allowed = _allowed(incoming, channels, classes, features)
    for name, record in reply.items():
        if isinstance(record, ArrayRecord) and name == ARRAYS:
            for key, array in record.items():
                wrong = allowed.arrays(key, array)
                if wrong:
                    raise _refused(kind, _named(name, key), wrong)
        elif isinstance(record, MetricRecord) and name == METRICS and kind == MEASURE:
            found = undeclared(incoming, record, classes)
            if found:
                raise _refused(kind, _named(name, found[0]), found[1])
        elif isinstance(record, MetricRecord) and name == METRICS:
            _check_metrics(kind, record, allowed)
        elif isinstance(record, ConfigRecord) and name == FLAGS:
            for key, flag in record.items():
                if key not in FLAG_NAMES or not isinstance(flag, bool):
                    expected = f"true or false under one of the names {', '.join(sorted(FLAG_NAMES))}"
                    raise _refused(kind, _named(name, key), expected)
        elif isinstance(record, ConfigRecord) and name == CONFIG and allowed.announcement:
            _check_announcement(kind, record, classes)
        else:
            raise _refused(kind, repr(_short(name)), "no such record")


def _allowed(incoming: Message, channels: Mapping[str, int], classes: int, features: int) -> Allowed:
    kind = incoming.metadata.message_type
    if kind in ("query.requests", "query.acknowledge"):
        return Allowed(no_array, announcement=True)
    if kind == "query.erase":
        return Allowed(no_array, ERASED.__contains__)
    if kind == "query.attribute":
        return Allowed(channel_indices(channels), (QUERY_NUMBERS | STEP_NUMBERS.keys()).__contains__)
    if kind == "query.activations":
        return Allowed(score_per_class_and_channel(channels, classes), QUERY_NUMBERS.__contains__)
    if kind == "query.prototypes":
        return Allowed(feature_sums(classes, features), QUERY_NUMBERS.__contains__)
    if kind == "query.importance":
        return Allowed(like_incoming(incoming), QUERY_NUMBERS.__contains__)
    if kind == "query.errors":
        return Allowed(counts_by_bin("errors", error_histogram.BINS, MINIMUM_SAMPLES), QUERY_NUMBERS.__contains__)
    if kind.startswith("query"):
        return Allowed(score_per_channel(channels, classes), QUERY_NUMBERS.__contains__)
    if kind.startswith("train"):
        return Allowed(like_incoming(incoming), TRAINING_NUMBERS.__contains__)
    if kind.startswith("evaluate"):
        lists = {"histogram": BINS, "total": classes, "correct": classes}
        return Allowed(no_array, lambda key: AUDIT_NUMBER.fullmatch(key) is not None, lists=lists)
    return Allowed(no_array)


def _check_metrics(kind: str, record: MetricRecord, allowed: Allowed) -> None:
    if leave_few(_sum(record.get(f"forget.{part}.total")) for part in FORGET_PARTS):
        for what in (*SUMMED_OVER, "histogram"):
            if (name := f"forget.all.{what}") in record:
                raise _refused(kind, _named(METRICS, name), "nothing from which a sum over fewer samples follows")
    for key, number in record.items():
        where = _named(METRICS, key)
        if not allowed.numbers(key):
            raise _refused(kind, where, "a name on the allow-list")
        group, _, what = key.rpartition(".")
        length = allowed.lists.get(what)
        if length is None and isinstance(number, list):
            raise _refused(kind, where, "one number, no list")
        if length is not None and not _are_counts(number, length):
            raise _refused(kind, where, f"a list of {length} counts")
        samples = _sum(record.get(f"{group}.total"))
        if what == "correct" and any(
            r > n for r, n in zip(_list(number), _list(record.get(f"{group}.total")), strict=False)
        ):
            raise _refused(kind, where, "no more than there are samples")
        if what == "histogram" and not MINIMUM_SAMPLES <= _sum(number) == samples:
            raise _refused(kind, where, f"each sample once, and {MINIMUM_SAMPLES} samples at least")
        if what in SUMMED_OVER.values() and not MINIMUM_SAMPLES <= number <= samples:  # type: ignore[operator]
            raise _refused(kind, where, f"a number of samples, {MINIMUM_SAMPLES} at least")
        if key in STEP_NUMBERS and number not in STEP_NUMBERS[key]:
            raise _refused(kind, where, f"one of {', '.join(map(str, sorted(STEP_NUMBERS[key])))}")
        told_of_several = key == "loss" or key in OF_SEVERAL
        if told_of_several and kind.startswith("train.") and not _are_several(record.get("num-examples")):
            raise _refused(kind, where, f"a mean over {MINIMUM_SAMPLES} samples at least")
        if what in SUMMED_OVER and f"{group}.{SUMMED_OVER[what]}" not in record:
            raise _refused(kind, where, "a sum beside its number of samples")


def _are_several(number: object) -> bool:
    return isinstance(number, int) and number >= MINIMUM_SAMPLES


def _are_counts(value: object, length: int) -> bool:
    if not isinstance(value, list) or len(value) != length:
        return False
    return all(type(one) is int and one >= 0 for one in value)


def _list(value: object) -> list:
    return value if isinstance(value, list) else []


def _sum(value: object) -> int:
    return sum(_list(value))


def _check_announcement(kind: str, record: ConfigRecord, classes: int) -> None:
    requests = len(_list(record.get("ids")))
    for key, value in record.items():
        where = _named(CONFIG, key)
        if key in SAID_ONCE:
            if not _matches(SAID_ONCE[key], value):
                raise _refused(kind, where, f"one value of the pattern {SAID_ONCE[key]}")
        elif key in SAID_PER_REQUEST:
            pattern = SAID_PER_REQUEST[key]
            if not isinstance(value, list) or len(value) != requests or requests > MOST_REQUESTS:
                raise _refused(kind, where, f"one value a request, and {MOST_REQUESTS} requests at most")
            if not all(_matches(pattern, item) for item in value):
                raise _refused(kind, where, f"values of the pattern {pattern}")
            if key == "classes" and not all(_name_classes(str(item), classes) for item in value):
                raise _refused(kind, where, f"sorted and distinct classes below {classes}")
        else:
            raise _refused(kind, where, "a name on the allow-list")


def _matches(pattern: str, value: object) -> bool:
    wanted = int if pattern == NUMBER else str
    return type(value) is wanted and re.fullmatch(pattern, str(value)) is not None


def _name_classes(text: str, classes: int) -> bool:
    named = [int(one) for one in text.split(",") if one]
    return named == sorted(set(named)) and all(one < classes for one in named)


def _named(record: str, key: str) -> str:
    return f"{record}[{_short(key)!r}]"


def _short(name: str) -> str:
    """A name as it may be told: a long one may be a message."""
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"


def _refused(kind: str, where: str, expected: str) -> ClientError:
    return ClientError(
        f"the guard refused to send {where} in answer to {_short(kind)!r}: expected {expected}; nothing was sent."
    )


def guarded(
    handler: Handler,
    channels: Callable[[Context], Mapping[str, int]],
    classes: Callable[[Context], int],
    features: Callable[[Context], int] = lambda context: 0,
) -> Handler:
    """`handler` behind the guard; an exception becomes an error reply of one sentence.

    The traceback stays in the client's log.
    """

    def guard(message: Message, context: Context) -> Message:
        try:
            reply = handler(message, context)
            if reply.has_content():
                check(message, reply.content, channels(context), classes(context), features(context))
                # A message of our own: what the handler wrote on the envelope stays here.
                return Message(reply.content, reply_to=message)
            raise ClientError(f"the handler of {message.metadata.message_type!r} answered with an error of its own.")
        except FedunlearnError as error:
            logger.warning("%s", error)
            sentence = str(error)
        except (Exception, SystemExit) as error:
            # What an exception says may quote a sample, and an exit status may be a text.
            logger.exception("handler of %r failed", message.metadata.message_type)
            sentence = f"the client failed in {message.metadata.message_type!r} ({type(error).__name__})."
        if len(sentence) > LONGEST_SENTENCE:
            sentence = f"{sentence[:LONGEST_SENTENCE]}…"
        return Message(Error(ERROR_CODE, sentence), reply_to=message)

    return guard
