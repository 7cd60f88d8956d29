from __future__ import annotations

import pytest

from fedunlearn.audit.primary import FORGET_LOSS, TEST_ACCURACY
from fedunlearn.errors import DataError, RequestError
from fedunlearn.federation import Federation
from fedunlearn.server.branches import MAIN, RESTORED, base_digest, is_taken_back, served_digest
from fedunlearn.server.judging import case_of, judge_case, measured_of, served_before
from fedunlearn.server.primary_figures import Figure

FINE_TUNE = {"method": "fine-tune", "rounds": 1}


def figures(loss: float, accuracy: float, samples: int = 100) -> dict[str, Figure]:
    return {"forget_loss": Figure(loss), "test_accuracy": Figure(accuracy, samples)}


def test_a_metric_out_of_everybodys_figures() -> None:
    band = [figures(1.0, 0.5), figures(1.1, 0.6)]
    rate = measured_of(TEST_ACCURACY, figures(0.1, 0.9), figures(0.2, 0.8), band)
    assert rate is not None
    assert (rate.original, rate.unlearned, rate.retrained, rate.samples) == (0.9, 0.8, (0.5, 0.6), 100)
    loss = measured_of(FORGET_LOSS, figures(0.1, 0.9), figures(0.2, 0.8), band)
    assert loss is not None and loss.samples is None
    assert measured_of(FORGET_LOSS, figures(0.1, 0.9), {}, band) is None


def test_models_that_were_measured_on_different_samples_are_not_compared() -> None:
    with pytest.raises(DataError, match="measured on 100 and 90 samples"):
        measured_of(TEST_ACCURACY, figures(0.1, 0.9), figures(0.2, 0.8), [figures(1.0, 0.5, 90)])


def test_cases_and_what_was_served_before_them(federation: Federation) -> None:
    session = federation._session()
    original = served_digest(session)
    requests = [federation.request_deletion(client=0), federation.request_deletion(client=1, classes=[1])]
    for request in requests:
        federation.unlearn(request, **FINE_TUNE)
    first, second = (case_of(session, [request.id]) for request in requests)
    assert (first.original, first.rounds, first.scope, first.classes) == (original, 2, "client", None)
    assert (second.original, second.rounds, second.scope, second.classes) == (first.branch.head, 2, "classes", (1,))
    assert served_before(session, first) == [] and served_before(session, second) == [first]
    with pytest.raises(RequestError):
        case_of(session, ["client-9-1"])


def test_what_was_taken_back_was_not_served_before(federation: Federation) -> None:
    session = federation._session()
    first = federation.request_deletion(client=0)
    federation.unlearn(first, **FINE_TUNE)
    case = case_of(session, [first.id])
    session.ledger.move_head(MAIN, case.original, RESTORED, {"request": first.id})
    assert is_taken_back(session, case.job) and base_digest(session, case.job) == case.original
    second = federation.request_deletion(client=1, classes=[1])
    federation.unlearn(second, **FINE_TUNE)
    assert served_before(session, case_of(session, [second.id])) == []
    # Served again, the first one starts from what is served by then.
    federation.unlearn(first, **FINE_TUNE)
    again = case_of(session, [first.id])
    assert again.original == case_of(session, [second.id]).branch.head and not is_taken_back(session, case.job)
    assert [one.requests for one in served_before(session, again)] == [second.id]


def test_what_is_withheld_is_left_out_of_the_verdict(federation: Federation) -> None:
    session = federation._session()
    request = federation.request_deletion(client=0)
    federation.unlearn(request, **FINE_TUNE)
    case = case_of(session, [request.id])
    band = [f"{number}" for number in range(8)]
    found = {case.original: figures(0.1, 0.9), case.branch.head: figures(1.0, 0.8)}
    found |= {digest: figures(1.0 + 0.01 * int(digest), 0.8 + 0.001 * int(digest)) for digest in band}
    entry = judge_case(case, found.__getitem__, case.branch.head, band, classes=10)
    assert [one["metric"] for one in entry["primary"]] == ["forget_loss", "test_accuracy"] and entry["left_out"] == {}
    del found["3"]["forget_loss"]
    entry = judge_case(case, found.__getitem__, case.branch.head, band, classes=10)
    assert [one["metric"] for one in entry["primary"]] == ["test_accuracy"] and list(entry["left_out"]) == [
        "forget_loss"
    ]
    assert entry["verdict"] == "inconclusive" and "no metric of removal" in entry["why"]


def test_canaries_speak_where_there_is_no_band(federation: Federation) -> None:
    session = federation._session()
    request = federation.request_deletion(client=0)
    federation.unlearn(request, **FINE_TUNE)
    case = case_of(session, [request.id])
    found = {case.original: {**figures(0.1, 0.9), "canary_exposure": Figure(0.95, 300)}}
    found[case.branch.head] = {**figures(1.0, 0.8), "canary_exposure": Figure(0.51, 300)}
    entry = judge_case(case, found.__getitem__, case.branch.head, [], classes=10)
    assert (entry["rests_on"], entry["verdict"]) == ("canaries", "pass")
