from __future__ import annotations

from collections.abc import Callable

import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from fedunlearn.audit.metric import Metric, Sizes, count, counts, histogram, metrics, number, sum_over, sums
from fedunlearn.audit.places import Place, to_text
from fedunlearn.clients.guard import check
from fedunlearn.errors import ClientError
from fedunlearn.strategies.content import CONFIG, METRICS

DECLARED = Metric(
    "a-metric",
    "For these tests, 0 to 1.",
    tier="quick",
    roles=frozenset({"target", "server"}),
    sends={
        "bins": histogram(6),
        "right": counts(lambda sizes: sizes.classes),
        "by-model": counts(lambda sizes: sizes.references),
        "samples": count(several=True),
        "steps": count(),
        "sum": sum_over("samples"),
        "seconds": number(),
    },
)


@pytest.fixture(autouse=True)
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(metrics._items, DECLARED.name, DECLARED)


@pytest.fixture
def ask() -> Message:
    config = {
        "metrics": [DECLARED.name],
        "models": ["a", "b", "c"],
        "places": to_text([Place(0, references=(1, 2)), Place(1)]),
    }
    return Message(RecordDict({CONFIG: ConfigRecord(config)}), 1000, "evaluate.measure")


def reply(**values: object) -> RecordDict:
    named = {f"0/a-metric/target/{name.replace('_', '-')}": value for name, value in values.items()}
    return RecordDict({METRICS: MetricRecord(named)})  # type: ignore[arg-type]


def test_what_a_metric_declares_passes(ask: Message) -> None:
    everything = reply(
        bins=[0, 20, 0, 3, 0, 0], right=[1] * 10, by_model=[7, 8], samples=20, steps=0, sum=3.25, seconds=0.5
    )
    check(ask, everything, {}, 10)
    check(ask, RecordDict({METRICS: MetricRecord({"1/a-metric/target/by-model": []})}), {}, 10)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"bins": [0, 19, 0, 0, 0, 0]}, "20 samples at least"),
        ({"bins": [20, 0, 0]}, "a list of 6 counts"),
        ({"bins": [20.5, 0.0, 0.0, 0.0, 0.0, 0.0]}, "a list of 6 counts"),
        ({"bins": [30, -1, 0, 0, 0, 0]}, "a list of 6 counts"),
        ({"bins": 20}, "a list of 6 counts"),
        ({"right": [1] * 9}, "a list of 10 counts"),
        ({"by_model": [1, 2, 3]}, "a list of 2 counts"),
        ({"samples": 19}, "20 at least"),
        ({"samples": 20.5}, "a count"),
        ({"steps": -1}, "a count"),
        ({"steps": [1]}, "one number, no list"),
        ({"sum": 3.5}, "a sum beside its number of samples"),
        ({"sum": 3.5, "samples": 19}, "20"),
        ({"seconds": [0.5, 0.5]}, "one number, no list"),
        ({"losses": [20, 0, 0, 0, 0, 0]}, "a name on the allow-list"),
    ],
)
def test_anything_else_is_refused(ask: Message, values: dict, expected: str) -> None:
    with pytest.raises(ClientError, match="guard refused") as refused:
        check(ask, reply(**values), {}, 10)
    assert expected in str(refused.value)


@pytest.mark.parametrize(
    "key",
    [
        "seconds",
        "0/a-metric/target",
        "0/a-metric/target/seconds/more",
        "2/a-metric/target/seconds",
        "00/a-metric/target/seconds",
        "-1/a-metric/target/seconds",
        "²/a-metric/target/seconds",
        "0/a-metric/remaining/seconds",
        "0/a-metric/server/seconds",
        "0/membership_auc/target/seconds",
        "0/another/target/seconds",
    ],
)
def test_only_places_metrics_and_roles_that_were_asked_for(ask: Message, key: str) -> None:
    with pytest.raises(ClientError, match="guard refused"):
        check(ask, RecordDict({METRICS: MetricRecord({key: 1})}), {}, 10)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda config: config.update({"places": "no json"}),
        lambda config: config.update({"places": to_text([Place(0, references=(7,))])}),
        lambda config: config.update({"metrics": ["no such metric"]}),
        lambda config: config.update({"metrics": "a-metric"}),
        lambda config: config.clear(),
    ],
)
def test_a_message_that_cannot_be_read_allows_nothing(ask: Message, spoil: Callable[[dict], None]) -> None:
    config = dict(ask.content.config_records[CONFIG])
    spoil(config)
    message = Message(RecordDict({CONFIG: ConfigRecord(config)}), 1000, "evaluate.measure")
    with pytest.raises(ClientError, match="a name on the allow-list"):
        check(message, reply(seconds=1), {}, 10)


def test_lengths_follow_the_sizes() -> None:
    assert counts(lambda sizes: 3 * sizes.shadows).expected_length(Sizes(10, shadows=4)) == 12
    assert histogram(5).expected_length(Sizes(10)) == 5
    assert number().expected_length(Sizes(10)) is None


SUMS = Metric(
    "sums-metric",
    "For these tests, 0 to 1.",
    tier="quick",
    roles=frozenset({"target"}),
    sends={"samples": count(several=True), "total": counts(3, each=True), "features": sums(4, "samples")},
)
SOUND = {"samples": 20, "total": [20, 0, 0], "features": [0.5, -1.0, 0.0, 3.0]}


def asked_for_sums(monkeypatch: pytest.MonkeyPatch) -> Message:
    monkeypatch.setitem(metrics._items, SUMS.name, SUMS)
    config = {"metrics": [SUMS.name], "models": ["a"], "places": to_text([Place(0)])}
    return Message(RecordDict({CONFIG: ConfigRecord(config)}), 1000, "evaluate.measure")


def of_sums(values: dict) -> RecordDict:
    return RecordDict({METRICS: MetricRecord({f"0/sums-metric/target/{name}": v for name, v in values.items()})})


def test_sums_over_enough_samples_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    check(asked_for_sums(monkeypatch), of_sums(SOUND), {}, 10)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"features": [0.5, -1.0, 0.0]}, "a list of 4 sums"),
        ({"features": [0.5, -1.0, 0.0, float("nan")]}, "a list of 4 sums"),
        ({"features": [1, 2, 3, 4]}, "a list of 4 sums"),
        ({"features": 3.0}, "a list of 4 sums"),
        ({"total": [20, 1, 0]}, "counts of 0, or of 20 at least"),
        ({"samples": 19}, "20 at least"),
    ],
)
def test_sums_over_a_few_samples_do_not(monkeypatch: pytest.MonkeyPatch, changes: dict, expected: str) -> None:
    with pytest.raises(ClientError, match=expected):
        check(asked_for_sums(monkeypatch), of_sums({**SOUND, **changes}), {}, 10)


def test_sums_without_their_number_of_samples_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = {name: value for name, value in SOUND.items() if name != "samples"}
    with pytest.raises(ClientError, match="sums beside their number of samples"):
        check(asked_for_sums(monkeypatch), of_sums(alone), {}, 10)
