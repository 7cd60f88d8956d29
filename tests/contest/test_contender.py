"""Contenders: names of methods, and settings under names of their own."""

from __future__ import annotations

import pytest

from fedunlearn.contest.contender import contenders, kind_of, prepared_for, with_changes
from fedunlearn.errors import SettingsError, UnknownName
from fedunlearn.strategies import methods
from fedunlearn.strategies.method import TrainingHook, training_hook


def test_names_come_first_and_settings_with_a_method_after_them() -> None:
    settings = {
        "fine-tune": {"rounds": 5},
        "at random": {"method": "selective-channels", "options": {"ranking": "random"}},
        "later": {"method": "not"},
    }
    found = contenders(["at random", "fine-tune"], settings)
    assert list(found) == ["at random", "fine-tune", "later"]
    assert found["fine-tune"] == {"rounds": 5, "method": "fine-tune"}
    assert found["at random"]["options"] == {"ranking": "random"}


def test_what_belongs_to_nothing_is_told() -> None:
    with pytest.raises(UnknownName, match="did you mean 'fine-tune'"):
        contenders(["fine-tun"], {})
    with pytest.raises(SettingsError, match=r"settings\.scrub: it is not among the methods"):
        contenders(["fine-tune"], {"scrub": {"rounds": 2}})


def test_changes_are_settings_or_options() -> None:
    values = {"method": "scrub", "options": {"alpha": 0.5, "gamma": 1.0}}
    found = with_changes(values, {"learning_rate": 0.1, "gamma": 2.0})
    assert found == {"method": "scrub", "learning_rate": 0.1, "options": {"alpha": 0.5, "gamma": 2.0}}
    assert values["options"] == {"alpha": 0.5, "gamma": 1.0}
    assert with_changes(values, {}) == values


def test_only_methods_with_something_to_do_during_training_are_prepared_for() -> None:
    hooked = {name for name in methods.names() if training_hook(methods.get(name)) != TrainingHook()}
    assert "federaser" in hooked
    assert set(prepared_for(methods.names())) == hooked
    assert prepared_for(["fine-tune", "not"]) == []


def test_kinds_follow_from_where_a_method_is_written() -> None:
    kinds = {name: kind_of(name) for name in ("selective-channels", "not", "scrub", "zero-output-unit", "fine-tune")}
    assert list(kinds.values()) == ["ours", "federated", "centralised", "control", "reference"]
    every = {name: kind_of(name) for name in methods.names()}
    assert {name for name, kind in every.items() if kind == "reference"} == {"retrain", "fine-tune"}
    assert {name for name, kind in every.items() if kind == "ours"} == {"selective-channels"}
    assert [every[name] for name in ("nabla-tau", "gs-lora", "decouple-retain")] == ["centralised"] * 3
    assert "other" not in every.values()
