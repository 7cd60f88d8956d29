"""Every registered method on a task that answers with images: it serves, or is refused by name with a sentence."""

from __future__ import annotations

import pytest
import torch

from fedunlearn.channels.packing import digest_state
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import RequestError
from fedunlearn.strategies.method import methods
from fedunlearn.strategies.serving import check_task

ABLE = [name for name in methods.names() if "class-scores" not in methods.get(name).needs]
BACKDOOR = "client=0,share=0.5,size=2,margin=0"


def settings_for(name: str) -> UnlearnSettings:
    return UnlearnSettings(method=name, rounds=1, options={"backdoor": BACKDOOR} if name == "trigger-scrub" else {})


@pytest.mark.parametrize("name", ABLE)
def test_a_method_that_makes_do_with_the_loss_serves_a_task_of_images(image_place, name: str) -> None:
    method = methods.get(name)
    scope = "samples" if "samples" in method.scopes else min(method.scopes)
    image_place.heard.clear()
    state, witness = image_place.serve(scope, settings_for(name))
    assert digest_state(state.model) != digest_state(image_place.model)
    assert all(torch.isfinite(tensor).all() for tensor in state.model.values())
    assert all(report.outcome.answers and not report.outcome.dropped for report in witness.reports)
    if state.mask is not None:
        portion = state.mask.portion(state.layout)
        frozen = [key for key in state.model if key not in portion.rows]
        assert all(torch.equal(state.model[key], image_place.model[key]) for key in frozen)


@pytest.mark.parametrize("name", sorted(set(methods.names()) - set(ABLE)))
def test_a_method_that_needs_scores_of_classes_says_so(image_place, name: str) -> None:
    scope = min(methods.get(name).scopes)
    sentence = f"method '{name}' needs a task that answers with scores of classes, and task 'inpainting:digits'"
    with pytest.raises(RequestError, match=sentence):
        check_task(methods.get(name), image_place.session.task)
    with pytest.raises(RequestError, match=f"method '{name}' needs "):
        image_place.serve(scope, settings_for(name))


def test_there_are_methods_of_both_kinds() -> None:
    assert {"retrain", "fine-tune", "selective-channels", "nabla-tau", "neggrad-plus"} <= set(ABLE)
    assert {"scrub", "random-label", "zero-output-unit"}.isdisjoint(ABLE)
