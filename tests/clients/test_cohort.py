"""Messages that are answered together against the same messages answered one by one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict

from fedunlearn.clients import cohort, handlers
from fedunlearn.clients.app import client_app
from fedunlearn.clients.cohort import CohortApp
from fedunlearn.clients.site import Site
from fedunlearn.engines.local import FIRST_NODE_ID
from fedunlearn.strategies.content import ARRAYS, FLAGS, METRICS, numpy_arrays

CLIENTS = (0, 1, 2)


@pytest.fixture
def app() -> CohortApp:
    made = client_app()
    assert isinstance(made, CohortApp)
    return made


@pytest.fixture
def contexts(run_config: dict) -> Callable[..., list[Context]]:
    def make(clients: tuple[int, ...] = CLIENTS, **changed: object) -> list[Context]:
        config = {**run_config, **changed}
        return [Context(1, 1, {"partition-id": client}, RecordDict(), config) for client in clients]  # type: ignore[arg-type]

    return make


def messages(content: RecordDict, kind: str = "train", clients: tuple[int, ...] = CLIENTS) -> list[Message]:
    return [Message(content, FIRST_NODE_ID + client, kind) for client in clients]


def assert_same_answers(together: list[Message | None] | None, alone: list[Message]) -> None:
    assert together is not None
    for one, other in zip(together, alone, strict=True):
        assert one is not None and one.has_content()
        assert dict(one.content[METRICS]) == dict(other.content[METRICS])
        assert dict(one.content[FLAGS]) == dict(other.content[FLAGS])
        given, expected = (numpy_arrays(answer.content.array_records[ARRAYS]) for answer in (one, other))
        assert list(given) == list(expected)
        assert all(np.array_equal(given[name], expected[name]) for name in expected)


def test_an_ordinary_round_is_answered_together_bit_for_bit(app, contexts, train_content) -> None:
    asked = messages(train_content)
    alone = [app(message, context) for message, context in zip(asked, contexts(), strict=True)]
    for size in ("auto", 3, 2):
        assert_same_answers(app.batch(asked, contexts(cohort=size)), alone)


def test_a_recovery_round_is_answered_together_bit_for_bit(app, contexts, phase_content) -> None:
    asked = messages(phase_content(), "train.recover")
    alone = [app(message, context) for message, context in zip(asked, contexts(), strict=True)]
    assert_same_answers(app.batch(asked, contexts(cohort=3)), alone)


@pytest.mark.parametrize("kind", ["query.requests", "evaluate.audit"])
def test_what_is_not_training_is_answered_singly(app, contexts, train_content, kind: str) -> None:
    assert app.batch(messages(train_content, kind), contexts()) is None


def test_nothing_is_answered_together_that_should_not_be(app, contexts, train_content, phase_content) -> None:
    asked = messages(train_content)
    assert app.batch(asked, contexts(cohort=1)) is None
    assert app.batch(asked, contexts(precision="bfloat16")) is None
    assert app.batch(asked[:1], contexts((0,))) is None
    assert app.batch(asked[:2], contexts((1, 1))) is None
    mixed = [*asked[:2], *messages(phase_content(), "train.recover")[2:]]
    assert app.batch(mixed, contexts()) is None


def test_a_client_that_cannot_be_prepared_is_left_to_be_asked_singly(
    app, contexts, train_content, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = handlers.ordinary_training

    def fail(message: Message, site: Site):
        if site.client == 1:
            raise ValueError("disk on fire")
        return honest(message, site)

    asked = messages(train_content)
    expected = [app(message, context) for message, context in zip(asked, contexts(), strict=True)]
    monkeypatch.setattr(handlers, "ordinary_training", fail)
    answers = app.batch(asked, contexts())
    assert answers is not None and answers[1] is None
    assert_same_answers([answers[0], answers[2]], [expected[0], expected[2]])


def test_a_client_that_lacks_the_base_is_asked_singly(app, contexts, phase_content) -> None:
    content = phase_content()
    del content["base"]
    assert app.batch(messages(content, "train.recover"), contexts()) is None


def test_every_answer_passes_the_guard(app, contexts, train_content, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = handlers.trained

    def smuggle(message, site, training, result):
        answer = honest(message, site, training, result)
        if site.client == 2:
            answer.content[METRICS]["labels"] = 7.0
        return answer

    monkeypatch.setattr(cohort.handlers, "trained", smuggle)
    answers = app.batch(messages(train_content), contexts(cohort=3))
    assert answers is not None
    assert [answer is not None and answer.has_error() for answer in answers] == [False, False, True]
    assert answers[2] is not None and "the guard refused" in str(answers[2].error.reason)


def test_what_was_refused_is_not_prepared_again(app, contexts, train_content, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = messages(train_content)
    assert app.batch(asked, contexts()) is not None
    for known in app._choices._known.values():
        known.refused = "measured"
    prepared = []
    honest = handlers.ordinary_training
    monkeypatch.setattr(handlers, "ordinary_training", lambda m, site: prepared.append(site.client) or honest(m, site))
    assert app.batch(asked, contexts()) is None
    assert prepared == [0]
