"""What the words of a report mean, for somebody who is not an engineer."""

from __future__ import annotations

from collections.abc import Mapping

from fedunlearn.reports.document import Model, label_of
from fedunlearn.reports.measures import Measure, present

_MODELS = {
    "original": "The model as it was before the request, trained on everybody's data.",
    "unlearned": "The original model after unlearning: the model in question.",
    "retrained": "A new model trained from scratch without the data to be forgotten: the ideal to compare "
    "with. It is what forgetting should look like, and it is expensive.",
    "fine-tuned": "The original model, trained a little more on the remaining data only, with nothing "
    "done to forget. It shows how much goes away by itself.",
    "retrained-same-budget": "Trained from scratch without the data, but with only as much work as "
    "unlearning had. It shows whether unlearning is worth it.",
}
_CONTROLS = {
    "random": "A control: as unlearning, but with channels drawn at random. It shows whether the choice matters.",
    "least": "A control: as unlearning, but with the channels that matter least for the data to be forgotten.",
    "scrub": "A shortcut: only the planted trigger is trained away, with correctly labelled pictures. A "
    "good test finds that the rest is still remembered.",
    "zero": "A shortcut: the model is kept from giving one of its answers, without forgetting anything.",
}
_CONTROL = "A control: an alternative to compare with."
_QUESTIONS = {
    "forgotten_classes_accuracy": "How well does it still know the classes concerned?",
    "backdoor_success": "Does the planted trigger still work?",
    "canary_exposure": "Does it still know the planted wrong labels?",
    "membership_auc": "Can an attacker tell that the data was used?",
    "membership_accuracy": "How often is an attacker right about it?",
    "probe_accuracy": "Do its inner features still know it?",
    "relearn_steps": "How fast does it learn the data again?",
    "forget.all": "Is the data still familiar to it?",
    "forget.triggered": "Is the data with the trigger still familiar to it?",
    "forget.untriggered": "Is the ordinary data still familiar to it?",
    "forget.canaries": "Are the mislabelled samples still familiar to it?",
}
_GAP_LEFT = (
    "How far the model still is from the retrained one, on average over all measures that can tell: 0% is as "
    "retrained, 100% is as far away as before, or farther."
)


def model_words(models: Mapping[str, Model]) -> list[tuple[str, str]]:
    """Each model's name and what it is."""
    return [(label_of(name), _meaning(name)) for name in models]


def measure_words(models: Mapping[str, Model]) -> list[tuple[str, str]]:
    """Each shown measure's name and what it says."""
    return [("Gap left", _GAP_LEFT), *((m.label, m.meaning) for m in present(models.values()))]


def question(measure: Measure) -> str:
    """What the measure asks, in plain words."""
    return _QUESTIONS.get(measure.key) or _QUESTIONS.get(measure.key.rpartition(".")[0]) or measure.label


def _meaning(name: str) -> str:
    if name in _MODELS:
        return _MODELS[name]
    return next((meaning for part, meaning in _CONTROLS.items() if part in name), _CONTROL)
