from __future__ import annotations

import pytest
import torch

from fedunlearn.channels.packing import digest_state
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import SettingsError
from fedunlearn.strategies.method import methods
from fedunlearn.tasks.training import evaluate


def settings(method: str, rounds: int = 1, **options: object) -> UnlearnSettings:
    return UnlearnSettings(method=method, rounds=rounds, options=options)  # type: ignore[arg-type]


def changed(place, model) -> set[str]:
    return {name for name, tensor in model.items() if not torch.equal(tensor, place.model[name])}


def test_the_top_units_fall_silent_and_nothing_else_changes(place) -> None:
    state, _ = place.serve("classes", settings("zero-top-units", share=0.25))
    layout = place.session.architecture.layout
    assert changed(place, state.model) == {name for group in layout.groups for name in group.parameters}
    for group in layout.groups:
        rows = state.model[group.parameters[0]].flatten(1)
        assert int((rows == 0).all(dim=1).sum()) == group.channels // 4
        silent = (rows == 0).all(dim=1)
        assert torch.equal(rows[~silent], place.model[group.parameters[0]].flatten(1)[~silent])


def test_a_fresh_head_moves_alone(place) -> None:
    state, _ = place.serve("classes", settings("reset-head", rounds=2))
    assert changed(place, state.model) == set(place.session.architecture.layout.output)


def test_a_dense_layer_starts_afresh(place) -> None:
    layout = place.session.architecture.layout
    state, _ = place.serve("classes", settings("reset-layer"))
    last = layout.groups[-1]
    assert changed(place, state.model) == {*last.parameters, *layout.output}
    first, _ = place.serve("classes", settings("reset-layer", layer=layout.groups[0].layer))
    assert changed(place, first.model) == {*layout.groups[0].parameters, *layout.output}
    with pytest.raises(SettingsError, match="layers with channels are"):
        place.serve("classes", settings("reset-layer", layer="attic"))


def test_noise_has_the_stated_size(place) -> None:
    state, _ = place.serve("classes", settings("add-noise", size=0.5))
    name = max(place.model, key=lambda one: place.model[one].numel())
    before, after = place.model[name], state.model[name]
    assert float((after - before).std() / before.std()) == pytest.approx(0.5, rel=0.05)
    again, _ = place.serve("classes", settings("add-noise", size=0.5))
    assert digest_state(again.model) == digest_state(state.model)


def test_over_forgetting_goes_beyond_what_unseen_samples_show(place) -> None:
    site = place.sites[1]
    fine, _ = place.serve("client", settings("fine-tune", rounds=2))
    over, _ = place.serve("client", settings("over-forget", rounds=2, loss=30.0))
    losses = [
        float(evaluate(site.task, site.load(state.model), site.holding.samples).losses.mean()) for state in (fine, over)
    ]
    assert losses[1] > 1.5 * losses[0]
    assert all(torch.isfinite(tensor).all() for tensor in over.model.values())


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [
        ("zero-top-units", "share", 0),
        ("zero-top-units", "share", 1.5),
        ("add-noise", "size", "much"),
        ("add-noise", "size", True),
        ("over-forget", "loss", -1.0),
    ],
)
def test_a_size_that_is_none_is_refused(method: str, option: str, value: object) -> None:
    with pytest.raises(SettingsError, match="expected a number above 0"):
        methods.get(method).phases(settings(method, **{option: value}), 2)
