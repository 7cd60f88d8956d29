"""The contract of every registered method, and the oracles of those that have one."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch

from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.packing import digest_state, nbytes
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import RequestError, SettingsError
from fedunlearn.randomness import derive_seed
from fedunlearn.strategies.content import ARRAYS, SCALAR_BYTES, numpy_arrays
from fedunlearn.strategies.method import EVERY_SCOPE, Need, checked_phases, methods
from fedunlearn.strategies.recovery import local_recipe
from fedunlearn.strategies.running_mean import RunningMean
from fedunlearn.strategies.serving import TargetGone
from fedunlearn.tasks.training import train_locally

OF_IMAGES = {name for name in methods.names() if methods.get(name).needs & {"other-goals", "encoder"}}
"""Methods that a task with classes cannot be served by; test_methods_of_images.py has them."""
CASES = [
    (name, scope) for name in methods.names() if name not in OF_IMAGES for scope in sorted(methods.get(name).scopes)
]
BACKDOOR = "client=0,share=0.5,target=0,size=2,margin=0"


def settings_for(name: str, rounds: int = 2, **changes: object) -> UnlearnSettings:
    options: dict = {"backdoor": BACKDOOR} if name == "trigger-scrub" else {}
    return UnlearnSettings(method=name, rounds=rounds, options=options, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "scope"), CASES)
def test_a_method_keeps_its_contract(place, name, scope) -> None:
    settings = settings_for(name, rounds=1)
    found = digest_state(place.model)
    place.heard.clear()
    state, witness = place.serve(scope, settings)
    heard = iter(list(place.heard))
    assert digest_state(place.model) == digest_state(state.base) == found
    assert digest_state(state.model) != found
    assert all(torch.isfinite(t).all() for t in state.model.values())
    assert state.model.keys() == place.model.keys()
    assert digest_state(place.serve(scope, settings)[0].model) == digest_state(state.model)
    if state.mask is not None:
        portion = state.mask.portion(state.layout)
        for parameter, tensor in state.model.items():
            rows = portion.rows.get(parameter, torch.empty(0, dtype=torch.int64))
            if rows is not None:
                frozen = np.setdiff1d(np.arange(len(tensor)), rows.numpy())
                assert torch.equal(tensor[frozen], place.model[parameter][frozen]), parameter
    messages = [phase.message for phase in methods.get(name).phases(settings, 2)]
    for report, before, after in zip(witness.reports, witness.before, witness.after, strict=True):
        assert report.phase.message == messages[report.number]
        assert report.outcome.answers and not report.outcome.dropped
        for answer in report.outcome.answers:
            counted = report.outcome.bytes[answer.client]
            assert counted["down"] > 0
            sent = numpy_arrays(next(heard).content.array_records[ARRAYS])
            by_hand = sum(array.nbytes for array in sent.values())
            assert counted["up"] == by_hand + SCALAR_BYTES * len(answer.metrics)
            if report.phase.trains:
                # Adapters that a round makes zero, or merges, were sent all the same.
                moved = before if before.adapters is not None else after
                assert by_hand == nbytes(moved.portion, moved.moving)
                assert counted["down"] >= by_hand


@pytest.mark.parametrize("name", sorted(OF_IMAGES))
def test_a_method_of_images_is_refused_by_a_task_of_classes(place, name) -> None:
    with pytest.raises(RequestError, match=f"method '{name}' needs a task whose model .*, and task 'digits' is none"):
        place.serve("client", settings_for(name))


@pytest.mark.parametrize("name", methods.names())
def test_a_method_says_what_it_is(name) -> None:
    method = methods.get(name)
    assert method.name == name
    assert method.scopes and method.scopes <= EVERY_SCOPE
    assert method.needs <= set(get_args(Need))
    with_one, with_three = (method.phases(settings_for(name, rounds), 5) for rounds in (1, 3))
    trained = [sum(phase.is_round for phase in phases) for phases in (with_one, with_three)]
    assert trained in ([1, 3], [0, 0]) or getattr(method, "own_rounds", False)
    asked = {phase.to for phase in with_one}
    # A joint phase may be of no use without the target, or do well with whoever is there.
    assert "target" in method.needs if "target" in asked else not ("target" in method.needs and "all" not in asked)
    for phase in with_one:
        kind, _, action = phase.message.partition(".")
        assert kind in ("query", "train") and action


@pytest.mark.parametrize("name", methods.names())
def test_a_scope_that_is_not_served_is_refused(place, name) -> None:
    method = methods.get(name)
    narrow = SimpleNamespace(name=name, scopes=frozenset({"client"}), phases=method.phases)
    with pytest.raises(RequestError, match="does not serve requests of scope samples; it serves client"):
        place.serve("samples", settings_for(name), method=narrow)


def test_retraining_is_an_ordinary_training_of_the_rest(place) -> None:
    """The same loop, written down plainly."""
    settings = settings_for("retrain")
    state, _ = place.serve("samples", settings)
    seed = place.state("samples", settings).seed
    recipe = local_recipe(place.session.training, settings)
    model = place.session.fresh(derive_seed(seed, "fresh"))
    for number in range(2):
        trained, weights = [], []
        for client in place.staying:
            site = place.sites[client]
            own = site.load(model)
            generator = torch.Generator().manual_seed(derive_seed(seed, "train.recover", number, client))
            train_locally(site.task, own, site.training_samples(), recipe, generator)
            trained.append({name: tensor.numpy().copy() for name, tensor in own.state_dict().items()})
            weights.append(len(site.training_samples()))
        mean = RunningMean({name: tensor.numpy() for name, tensor in model.items()})
        for arrays, weight in zip(trained, weights, strict=True):
            mean.add(arrays, weight)
        model = {name: torch.from_numpy(array) for name, array in mean.result().items()}
    assert digest_state(state.model) == digest_state(model)


def test_retraining_keeps_nothing_of_the_model_that_the_request_found(place) -> None:
    settings = settings_for("retrain", rounds=1)
    other = {name: torch.randn(tensor.shape) for name, tensor in place.model.items()}
    fresh_start = replace(place, model=other).serve("client", settings)[0]
    assert digest_state(fresh_start.model) == digest_state(place.serve("client", settings)[0].model)


def test_the_mask_of_all_ones_is_fine_tuning(place) -> None:
    settings = settings_for("fine-tune", rounds=1)
    full = ChannelMask.full(place.session.architecture.layout)
    masked, _ = place.serve("classes", settings, mask=full)
    dense, _ = place.serve("classes", settings)
    for name, tensor in dense.model.items():
        assert torch.allclose(masked.model[name], tensor, rtol=0, atol=1e-6), name


def test_the_empty_mask_moves_the_output_layer_alone(place) -> None:
    layout = place.session.architecture.layout
    state, witness = place.serve("client", settings_for("fine-tune", 1), mask=ChannelMask.empty(layout))
    changed = {name for name, tensor in state.model.items() if not torch.equal(tensor, place.model[name])}
    assert changed == set(layout.output)
    output = sum(place.model[name].numel() * 4 for name in layout.output)
    up = [count["up"] for count in witness.reports[0].outcome.bytes.values()]
    assert up == [output + 3 * SCALAR_BYTES] * 4  # num-examples, loss, epochs


def test_zeroing_an_output_unit_silences_one_class(place) -> None:
    settings = UnlearnSettings(method="zero-output-unit", rounds=1, options={"unit": 3})
    state, _ = place.serve("classes", settings)
    site = place.sites[0]
    logits = site.task.predict(site.load(state.model), site.task.inputs(site.holding.samples.inputs))
    assert not (logits.argmax(1) == 3).any()
    with pytest.raises(SettingsError, match="units 0 to 9"):
        place.serve("classes", settings.model_copy(update={"options": {"unit": 10}}))


def test_a_trigger_that_cannot_be_read_is_refused() -> None:
    settings = UnlearnSettings(method="trigger-scrub", options={"backdoor": 3})
    with pytest.raises(SettingsError, match="expected the trigger"):
        methods.get("trigger-scrub").phases(settings, 2)


@pytest.mark.parametrize("option", [{"attribution": "guess"}, {"ranking": "guess"}, {"forget_step": "guess"}])
def test_an_unknown_option_of_selective_channels_is_refused(option) -> None:
    with pytest.raises(SettingsError, match="guess"):
        methods.get("selective-channels").phases(UnlearnSettings(options=option), 2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("selective-channels", "its options: attribution, forget_epochs, forget_rate, forget_step, ranking"),
        ("zero-output-unit", "its options: unit"),
        ("trigger-scrub", "its options: backdoor"),
        ("fine-tune", "it has none"),
        ("retrain", "it has none"),
    ],
)
def test_an_option_that_a_method_does_not_have_is_refused(name: str, expected: str) -> None:
    settings = UnlearnSettings(method=name, options={"speed": 3})
    with pytest.raises(SettingsError, match=f"has no option 'speed'; {expected}"):
        checked_phases(methods.get(name), settings, 2)


def test_a_method_that_names_no_options_takes_any() -> None:
    undeclared = SimpleNamespace(name="own", phases=lambda settings, rounds: ["phase"] * settings.rounds)
    assert checked_phases(undeclared, UnlearnSettings(rounds=2, options={"speed": 3}), 5) == ["phase", "phase"]


def test_a_unit_is_a_number() -> None:
    with pytest.raises(SettingsError, match="expected the number of a class"):
        methods.get("zero-output-unit").phases(UnlearnSettings(options={"unit": "first"}), 2)


def test_a_ratio_decides_how_many_channels_move(place) -> None:
    layout = place.session.architecture.layout
    for ratio, share in ((0.25, 0.25), ({"hidden": 0.5}, None)):
        state, _ = place.serve("classes", settings_for("selective-channels", 1, ratio=ratio))
        chosen = {layer: len(rows) for layer, rows in state.mask.selected.items()}
        if share is not None:
            assert chosen == {group.layer: int(share * group.channels) for group in layout.groups}
        else:
            assert (chosen.get("convolution1", 0), chosen["hidden"]) == (0, 32)


def test_the_mask_is_all_that_the_target_says(place) -> None:
    place.heard.clear()
    _, witness = place.serve("classes", settings_for("selective-channels", 1, ratio=0.25))
    answer = next(r for r in witness.reports if r.phase.message == "query.attribute").outcome.answers[0]
    assert answer.client == 0
    [reply] = [one for one in place.heard if one.metadata.message_type == "query.attribute"]
    sent = numpy_arrays(reply.content.array_records[ARRAYS])
    assert sent and all(array.dtype == np.int32 for array in sent.values())
    assert set(answer.metrics) <= {"num-examples", "seconds", "forget-rate", "rewind"}


@pytest.mark.parametrize("name", [name for name in methods.names() if "target" in methods.get(name).needs])
def test_without_the_target_that_it_needs_a_method_pretends_nothing(request, name) -> None:
    """The server retrains instead, which it does for no other error."""
    place = request.getfixturevalue("image_place" if name in OF_IMAGES else "place")
    scope, target = ("client", 1) if "client" in methods.get(name).scopes else ("classes", 0)
    alone = replace(place.roster, members={c: m for c, m in place.roster.members.items() if c != target})
    with pytest.raises(TargetGone, match=r"there is no target client|no target answered"):
        place.serve(scope, settings_for(name, 1), roster=alone)


def test_a_random_ranking_takes_as_many_channels_as_the_method(place) -> None:
    own, _ = place.serve("classes", settings_for("selective-channels", 1, ratio=0.25))
    options = {"ranking": "random"}
    control, _ = place.serve(
        "classes",
        UnlearnSettings(rounds=1, ratio=0.25, options=options),  # type: ignore[arg-type]
    )
    sizes = [{layer: len(rows) for layer, rows in state.mask.selected.items()} for state in (own, control)]
    assert sizes[0] == sizes[1]
    assert own.mask != control.mask
