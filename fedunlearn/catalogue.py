"""What is known by name: tasks, methods and metrics, built in or declared by installed packages."""

from __future__ import annotations

import inspect
from typing import Any

from fedunlearn.errors import SettingsError

KINDS = ("tasks", "methods", "metrics")


def catalogue(kind: str) -> list[dict[str, Any]]:
    """Every registered item of `kind`, sorted by name, with what there is to say about it.

    Args:
        kind: "tasks", "methods" or "metrics".

    Raises:
        SettingsError: for any other kind.
    """
    if kind == "tasks":
        return _tasks()
    if kind == "methods":
        return _methods()
    if kind == "metrics":
        return _metrics()
    raise SettingsError(f"there is no list of {kind!r}; expected one of: {', '.join(KINDS)}.")


def _tasks() -> list[dict[str, Any]]:
    from fedunlearn.tasks import tasks

    known = [(name, tasks.get(name)) for name in tasks.names()]
    return [
        {"name": name, "default_network": task.default_network, "networks": list(task.networks)} for name, task in known
    ]


def _methods() -> list[dict[str, Any]]:
    from fedunlearn.strategies import methods

    known = [(name, methods.get(name)) for name in methods.names()]
    return [
        {
            "name": name,
            "what": getattr(method, "what", "") or _first_line(method),
            "options": sorted(getattr(method, "options", ())),
            "scopes": sorted(method.scopes),
            "needs": sorted(method.needs),
            "source": method.source,
        }
        for name, method in known
    ]


def _metrics() -> list[dict[str, Any]]:
    from fedunlearn.audit import metrics

    known = [(name, metrics.get(name)) for name in metrics.names()]
    return [{"name": name, "what": metric.what, "better": metric.better} for name, metric in known]


def _first_line(item: object) -> str:
    return (inspect.getdoc(item) or "").partition("\n")[0]
