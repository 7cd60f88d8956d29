"""What a method needs is checked before anything is sent."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import RequestError
from fedunlearn.strategies.history import NO_HISTORY
from fedunlearn.strategies.method import TrainingHook, methods
from fedunlearn.strategies.serving import Supplies, check_needs, serve


class Whole:
    """A history that lacks nothing, or says what."""

    def __init__(self, lacking: str = "") -> None:
        self.asked: list[int] = []
        self._lacking = lacking

    def lacking(self, every: int) -> str:
        self.asked.append(every)
        return self._lacking


def method(*needs: str, every: int = 0) -> SimpleNamespace:
    return SimpleNamespace(name="own", needs=frozenset(needs), training_hook=TrainingHook(keep_updates_every=every))


NOTHING = Supplies(NO_HISTORY, False, ())


@pytest.mark.parametrize(
    ("need", "sentence"),
    [
        (
            "stored-updates",
            "method 'own' needs the updates of the rounds of training, and this run kept none: train with "
            "--prepare-for own, or use a method that does not need it.",
        ),
        (
            "server-data",
            "method 'own' needs unlabelled samples at the server, and this run gave it none: train with "
            "--server-data 0.1, or use a method that does not need it.",
        ),
        (
            "prepared-clients",
            "method 'own' needs what clients prepare while the federation trains, and in this run they "
            "did not: train with --prepare-for own, or use a method that does not need it.",
        ),
    ],
)
def test_what_is_lacking_is_said_with_what_to_do(need: str, sentence: str) -> None:
    with pytest.raises(RequestError) as error:
        check_needs(method(need), NOTHING)  # type: ignore[arg-type]
    assert str(error.value) == sentence


def test_what_is_there_is_not_missed() -> None:
    history = Whole()
    supplies = Supplies(history, True, ("own", "other"))  # type: ignore[arg-type]
    every = ("stored-updates", "server-data", "prepared-clients", "individual-updates", "target")
    check_needs(method(*every, every=3), supplies)  # type: ignore[arg-type]
    assert history.asked == [3]
    check_needs(method("target", "individual-updates"), NOTHING)  # type: ignore[arg-type]


def test_clients_that_prepared_for_another_method_did_not_for_this() -> None:
    with pytest.raises(RequestError, match="did not"):
        check_needs(method("prepared-clients"), Supplies(NO_HISTORY, True, ("other",)))  # type: ignore[arg-type]


def test_a_history_with_holes_is_not_enough() -> None:
    with pytest.raises(RequestError, match="and half of it is gone: train"):
        check_needs(method("stored-updates"), Supplies(Whole("half of it is gone"), True, ()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", [name for name in methods.names() if methods.get(name).needs - {"target", "individual-updates"}]
)
def test_every_method_that_needs_something_is_refused_without_it(place, name: str) -> None:
    scope = sorted(methods.get(name).scopes)[0]
    state = place.state(scope, UnlearnSettings(method=name))
    nothing = SimpleNamespace(name="bare")
    bare = replace(state, history=NO_HISTORY, server_data=None, prepared_for=(), task=nothing)
    place.heard.clear()
    with pytest.raises(RequestError, match=f"method '{name}' needs .*, or use a method that does not need it"):
        serve(place.grid, place.roster, methods.get(name), bare, place.jobs[scope], None, 60.0)  # type: ignore[arg-type]
    assert not place.heard
