"""The answer in words: was it forgotten, as far as this comparison can tell?

Only measures on which the original and the retrained model differ can tell anything. On those the unlearned
model is placed between the two: 0% of the way is the original, 100% the retrained model. One comparison has
no band of repeated retrainings, so that this is a reading and no certificate.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedunlearn.audit.distance import gap, share_of_the_way
from fedunlearn.reports.document import Document, Model, after_of, label_of, models_of, value
from fedunlearn.reports.measures import Measure, present, shown, shown_bytes

REACHED, HALF = 0.75, 0.5
FINEST_FIRST = ("psnr", "loss", "accuracy")
ABILITIES = {"test_accuracy": "Right answers on unseen data", "test_psnr": "Quality on unseen images"}
"""What a model is good for -> how it is spoken of; which of them is known depends on the task."""
_WORSE = {
    "forgotten": "Forgotten, but the model got worse.",
    "mostly": "Mostly forgotten, but the model got worse.",
    "past": "Forgotten, but by damage: the model got worse.",
    "partly": "Only partly forgotten, and the model got worse.",
    "not-forgotten": "Not forgotten, and the model got worse.",
    "cannot-tell": "No memory was to be seen, and the model got worse.",
}


@dataclass(frozen=True)
class Finding:
    """One measure that can tell, read for one model.

    Attributes:
        way: 0 at the original, 1 at the retrained model; may lie outside.
        state: "reached", "partly", "left" or "past".
    """

    measure: Measure
    original: float
    model: float
    retrained: float
    way: float
    state: str


@dataclass(frozen=True)
class Answer:
    """What a report says first.

    Attributes:
        state: "void", "open" (something to compare with is missing), "cannot-tell", "forgotten", "mostly",
            "past" (more than retraining forgets), "partly" or "not-forgotten".
        headline: one short sentence.
        sentences: the reasons, each one sentence.
        findings: the measures that can tell, for the unlearned model.
    """

    state: str
    headline: str
    sentences: tuple[str, ...]
    findings: tuple[Finding, ...]


def answer(document: Document) -> Answer:
    """Read the document's models and say what they show."""
    models = models_of(document)
    if void := str(document.get("void") or ""):
        return Answer("void", "This experiment shows nothing.", (f"{void[:1].upper()}{void[1:]}",), ())
    missing = [name for name in ("original", "unlearned", "retrained") if name not in models]
    if missing:
        names = " and ".join(f"{'an' if name[0] in 'aou' else 'a'} {name} model" for name in missing)
        sentence = f"For an answer the comparison also needs {names}."
        return Answer("open", "There is no answer yet.", (sentence, *_method(document)), ())
    found = tuple(findings(models, "unlearned"))
    state, headline = _headline(found)
    sentences = [*_method(document), *_evidence(found, state), *_ability(models)]
    if lost := _ability_lost(models):
        headline = _WORSE[state]
        state = "partly" if state in ("forgotten", "mostly") else state
    sentences += [*_lacks_further(document), *_return(document, found), *_rivals(models), *_cost(models)]
    if state == "forgotten" and not lost:
        sentences.append("This is one comparison, not a certificate: chance differences are not yet measured.")
    return Answer(state, headline, tuple(sentences), found)


def _method(document: Document) -> list[str]:
    """The method that made the unlearned model, and others that have served the request."""
    method = document.get("method") or {}
    if not method.get("name"):
        return []
    others = " and ".join(f"“{name}”" for name in method.get("others") or ())
    also = f" It was also served by {others}: --method names the one to compare." if others else ""
    return [f"Unlearned by the method “{method['name']}”.{also}"]


def _lacks_further(document: Document) -> list[str]:
    further = document.get("retrained_without") or []
    if not further:
        return []
    return [
        f"The retrained model also lacks what {' and '.join(map(str, further))} asked for later, which this unlearned "
        "model has seen: clients never train on it again. A part of the difference is due to that."
    ]


def findings(models: dict[str, Model], name: str) -> list[Finding]:
    """The measures on which original and retrained differ, read for the model `name`.

    Where the retrained model knows a part of the forget set better than the original did, the difference is not memory.
    """
    result = []
    for measure in evidence_measures(models):
        original, retrained, model = (value(models.get(who), measure.key) for who in ("original", "retrained", name))
        way = share_of_the_way(original, model, retrained, least=measure.informative)
        if way is None or original is None or retrained is None or model is None:
            continue
        if _is_known_better(measure, retrained, original):
            continue
        close = abs(model - retrained) <= measure.tolerance
        if close or REACHED <= way <= 2 - REACHED:
            state = "reached"
        elif way > 1:
            state = "past"
        else:
            state = "partly" if way >= HALF else "left"
        result.append(Finding(measure, original, model, retrained, way, state))
    return result


def _is_known_better(measure: Measure, one: float, other: float) -> bool:
    """Whether `one` says that a part of the forget set is better known than `other` does."""
    if not measure.key.startswith("forget."):
        return False
    return one < other if measure.kind == "loss" else one > other


def evidence_measures(models: dict[str, Model]) -> list[Measure]:
    """What shows memory: of a part the finest that is known, which is its PSNR, else its loss, else its accuracy."""
    memory = present(models.values(), "memory")
    keys = {measure.key for measure in memory}

    def is_finest(measure: Measure) -> bool:
        part, _, what = measure.key.rpartition(".")
        finer = FINEST_FIRST[: FINEST_FIRST.index(what)] if part and what in FINEST_FIRST else ()
        return not any(f"{part}.{one}" in keys for one in finer)

    return [measure for measure in memory if is_finest(measure)]


def gap_left(models: dict[str, Model], name: str) -> float | None:
    """Mean distance to the retrained model over the measures that can tell, as a share of the original's.

    0 is as retrained; 1 as far away as the original, or farther. None where nothing can tell.
    """
    sizes = [min(1.0, abs(1 - finding.way)) for finding in findings(models, name)]
    return sum(sizes) / len(sizes) if sizes else None


def _headline(found: tuple[Finding, ...]) -> tuple[str, str]:
    states = {finding.state for finding in found}
    if not found:
        return "cannot-tell", "This comparison cannot tell whether it was forgotten."
    if states == {"reached"}:
        return "forgotten", "Forgotten, as far as this comparison can tell."
    if states <= {"reached", "past"}:
        return "past", "Forgotten, and more than by retraining."
    if states <= {"reached", "partly"}:
        return "mostly", "Mostly forgotten."
    if states == {"left"}:
        return "not-forgotten", "Not forgotten."
    return "partly", "Only partly forgotten."


def _evidence(found: tuple[Finding, ...], state: str) -> list[str]:
    if state == "cannot-tell":
        return [
            "The original model and the one retrained without the data answer alike wherever memory would "
            "show, or the retrained one knows the data better: there is nothing that could be seen to go."
        ]
    words = {
        "reached": "as good as there",
        "partly": "more than half of the way",
        "left": "less than half of the way",
        "past": "further than retraining goes",
    }
    return [
        f"{one.measure.label}: {shown(one.original, one.measure.kind)} before, "
        f"{shown(one.model, one.measure.kind)} after unlearning, "
        f"{shown(one.retrained, one.measure.kind)} if retrained ({words[one.state]})."
        for one in found
    ]


def _ability(models: dict[str, Model]) -> list[str]:
    sentences = []
    for measure in _abilities(models):
        before, now, reference = (value(models[name], measure.key) for name in ("original", "unlearned", "retrained"))
        start = "" if before is None else f"{shown(before, measure.kind)} before, "
        if now is not None and reference is not None:
            sentences.append(
                f"{ABILITIES[measure.key]}: {start}{shown(now, measure.kind)} after unlearning, "
                f"{shown(reference, measure.kind)} if retrained."
            )
    return sentences


def _abilities(models: dict[str, Model]) -> list[Measure]:
    return [measure for measure in present(models.values(), "ability") if measure.key in ABILITIES]


def _ability_lost(models: dict[str, Model]) -> bool:
    for measure in _abilities(models):
        difference = gap(*(value(models[name], measure.key) for name in ("unlearned", "retrained")))
        if difference is not None and difference < -measure.tolerance:
            return True
    return False


def _return(document: Document, found: tuple[Finding, ...]) -> list[str]:
    """Whether what was reached came back in further ordinary rounds."""
    sentences = []
    for rounds, models in after_of(document).items():
        ways = {}
        for one in found:
            key = one.measure.key
            reference = value(models.get("retrained"), key)
            target = one.retrained if reference is None else reference
            later = value(models.get("unlearned"), key)
            way = share_of_the_way(one.original, later, target, least=one.measure.informative)
            if way is not None and one.state != "left":
                ways[one] = way
        back = [one.measure.label.lower() for one, way in ways.items() if way < min(HALF, one.way)]
        if back:
            sentences.append(f"After {rounds} further ordinary rounds it came back in part: {', '.join(back)}.")
        elif ways:
            sentences.append(f"After {rounds} further ordinary rounds what was forgotten had not come back.")
    return sentences


def _rivals(models: dict[str, Model]) -> list[str]:
    ours = gap_left(models, "unlearned")
    if ours is None:
        return []
    rivals = {
        name: left
        for name in models
        if name not in ("original", "retrained", "unlearned") and (left := gap_left(models, name)) is not None
    }
    if not rivals:
        return []
    best = min(rivals, key=lambda name: rivals[name])
    if rivals[best] < ours:
        return [
            f"Closer to the retrained model was “{label_of(best).lower()}”: it leaves {rivals[best]:.0%} "
            f"of the gap open, unlearning {ours:.0%}."
        ]
    return [
        f"Of everything tried, unlearning came closest to the retrained model: it leaves {ours:.0%} of the "
        f"gap open; next is “{label_of(best).lower()}” with {rivals[best]:.0%}."
    ]


def _cost(models: dict[str, Model]) -> list[str]:
    unlearned, retrained = models["unlearned"], models["retrained"]
    parts = []
    ours, theirs = (value(model, "cost.client_epochs") for model in (unlearned, retrained))
    if ours is not None and theirs is not None:
        parts.append(f"{shown(ours, 'count')} passes over the data{_less(ours, theirs, 'count')}")
    ours, theirs = (bytes_moved(model) for model in (unlearned, retrained))
    if ours is not None and theirs is not None:
        parts.append(f"{shown_bytes(ours)} of messages{_less(ours, theirs, 'bytes')}")
    ours, theirs = (value(model, "cost.seconds") for model in (unlearned, retrained))
    if ours is not None and theirs is not None:
        parts.append(f"{shown(ours, 'seconds')}{_less(ours, theirs, 'seconds')}")
    return [f"Cost: {'; '.join(parts)}."] if parts else []


def _less(ours: float, theirs: float, kind: str) -> str:
    against = f"retraining: {shown(theirs, kind)}"
    if ours <= 0 or theirs <= 0:
        return f" ({against})"
    ratio = theirs / ours
    if ratio < 1.05:
        return f" ({against})"
    return f" ({against}, {ratio:.0f} times as much)" if ratio >= 9.95 else f" ({against}, {ratio:.1f} times as much)"


def bytes_moved(model: Model | None) -> float | None:
    """Bytes up and down together; None where neither is known."""
    known = [n for key in ("cost.bytes_up", "cost.bytes_down") if (n := value(model, key)) is not None]
    return sum(known) if known else None
