"""What the self-test is run on: two federations with one request each, and every shortcut that is no unlearning."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from fedunlearn.config import UnlearnSettings

NOTHING, WRONG, ROLLED_BACK = "do-nothing", "wrong-request", "roll-back"
"""Subjects that no method makes on this request."""

BACKDOOR = "share=0.5,target=0,size=4,margin=3"


class Subject(BaseModel):
    """One model that is judged though it is known what it is.

    Attributes:
        what: in a few words.
        caught_by: primary metrics that are meant to catch it, where they can tell at all.
        settings: of the branch that makes it; None for one of those that no method makes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str
    caught_by: tuple[str, ...]
    settings: UnlearnSettings | None = None


class Case(BaseModel):
    """One federation and its request.

    Attributes:
        name: of its folder and in the tables.
        federation: its settings.
        request: client and classes, as `Federation.request_deletion` takes them.
        wrong: the same of the request that is served instead, for one subject.
        rolled_back: number of the round whose model another subject is.
        method: under test.
        subjects: name -> control.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    federation: dict[str, Any]
    request: dict[str, Any]
    wrong: dict[str, Any]
    rolled_back: int
    method: UnlearnSettings = Field(default_factory=UnlearnSettings)
    subjects: dict[str, Subject] = Field(default_factory=dict)


def shortcuts(method: UnlearnSettings, gone: tuple[str, ...], kept: str, rolled_back: int) -> dict[str, Subject]:
    """The subjects that every request has, with the budget of the method.

    Args:
        gone: primary metrics that see whether something is left. kept: the one that sees damage.
    """
    either = (*gone, kept)

    def subject(what: str, caught_by: tuple[str, ...], name: str, **options: Any) -> Subject:
        settings = method.model_copy(update={"method": name, "ratio": "auto", "options": options})
        return Subject(what=what, caught_by=caught_by, settings=settings)

    return {
        NOTHING: Subject(what="the original under a new name", caught_by=gone),
        "fine-tune": subject("fine-tuning alone", gone, "fine-tune"),
        WRONG: Subject(what="the method, for another request", caught_by=gone),
        ROLLED_BACK: Subject(what=f"the model after round {rolled_back}", caught_by=either),
        "zero-top-units": subject("a tenth of each layer's channels silenced", either, "zero-top-units", share=0.1),
        "reset-head": subject("a fresh output layer", either, "reset-head"),
        "reset-layer": subject("a fresh dense layer", either, "reset-layer"),
        "retrain": subject("retraining, stopped at the method's budget", either, "retrain"),
        "add-noise": subject("noise of half a deviation on every weight", either, "add-noise", size=0.5),
        "over-forget": subject("forgetting more than retraining does", either, "over-forget"),
    }


def backdoor_case(federation: dict[str, Any], client: int, other: int, backdoor: str, rolled_back: int) -> Case:
    """A client with a back-door leaves.

    Args:
        federation: settings without the back-door. other: the client that leaves instead in the wrong request.
        backdoor: as the settings take it, without the client.
    """
    planted = f"client={client},{backdoor}"
    method, gone = UnlearnSettings(), ("backdoor_success", "untriggered_loss")
    # One round takes the trigger away; more of them are fine-tuning beside it.
    scrub = method.model_copy(update={"method": "trigger-scrub", "rounds": 1, "options": {"backdoor": planted}})
    subjects = shortcuts(method, gone, "test_accuracy", rolled_back)
    subjects["trigger-scrub"] = Subject(what="the trigger scrubbed, nothing else", caught_by=gone, settings=scrub)
    return Case(
        name="backdoor-client",
        federation={**federation, "backdoor": planted},
        request={"client": client},
        wrong={"client": other},
        rolled_back=rolled_back,
        method=method,
        subjects=subjects,
    )


def class_case(federation: dict[str, Any], label: int, other: int, rolled_back: int) -> Case:
    """A class leaves everywhere; `other` is the class that leaves instead in the wrong request."""
    method, gone = UnlearnSettings(), ("forgotten_classes_loss", "class_detection", "class_direction")
    silence = method.model_copy(update={"method": "zero-output-unit", "options": {"unit": label}})
    subjects = shortcuts(method, gone, "kept_classes_accuracy", rolled_back)
    subjects["zero-output-unit"] = Subject(what="the class's output unit silenced", caught_by=gone, settings=silence)
    return Case(
        name="class-everywhere",
        federation=federation,
        request={"classes": [label]},
        wrong={"classes": [other]},
        rolled_back=rolled_back,
        method=method,
        subjects=subjects,
    )


CASES = (
    # A fifth of the data, and rounds enough to learn it by heart: both metrics of removal can tell then.
    backdoor_case(
        {"task": "mnist5k", "partition": "iid", "clients": 5, "rounds": 30, "seed": 101},
        client=0,
        other=1,
        backdoor=BACKDOOR,
        rolled_back=20,
    ),
    class_case({"task": "mnist5k", "partition": "dirichlet:1.0", "seed": 105}, label=5, other=7, rolled_back=10),
)
"""Requests whose original is meant to be 16 deviations and more from retrained; the document says how far it is."""
