"""What is known by name: tasks, methods and metrics, built in or declared by installed packages."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from fedunlearn.errors import SettingsError

if TYPE_CHECKING:
    from fedunlearn.strategies.method import Method

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


def briefly(kind: str, known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items as a table has room for: a method without its source, which the JSON document has."""
    if kind != "methods":
        return known
    from fedunlearn.announcement import SCOPES

    return [
        {
            "name": one["name"],
            "what": one["what"],
            "options": one["options"],
            "scopes": "every" if len(one["scopes"]) == len(SCOPES) else one["scopes"],
            "needs": one["needs"],
        }
        for one in known
    ]


def _tasks() -> list[dict[str, Any]]:
    from fedunlearn.tasks import LARGE, tasks
    from fedunlearn.tasks.degradations import degradations
    from fedunlearn.tasks.image_to_image import DEFAULT_NETWORK, NETWORKS

    known = [(name, tasks.get(name)) for name in tasks.names()]
    listed = [
        {"name": name, "what": _CLASSES, "default_network": task.default_network, "networks": list(task.networks)}
        for name, task in known
    ]
    listed.append(
        {
            "name": "images:PATH",
            "what": f"{_CLASSES} Pictures lie in PATH/CLASS/, or in PATH/train/CLASS/ and PATH/test/CLASS/.",
            "default_network": "groupnorm-cnn, lenet for grey ones",
            "networks": list(LARGE),
        }
    )
    for name in degradations.names():
        kind = degradations.get(name)
        strength = f" =NUMBER: {kind.strength}, {kind.usual:g} where it is left out." if kind.strength else ""
        listed.append(
            {
                "name": f"{name}[=NUMBER]:SOURCE" if kind.strength else f"{name}:SOURCE",
                "what": f"{kind.what}{strength}",
                "default_network": DEFAULT_NETWORK,
                "networks": list(NETWORKS),
            }
        )
    return sorted(listed, key=lambda one: str(one["name"]))


_CLASSES = "The class of each sample is named."


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
            "in_training": _in_training(method),
            "source": method.source,
        }
        for name, method in known
    ]


def _in_training(method: Method) -> str:
    """What `simulate --prepare-for` has done for the method in training; "-": it needs nothing."""
    from fedunlearn.strategies.method import training_hook

    hook = training_hook(method)
    every = hook.keep_updates_every
    parts = [f"updates are kept, one round in {every}" if every > 1 else "updates are kept"] if every else []
    parts += ["clients prepare"] if hook.prepare else []
    return " and ".join(parts) or "-"


def _metrics() -> list[dict[str, Any]]:
    from fedunlearn.audit import metrics

    known = [(name, metrics.get(name)) for name in metrics.names()]
    return [{"name": name, "what": metric.what, "better": metric.better} for name, metric in known]


def _first_line(item: object) -> str:
    return (inspect.getdoc(item) or "").partition("\n")[0]
