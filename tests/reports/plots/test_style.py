from __future__ import annotations

from fedunlearn.reports.document import MODEL_ORDER
from fedunlearn.reports.plots.style import looks


def test_no_two_models_look_alike() -> None:
    names = [*MODEL_ORDER, "random", "least", "scrubbing", "zeroing"]
    styles = looks(names)
    assert len({look.colour for look in styles.values()}) == len(names)
    assert len({look.marker for look in styles.values()}) == len(names)


def test_a_model_looks_the_same_in_every_picture() -> None:
    assert looks(["unlearned", "random"])["unlearned"] == looks(["original", "x", "unlearned"])["unlearned"]
