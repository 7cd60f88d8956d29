"""The primary metrics of a verdict: at most five for each kind of request, fixed before anything is measured.

Every further metric widens the interval of all, because the error is shared among them, and one that hardly tells the
original from a retrained model stands in the way of a pass, because its margin is narrow. So each kind of request has
few: one for each way of not having forgotten, and one of utility. Everything else that an audit measures is described
and never judged. They were chosen on tuning requests (MNIST: a back-door client, canaries and a class with seed 3).

Left out on purpose, because they tell what another one tells: the loss on stamped and on mislabelled training samples,
which is how sure a model is of a wrong label (back-door success and exposure say whether it answers with it); accuracy
on the forget set, which hardly moves where the loss does; membership attacks, which are made of the same losses; a
linear probe's accuracy, which a retrained model's features let succeed as well.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fedunlearn.audit.measured import Kind, Transform
from fedunlearn.audit.verdict import MOST_METRICS

TRIGGERED, UNTRIGGERED, CANARIES = "triggered", "untriggered", "canaries"
"""Parts of a forget set that was planted, as targets report them."""


@dataclass(frozen=True)
class PrimaryMetric:
    """One metric that is judged.

    Attributes:
        name: as the server's figures name it.
        transform: "logit" for a rate, "log" for a loss.
        why: it is judged, in a sentence.
    """

    name: str
    kind: Kind
    transform: Transform
    why: str


BACKDOOR_SUCCESS = PrimaryMetric(
    "backdoor_success",
    "removal",
    "logit",
    "What the client planted on purpose: the share of stamped test images of other classes that are called its target.",
)
UNTRIGGERED_LOSS = PrimaryMetric(
    "untriggered_loss",
    "removal",
    "log",
    "The client's ordinary samples leave as well; scrubbing the trigger alone leaves their loss as it was.",
)
CANARY_EXPOSURE = PrimaryMetric(
    "canary_exposure",
    "removal",
    "logit",
    "Wrong labels that only learning by heart can teach; chance is known.",
)
FORGET_LOSS = PrimaryMetric(
    "forget_loss",
    "removal",
    "log",
    "What a model knows of its training samples; the mean over all of them separates better than any share of right "
    "answers.",
)
CLASS_LOSS = PrimaryMetric(
    "forgotten_classes_loss",
    "removal",
    "log",
    "Unseen samples of a class that no model may know any more; forgetting more than retraining shows here, where "
    "accuracy is 0 already.",
)
CLASS_DETECTION = PrimaryMetric(
    "class_detection",
    "removal",
    "logit",
    "A class that is never answered may be hidden and not gone: the chance that a sample of it gets more probability "
    "for it than a sample of another class does.",
)
CLASS_DIRECTION = PrimaryMetric(
    "class_direction",
    "removal",
    "log",
    "Whether only the head was fooled: how far the features still set the class apart, in a direction of its own.",
)
TEST_ACCURACY = PrimaryMetric(
    "test_accuracy",
    "utility",
    "logit",
    "What the federation is for.",
)
KEPT_CLASSES_ACCURACY = PrimaryMetric(
    "kept_classes_accuracy",
    "utility",
    "logit",
    "What the federation is for, once a class is gone from it.",
)

REGENERATION = PrimaryMetric(
    "backdoor_success",
    "removal",
    "logit",
    "What the client planted on purpose: the share of stamped test images into which the model paints its pattern.",
)
TEST_LOSS = PrimaryMetric(
    "test_loss",
    "utility",
    "log",
    "What the federation is for, where nothing is answered right or wrong.",
)
KEPT_CLASSES_LOSS = PrimaryMetric(
    "kept_classes_loss",
    "utility",
    "log",
    "What the federation is for, once a class is gone from it and where nothing is answered right or wrong.",
)


def primary_metrics(
    scopes: Collection[str], parts: Collection[str], class_scores: bool = True
) -> tuple[PrimaryMetric, ...]:
    """What is judged for a request, removal first.

    Args:
        scopes: of the requests that were served together: "client", "classes", "samples", "class-everywhere".
        parts: which of the parts "triggered", "untriggered" and "canaries" the forget set has.
        class_scores: whether the task answers with scores of classes. Where it does not, what is judged is made of its
            loss: whether a class is told from others, or answered at all, cannot be asked of it.
    """
    everywhere = set(scopes) == {"class-everywhere"}
    removal = [BACKDOOR_SUCCESS if class_scores else REGENERATION] if TRIGGERED in parts else []
    if CANARIES in parts:
        removal.append(CANARY_EXPOSURE)
    if UNTRIGGERED in parts:
        removal.append(UNTRIGGERED_LOSS)
    if everywhere:
        removal += [CLASS_LOSS, CLASS_DETECTION, CLASS_DIRECTION] if class_scores else [CLASS_LOSS]
    if not removal:
        removal = [FORGET_LOSS]
    kept, test = (KEPT_CLASSES_ACCURACY, TEST_ACCURACY) if class_scores else (KEPT_CLASSES_LOSS, TEST_LOSS)
    return (*removal[: MOST_METRICS - 1], kept if everywhere else test)
