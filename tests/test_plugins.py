from __future__ import annotations

from pathlib import Path

import pytest

from fedunlearn.plugins import plugged_in
from fedunlearn.registry import Registry
from fedunlearn.strategies import methods


def test_what_this_package_brings_is_no_plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {name: methods.get(name) for name in methods.names()}
    monkeypatch.setattr(methods, "_items", dict(known))
    before = plugged_in()
    methods.register("of-this-test", known["retrain"])
    assert set(plugged_in()) == {*before, __name__}
    # What is not registered any more needs no import.
    monkeypatch.setattr(methods, "_items", known)
    assert plugged_in() == before


def test_a_script_is_named_as_such(tmp_path: Path) -> None:
    registry: Registry[int] = Registry("number")
    scope = {"registry": registry, "__name__": "__main__"}
    exec("registry.register('one', 1)", scope)
    registry.register("two", 2)
    assert registry.modules() == {"__main__", __name__}
