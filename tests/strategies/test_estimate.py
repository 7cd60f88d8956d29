from __future__ import annotations

from types import SimpleNamespace

import pytest

from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies.estimate import Candidate, Estimate, Facts, cheapest, estimate
from fedunlearn.strategies.method import methods
from fedunlearn.tasks.training import TrainingSettings

FACTS = Facts(
    targets=1,
    retaining=4,
    everybody=5,
    fraction=1.0,
    rounds=6,
    training=TrainingSettings(local_epochs=3, learning_rate=0.1),
    model_bytes=1000,
    channel_bytes=8,
    seconds_per_epoch=2.0,
)


def settings(name: str, rounds: int = 2, epochs: int = 1, **options: float) -> UnlearnSettings:
    return UnlearnSettings(method=name, rounds=rounds, local_epochs=epochs, options=options)  # type: ignore[arg-type]


def cost(name: str, facts: Facts = FACTS, **changes: int) -> Estimate:
    return estimate(methods.get(name), settings(name, **changes), facts)


def test_a_round_costs_its_epochs_and_the_model_both_ways() -> None:
    assert cost("retrain", rounds=6, epochs=3) == Estimate(6, 6 * 4 * 2 * 1000, 6 * 4 * 3 * 2.0)
    assert cost("fine-tune") == Estimate(2, 2 * 4 * 2 * 1000, 2 * 4 * 2.0)


def test_a_query_costs_one_pass_and_a_number_a_channel() -> None:
    # Reference by four, attribution by one, the target's own step, two rounds.
    assert cost("selective-channels") == Estimate(2, 5 * 8 + (1 + 2 * 4) * 2 * 1000, (5 + 1 + 2 * 4) * 2.0)


def test_what_only_the_server_computes_costs_the_clients_nothing() -> None:
    assert cost("conda") == cost("knowledge-distillation") == Estimate(0, 0, 0.0)


def test_rounds_of_a_replay_follow_from_the_training_and_have_their_own_epochs() -> None:
    assert cost("federaser", rounds=99) == Estimate(
        2, 2 * 4 * 2 * 1000, 2 * 4 * 2 * 2.0
    )  # rounds 3 and 5, 2 of 3 epochs
    assert cost("fedrecover").rounds == 3 and cost("fedrecover").client_seconds == 3 * 4 * 3 * 2.0


def test_sampled_clients_and_absent_targets_are_counted() -> None:
    half = Facts(**{**vars(FACTS), "fraction": 0.5, "targets": 0, "everybody": 4})
    assert cost("fine-tune", half) == Estimate(2, 2 * 2 * 2 * 1000, 2 * 2 * 2.0)
    assert cost("selective-channels", half).client_seconds == (4 + 2 * 2) * 2.0


def test_a_method_may_say_that_less_moves_or_know_its_cost_itself() -> None:
    plain = methods.get("fine-tune")
    tenth = SimpleNamespace(name="x", phases=plain.phases, share_of_model=lambda settings: 0.1)
    assert estimate(tenth, settings("x"), FACTS).bytes == 1600  # type: ignore[arg-type]
    own = Estimate(1, 2, 3.0)
    knowing = SimpleNamespace(name="x", phases=plain.phases, estimate=lambda settings, facts: own)
    assert estimate(knowing, settings("x"), FACTS) is own  # type: ignore[arg-type]


@pytest.mark.parametrize("name", methods.names())
def test_every_method_can_be_estimated(name: str) -> None:
    options = {"backdoor": "client=0,share=0.5,target=0"} if name == "trigger-scrub" else {}
    asked = UnlearnSettings(method=name, options=options)  # type: ignore[arg-type]
    found = estimate(methods.get(name), asked, FACTS)
    assert found.rounds >= 0 and found.bytes >= 0 and found.client_seconds >= 0
    assert isinstance(found.rounds, int) and isinstance(found.bytes, int)


def test_the_cheapest_takes_clients_the_least_time_then_sends_least() -> None:
    known = [
        Candidate("a", True, "", Estimate(1, 10, 5.0)),
        Candidate("b", True, "", Estimate(9, 9, 5.0)),
        Candidate("c", True, "", Estimate(1, 1, 6.0)),
        Candidate("d", False, "it does not."),
    ]
    assert cheapest(known) == known[1]
    assert cheapest(known[3:]) is None
