from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import fedunlearn
from fedunlearn.audit import metrics
from fedunlearn.channels.attribution import attribution_methods
from fedunlearn.data.sources import sources
from fedunlearn.models import networks
from fedunlearn.plugins import plugged_in
from fedunlearn.registry import Registry
from fedunlearn.strategies import methods
from fedunlearn.tasks import tasks
from fedunlearn.tasks.degradations import degradations


def test_what_this_package_brings_is_no_plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {name: methods.get(name) for name in methods.names()}
    monkeypatch.setattr(methods, "_items", dict(known))
    before = plugged_in()
    methods.register("of-this-test", known["retrain"])
    assert set(plugged_in()) == {*before, __name__}
    # What is not registered any more needs no import.
    monkeypatch.setattr(methods, "_items", known)
    assert plugged_in() == before


REGISTRIES = {
    "fedunlearn.tasks": tasks,
    "fedunlearn.methods": methods,
    "fedunlearn.metrics": metrics,
    "fedunlearn.networks": networks,
    "fedunlearn.sources": sources,
    "fedunlearn.degradations": degradations,
    "fedunlearn.attribution_methods": attribution_methods,
}


@pytest.mark.parametrize("group", REGISTRIES)
def test_whatever_can_be_added_to_is_told_of(group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    registry: Registry[Any] = REGISTRIES[group]  # type: ignore[assignment]
    known = {name: registry.get(name) for name in registry.names()}
    monkeypatch.setattr(registry, "_items", dict(known))
    registry.register("of-this-test", next(iter(known.values())))
    assert __name__ in plugged_in()


def test_there_is_nothing_else_to_add_to() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in Path(fedunlearn.__file__).parent.rglob("*.py"))
    assert set(re.findall(r'group="(fedunlearn\.\w+)"', source)) == set(REGISTRIES)
    contributing = (Path(fedunlearn.__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(fedunlearn\.\w+)`", contributing)) == set(REGISTRIES)


def test_a_script_is_named_as_such(tmp_path: Path) -> None:
    registry: Registry[int] = Registry("number")
    scope = {"registry": registry, "__name__": "__main__"}
    exec("registry.register('one', 1)", scope)
    registry.register("two", 2)
    assert registry.modules() == {"__main__", __name__}
