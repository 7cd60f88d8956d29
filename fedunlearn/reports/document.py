"""Reading a comparison document without tripping over what is missing.

The document is the dict of `compare --json`. Any model and any value in it may be null or absent: a value
that is not there reads as None, a model that is not there does not appear.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_LABELS = {
    "fine-tuned": "Fine-tuned only",
    "retrained-same-budget": "Retrained, same budget",
    "fine-tune": "Fine-tune",
    # As their papers write them.
    "bad-teacher": "Bad-T",
    "conda": "ConDa",
    "fedau": "FedAU",
    "federaser": "FedEraser",
    "fedosd": "FedOSD",
    "fedrecover": "FedRecover",
    "fused": "FUSED",
    "l1-sparse": "l1-sparse",
    "neggrad-plus": "NegGrad+",
    "not": "NoT",
    "quickdrop": "QuickDrop",
    "salun": "SalUn",
    "scrub": "SCRUB",
    "ssd": "SSD",
    "unsir": "UNSIR",
}

Document = Mapping[str, Any]
Model = Mapping[str, Any]

MODEL_ORDER = ("original", "unlearned", "retrained", "fine-tuned", "retrained-same-budget")
"""The models that every comparison has; controls follow in the document's order."""


def value(model: Model | None, key: str) -> float | None:
    """The finite number at a dotted key such as "forget.untriggered.loss"; None where there is none."""
    found: Any = model
    for part in key.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        return None
    return found


def models_of(document: Document) -> dict[str, Model]:
    """The models that are there, in the order in which they are shown."""
    return ordered(document.get("models"))


def ordered(models: Any) -> dict[str, Model]:
    """The non-empty entries of a "models" part: known names first, controls after them."""
    if not isinstance(models, Mapping):
        return {}
    there = {str(name): model for name, model in models.items() if isinstance(model, Mapping) and model}
    first = [name for name in MODEL_ORDER if name in there]
    return {name: there[name] for name in [*first, *(name for name in there if name not in first)]}


def after_of(document: Document) -> dict[int, dict[str, Model]]:
    """Further ordinary rounds -> the models after them.

    Both `{"5": {model: …}}` and `{"rounds": 5, "models": {model: …}}` are read.
    """
    after = document.get("after")
    if not isinstance(after, Mapping):
        return {}
    if "models" in after:
        after = {after.get("rounds") or 0: after["models"]}
    found = {int(rounds): ordered(models) for rounds, models in after.items() if str(rounds).isdigit()}
    return {rounds: models for rounds, models in sorted(found.items()) if models}


def rounds_of(document: Document) -> dict[str, list[Mapping[str, Any]]]:
    """Model -> its rounds, sorted; those of the original from its start, of all others from the request.

    Branches that are numbered on from the original's last round are brought to that form.
    """
    rounds = document.get("rounds")
    if not isinstance(rounds, Mapping):
        return {}
    found: dict[str, list[Mapping[str, Any]]] = {}
    for name, records in ordered({name: {"records": records} for name, records in rounds.items()}).items():
        known = [r for r in records["records"] or [] if isinstance(r, Mapping) and value(r, "round") is not None]
        if known:
            found[name] = sorted(known, key=lambda record: record["round"])
    last = max((record["round"] for record in found.get("original", [])), default=0)
    for name, branch in found.items():
        if name != "original" and last and branch[0]["round"] > last:
            found[name] = [{**record, "round": record["round"] - last} for record in branch]
    return found


def label_of(name: str) -> str:
    """How a model is called in tables and pictures."""
    text = _LABELS.get(name, name.replace("-", " ").replace("_", " "))
    return text if name in _LABELS else text[:1].upper() + text[1:]


def request_sentence(document: Document) -> str:
    """Who asked for what, in one sentence."""
    request = document.get("request")
    if not isinstance(request, Mapping):
        return "No deletion request is recorded with this comparison."
    clients = [str(client) for client in request.get("clients") or []]
    classes = [str(name) for name in request.get("classes") or []]
    who = f"client {clients[0]}" if len(clients) == 1 else f"clients {_listed(clients)}" if clients else "a client"
    count = value(request, "count")
    samples = "" if count is None else f" ({count:,.0f} sample{'s' if count != 1 else ''})"
    which = f"class {classes[0]}" if len(classes) == 1 else f"classes {_listed(classes)}"
    scope = request.get("scope")
    if scope == "several":
        return f"The requests, served together: forget what {who} asked for{samples}."
    if scope == "class-everywhere":
        return f"The request: forget {which} everywhere{samples}."
    if classes:
        return f"The request: forget what {who} contributed on {which}{samples}."
    if scope == "samples":
        number = "some" if count is None else f"{count:,.0f}"
        return f"The request: forget {number} of the samples of {who}."
    return f"The request: forget everything that {who} contributed{samples}."


def joined(parts: Sequence[str]) -> str:
    """Words with commas between them; sentences, each of which has its full stop, with none."""
    return (" " if all(part.endswith(".") for part in parts) else ", ").join(parts)


def clean(item: Any) -> Any:
    """The item as plain JSON: numbers that are not finite become null, arrays lists, keys strings."""
    if hasattr(item, "tolist"):
        item = item.tolist()
    if isinstance(item, Mapping):
        return {str(key): clean(entry) for key, entry in item.items()}
    if isinstance(item, list | tuple | set | frozenset):
        return [clean(entry) for entry in item]
    if isinstance(item, float):
        return item if math.isfinite(item) else None
    if isinstance(item, Path):
        return str(item)
    return item


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else "".join(names)
