"""What an audit found, in plain words: the answer, what it means, what it does not mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedunlearn.audit.band_width import MINIMUM_MODELS
from fedunlearn.audit.verdict import REMOVAL_MARGIN, UTILITY_DECIBELS, UTILITY_MARGIN
from fedunlearn.reports.metric_words import Entry, between, judged_entries, number, outcome_of, retrained_mean, wording

Audit = Mapping[str, Any]

TONES = {"pass": "good", "fail": "bad", "inconclusive": "fair"}
VERDICTS = {"pass": "✓ passed", "fail": "✗ failed", "inconclusive": "? not decided"}

_HEADLINES = {
    "pass": "Passed: it behaves like a model that never saw the data.",
    "fail": "Failed: it can be told from models that never saw the data.",
    "inconclusive": "Not decided: this audit can say neither yes nor no.",
}
_CANARY_HEADLINES = {
    "pass": "Passed on planted samples alone: it does not know them any more.",
    "fail": "Failed: it can be told from a model that never saw the planted samples.",
}
_NOT_MEANT = {
    "pass": "It does not mean that nothing at all of the data is left in the model: these measurements do not find it, "
    "others might. It is no legal opinion.",
    "fail": "It does not mean that everything is remembered, nor that the data is still in use: it stays out of all "
    "training, whatever an audit finds.",
    "inconclusive": "It does not mean that the data is forgotten, nor that it is not.",
}


def headline(audit: Audit) -> str:
    """The answer in one short sentence."""
    verdict = str(audit["verdict"])
    alone = _CANARY_HEADLINES.get(verdict) if audit.get("rests_on") == "canaries" else None
    return alone or _HEADLINES[verdict]


def meaning(audit: Audit) -> str:
    """What that means."""
    verdict, models = audit["verdict"], int(audit["band"]["size"])
    if audit.get("rests_on") == "canaries":
        return (
            f"{audit['canaries']['samples']} samples with wrong labels were planted in the data. A model that "
            "never saw them prefers those labels by chance only, so that no retrained model is needed to compare with."
        )
    compared = f"{_models(models)} trained again from scratch without the data, to compare with."
    if verdict == "pass":
        return (
            f"{compared} On everything that was fixed beforehand the model is as close to them as was asked: of what "
            f"sets the model before apart from them at most {REMOVAL_MARGIN:.0%} can be left, and {_utility(audit)}."
        )
    if verdict == "fail":
        return (
            f"{compared} On what is listed here the model lies where one more such model would almost never lie (by "
            "chance in 1 case of 100, for everything together)."
        )
    if models < MINIMUM_MODELS:
        return f"{compared} It takes {MINIMUM_MODELS} at least to pass."
    return f"{compared} They do not settle it: by chance alone they differ too much from each other for that."


def not_meant(audit: Audit) -> str:
    """What it does not mean."""
    text = _NOT_MEANT[str(audit["verdict"])]
    if audit.get("rests_on") == "canaries":
        return f"It says nothing of the other samples, nor of accuracy. {text}"
    return text


def reasons(audit: Audit) -> list[str]:
    """Metric by metric, why the verdict is what it is, and what became of the served model; each one sentence."""
    verdict = audit["verdict"]
    wanted = {"pass": ("pass",), "fail": ("fail",)}.get(str(verdict), ("open", "uninformative", "inconclusive"))
    said = [_reason(entry) for entry in judged_entries(audit) if outcome_of(entry) in wanted]
    if audit.get("left_out"):
        said.append(f"Not judged, because it could not be measured: {', '.join(sorted(audit['left_out']))}.")
    restored = audit.get("restored")
    if restored:
        said.append(restored["why"][:1].upper() + restored["why"][1:])
    return said


def accuracy_sentence(audit: Audit) -> str:
    """What all requests so far have cost in accuracy; empty where it is not known."""
    accuracy = audit.get("accuracy")
    if not accuracy:
        return ""
    before, now, retrained = accuracy["before"], accuracy["unlearned"], accuracy.get("retrained")
    beside = "" if retrained is None else f" Models retrained without the same data: {retrained:.1%} on average."
    return (
        f"Right answers on unseen data: {before:.1%} before the first request, {now:.1%} now ({points(now - before)})."
        f"{beside}"
    )


def points(difference: float) -> str:
    """A difference of shares in percentage points."""
    return f"{100 * difference:+.1f} points".replace("-", "−")


def _models(number_of: int) -> str:
    if not number_of:
        return "No model was"
    return "One model was" if number_of == 1 else f"{number_of} models were"


def _reason(entry: Entry) -> str:
    label, now = wording(entry).label, number(entry, entry["unlearned"])
    outcome, mean = outcome_of(entry), retrained_mean(entry)
    against = "by chance" if entry.get("alone") else "if retrained"
    values = f"{label}: {number(entry, entry['original'])} before, {now} now, {number(entry, mean)} {against}"
    if outcome == "pass":
        return f"{values}: close enough."
    if outcome == "fail":
        return f"{values} ({between(entry)} would be within chance): {_which_side(entry, mean)}."
    if outcome == "uninformative":
        why = "the model before cannot be told from retrained ones here, so that nothing can be seen to go"
        return f"{values}: {why}.{_needed(entry)}"
    return f"{values}: neither shown to be close enough nor too far away.{_needed(entry)}"


def _utility(audit: Audit) -> str:
    """How close the model has to be to retrained ones in what it is for."""
    if any(entry["kind"] == "utility" and entry["transform"] == "log" for entry in audit["primary"]):
        return f"its loss is within {UTILITY_DECIBELS:g} dB of theirs"
    return f"its accuracy is within {100 * UTILITY_MARGIN:g} percentage points of theirs"


def _which_side(entry: Entry, mean: float | None) -> str:
    if mean is None:
        return "too far away"
    off = entry["unlearned"] - mean
    if entry["kind"] == "utility":
        worse = off > 0 if entry["transform"] == "log" else off < 0
        return "the model got worse" if worse else "the model is better than retrained ones, which also tells it apart"
    if off * (entry["original"] - mean) > 0:
        return "still remembered"
    return "further than forgetting goes, which is damage and tells it apart as well"


def _needed(entry: Entry) -> str:
    needed = entry.get("needed")
    if isinstance(needed, int):
        return f" {needed} planted samples would decide it."
    if not isinstance(needed, Mapping):
        return ""
    ways = [
        f"{count:,} {what}"
        for count, what in ((needed.get("models"), "retrained models"), (needed.get("samples"), "samples"))
        if count is not None
    ]
    if not ways:
        return " More retrained models would not decide it, if they came out as these did."
    return f" {' or '.join(ways)} would decide it, as far as these models tell."
