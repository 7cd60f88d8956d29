from __future__ import annotations

from statistics import median

import pytest

from fedunlearn.errors import RequestError, SettingsError
from fedunlearn.federation import Federation
from fedunlearn.server import choosing
from fedunlearn.server.choosing import CHOSEN, Choice, seconds_per_epoch
from fedunlearn.strategies.method import methods
from fedunlearn.strategies.retraining import Retraining


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch):
    """Leaves only the named methods to choose from."""

    def leave(*names: str) -> None:
        monkeypatch.setattr(methods, "names", lambda: sorted(names))

    return leave


def test_the_cheapest_that_can_serve_is_run_and_the_ledger_says_why(federation: Federation, only) -> None:
    only("conda", "fine-tune", "not", "retrain", "selective-channels", "trigger-scrub")
    federation.request_deletion(client=0, classes=[3])
    told: list[Choice] = []
    before: list[int] = []

    def listen(choice: Choice) -> None:
        told.append(choice)
        before.append(len(federation._session().ledger.branches()))

    [summary] = federation.unlearn(method="auto", rounds=1, on_choice=listen)
    [choice] = told
    assert before == [1]  # only the training's own: it is said before anything runs
    assert summary.method == choice.settings.method == "not"
    # One pass of three clients; two; one for the reference, one of the target, and one.
    assert [one.method for one in choice.candidates if one.serves] == ["not", "retrain", "selective-channels"]
    reasons = {one.method: one.why_not for one in choice.candidates if not one.serves}
    assert "does not serve requests of scope classes" in reasons["conda"]
    assert "not to serve a request" in reasons["fine-tune"] and "not to serve a request" in reasons["trigger-scrub"]
    session = federation._session()
    [event] = session.ledger.events(CHOSEN, "client-0-1")
    assert dict(event.detail) == choice.document() and "takes the clients the least time" in event.detail["why"]
    # The same again finds its own branch, and writes nothing down twice.
    [again] = federation.unlearn("client-0-1", method="auto", rounds=1)
    assert again.branch == summary.branch and len(session.ledger.events(CHOSEN, "client-0-1")) == 1
    assert federation.verify_ledger().problems == ()


def test_retraining_is_chosen_where_it_is_the_cheapest_and_runs_in_full(federation: Federation, only) -> None:
    only("fine-tune", "retrain", "selective-channels")
    federation.request_deletion(client=0, classes=[3])
    [summary] = federation.unlearn(method="auto", rounds=9)
    assert (summary.method, summary.rounds) == ("retrain", 2)


def test_of_equals_the_one_that_sends_least(federation: Federation, only, monkeypatch) -> None:
    frugal = Retraining(name="frugal")
    monkeypatch.setattr(
        Retraining, "share_of_model", lambda self, settings: 0.5 if self.name == "frugal" else 1.0, raising=False
    )
    monkeypatch.setitem(methods._items, "frugal", frugal)
    only("frugal", "retrain")
    federation.request_deletion(client=0, classes=[3])
    [summary] = federation.unlearn(method="auto")
    assert summary.method == "frugal"


def test_a_method_without_its_target_is_no_candidate(federation: Federation, only) -> None:
    from dataclasses import replace

    from fedunlearn.config import UnlearnSettings
    from fedunlearn.server.branches import job_for
    from fedunlearn.server.life_cycle import gather

    only("retrain", "selective-channels")
    federation.request_deletion(client=0, classes=[3])

    def work(grid, session):
        roster, rows = gather(grid, session.ledger, 60.0)
        alone = replace(roster, members={c: m for c, m in roster.members.items() if c != 0})
        return choosing.choose(session, alone, job_for(list(rows)), UnlearnSettings(method="auto"))

    choice = federation._run(work, "test", None)
    assert choice.settings.method == "retrain"
    assert {one.method: one.why_not for one in choice.candidates}["selective-channels"].endswith("which is away.")


def test_where_nothing_can_serve_it_the_reasons_are_said(federation: Federation, only) -> None:
    only("conda", "fine-tune")
    federation.request_deletion(client=0, classes=[3])
    with pytest.raises(RequestError, match=r"no method can serve client-0-1: method 'conda' does not .*; it is there"):
        federation.unlearn(method="auto")
    assert [one.state for one in federation.requests()] == ["pending"]


def test_options_belong_to_single_methods(federation: Federation) -> None:
    with pytest.raises(SettingsError, match="option 'forget_step' belongs to a single method"):
        federation.unlearn(method="auto", forget_step="reset")


def test_seconds_are_those_of_the_ordinary_rounds(federation: Federation) -> None:
    session = federation._session()
    rows = session.ledger.rounds("main")
    assert seconds_per_epoch(session) == median(row.seconds / 3 for row in rows) > 0
