"""A job in a worker process: a function by its name, and what it makes of one JSON object."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from fedunlearn.engines.torch_threads import use_one_torch_thread
from fedunlearn.errors import FedunlearnError


def named_object(name: str) -> Any:
    """The object that `package.module:name.of.it` names; raises what its import raises."""
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def import_modules(names: Sequence[str]) -> bool:
    """Import modules by their names; whether one of them was new. Raises what an import raises."""
    new = [name for name in names if name not in sys.modules]
    for name in new:
        importlib.import_module(name)
    return bool(new)


def run_job(name: str, job: dict[str, Any], imports: Sequence[str] = ()) -> dict[str, Any]:
    """The frame that answers a job: its result, or the sentence of what it raised."""
    use_one_torch_thread()
    try:
        import_modules(imports)
        function = named_object(name)
        # Importing the function may have been what imported torch.
        use_one_torch_thread()
        return {"kind": "result", "result": function(job)}
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return {"kind": "raised", "sentence": sentence_of(error), "details": traceback.format_exc()}


def sentence_of(error: BaseException) -> str:
    """What went wrong, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, FedunlearnError):
        return text
    return type(error).__name__ + (f": {text}" if text else "")
