"""How a ClientApp gets into a worker process: by the name of what makes it, or by value."""

from __future__ import annotations

import base64
import sys
from typing import Any

from flwr.clientapp import ClientApp

from fedunlearn.engines.answering import ClientAppSource
from fedunlearn.errors import SettingsError

SCRIPT = "__main__"
"""The module of a script or a notebook: no other process can import it."""


def importable_name(source: ClientAppSource) -> str | None:
    """`module:name` of a function that another process can import; None for an app, a closure, a script's function."""
    module, name = getattr(source, "__module__", None), getattr(source, "__qualname__", None)
    if isinstance(source, ClientApp) or module is None or name is None or module == SCRIPT or "<" in name:
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    # What a decorator or a test put in its place is not what the module's file says.
    return f"{module}:{name}" if found is source else None


def described(source: ClientAppSource) -> dict[str, str]:
    """What a worker needs in order to have the app.

    An app that has no importable name is copied, code and all, as multiprocessing does with its arguments: from this
    process to a child of its own, never from a message.

    Raises:
        SettingsError: it cannot be copied.
    """
    name = importable_name(source)
    if name is not None:
        return {"name": name}
    import cloudpickle

    try:
        return {"copy": base64.b64encode(cloudpickle.dumps(source)).decode()}
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise SettingsError(
            f"client_app cannot be copied into worker processes ({text}): pass an importable function without "
            "arguments that returns it, or workers=0"
        ) from error


def rebuilt(description: dict[str, str]) -> ClientAppSource:
    """The source that was described, in the worker. Raises what its import raises."""
    if "name" in description:
        from fedunlearn.engines.jobs import named_object

        found: ClientAppSource = named_object(description["name"])
        return found
    import cloudpickle

    copied: ClientAppSource = cloudpickle.loads(base64.b64decode(description["copy"]))
    return copied
