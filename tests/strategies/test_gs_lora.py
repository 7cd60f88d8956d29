"""GS-LoRA in a federation, against the same algorithm on one machine; and what crosses the wire."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional

from fedunlearn.channels.adapter_places import adapter_places
from fedunlearn.channels.adapters import DOWN, UP, AdapterPlan, Adapters, factor_name
from fedunlearn.channels.packing import digest_state
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import ClientError, RequestError, SettingsError
from fedunlearn.randomness import derive_seed
from fedunlearn.strategies.content import ARRAYS, METRICS, numpy_arrays
from fedunlearn.strategies.estimate import Facts, estimate
from fedunlearn.strategies.gs_lora import GROUPS_LEFT, rate_in
from fedunlearn.strategies.method import methods
from fedunlearn.strategies.prototypes import PROTOTYPES

PLAIN, PROTOTYPICAL = "gs-lora", "gs-lora-plus-plus"


def settings_for(name: str, rounds: int = 2, **options: object) -> UnlearnSettings:
    return UnlearnSettings(method=name, rounds=rounds, options=options)  # type: ignore[arg-type]


def split(place, scope: str) -> tuple[Samples, Samples]:
    """All clients' forget set and retained samples, in one place."""
    job = place.jobs[scope]
    forget, retain = [], []
    for client in place.staying:
        site = place.sites[client]
        forget.append(site.holding.samples.take(site.forget_positions(job.requests)))
        retain.append(site.training_samples())
    return Samples.concat(forget), Samples.concat(retain)


def centralised(place, settings: UnlearnSettings, scope: str) -> dict[str, torch.Tensor]:
    """GS-LoRA on one machine with all samples in one batch, written down plainly: no packing, no peft, no averaging."""
    options, state = settings.options, place.state(scope, settings)
    network = place.session._network(place.model)
    base = {name: tensor.clone() for name, tensor in place.model.items()}
    rank, task = int(options["rank"]), place.session.task
    plan = AdapterPlan(
        adapter_places(network, state.layout), rank, 1 / rank, derive_seed(state.seed, "adapters"), both=True
    )
    factors = {n: t.clone().requires_grad_() for n, t in Adapters.fresh(plan, base).factors.items()}
    optimizer = torch.optim.AdamW(list(factors.values()), lr=1.0, weight_decay=0.05)
    forget, retain = split(place, scope)
    for round in range(settings.rounds):
        rate = rate_in(round, settings)
        optimizer.param_groups[0]["lr"] = rate
        weights = dict(base)
        norms = [
            torch.cat([factors[name].detach().flatten() for layer in group for name in plan.names(layer)]).norm()
            for group in plan.groups
        ]
        for layer in plan.layers:
            up, down = factors[factor_name(layer, UP)], factors[factor_name(layer, DOWN)]
            added = (up.flatten(1) @ down.flatten(1)) / rank
            weights[f"{layer}.weight"] = base[f"{layer}.weight"] + added.reshape(base[f"{layer}.weight"].shape)
        logits = [torch.func.functional_call(network, weights, task.inputs(part.inputs)) for part in (forget, retain)]
        answered = logits[0].softmax(dim=1)
        closed = [{int(label), *state.gone} for label in forget.labels]
        losses = -torch.stack([answered[i, sorted(those)].sum() for i, those in enumerate(closed)]).log()
        bounded = functional.relu(float(options["bound"]) - losses).mean()
        optimizer.zero_grad()
        kept = functional.cross_entropy(logits[1], retain.labels)
        (kept + float(options["forget_weight"]) * bounded).backward()
        optimizer.step()
        if round >= int(options["warm_up"]):
            with torch.no_grad():
                for group, before in zip(plan.groups, norms, strict=True):
                    adaptive = options.get("group_weights") != "equal" and before > 0
                    weight = float(options["sparsity"]) * (float(sum(norms) / len(norms) / before) if adaptive else 1)
                    members = [factors[name] for layer in group for name in plan.names(layer)]
                    squares = torch.cat([optimizer.state[member]["exp_avg_sq"].flatten() for member in members])
                    typical = (squares.mean() / (1 - 0.999 ** (round + 1))).sqrt() + 1e-8
                    norm = torch.cat([member.flatten() for member in members]).norm()
                    for member in members:
                        member *= max(0.0, 1 - weight * rate / float(typical) / float(norm))
    return Adapters(plan, {name: factor.detach() for name, factor in factors.items()}).merged(base)


@contextmanager
def batches_of(place, size: int) -> Iterator[None]:
    """Inside, clients and server count on batches of that size."""
    other = replace(place.strategy.training, batch_size=size)
    before = [(site, site.training) for site in place.sites.values()]
    place.strategy.training, kept = other, place.strategy.training
    try:
        for site, _ in before:
            object.__setattr__(site, "training", other)
        yield
    finally:
        place.strategy.training = kept
        for site, own in before:
            object.__setattr__(site, "training", own)


@pytest.mark.parametrize(("size", "told"), [(4, False), (40, True)])
def test_the_loss_of_a_batch_is_told_only_of_many_samples(place, size: int, told: bool) -> None:
    place.heard.clear()
    with batches_of(place, size):
        place.serve("class-everywhere", settings_for(PLAIN, rounds=1, mode="exact"))
    trained = [r.content.metric_records[METRICS] for r in place.heard if r.metadata.message_type == "train.joint"]
    assert [("loss" in numbers) for numbers in trained] == [told] * len(place.staying)


def with_gone(place, classes: tuple[int, ...]):
    """The place, where these classes leave everywhere."""
    scope = "class-everywhere"
    return replace(place, jobs={**place.jobs, scope: replace(place.jobs[scope], classes=classes)})


@pytest.mark.parametrize(
    ("scope", "gone", "weights"),
    [("classes", None, "equal"), ("class-everywhere", (2,), "adaptive"), ("class-everywhere", (2, 5), "equal")],
)
def test_the_exact_mode_is_the_algorithm_of_one_machine(
    place, scope: str, gone: tuple[int, ...] | None, weights: str
) -> None:
    """Every client's batch is all that it has, so that one machine's batch is all samples."""
    place = place if gone is None else with_gone(place, gone)
    options: dict[str, object] = {"mode": "exact", "rank": 3, "bound": 5.0, "forget_weight": 0.4, "sparsity": 0.02}
    options |= {"warm_up": 1, "group_weights": weights}
    settings = settings_for(PLAIN, rounds=4, **options)
    with batches_of(place, 10_000):
        found = place.serve(scope, settings)[0].model
    expected = centralised(place, settings, scope)
    moved = [name for name in expected if not torch.equal(expected[name], place.model[name])]
    assert moved
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, rtol=0, atol=1e-5), name


def test_only_weights_beside_which_there_are_adapters_change(place) -> None:
    state, _ = place.serve("class-everywhere", settings_for(PROTOTYPICAL))
    changed = {name for name, tensor in state.model.items() if not torch.equal(tensor, place.model[name])}
    assert changed and changed <= {"convolution1.weight", "convolution2.weight", "hidden.weight"}
    assert state.adapters is None


def test_the_second_factor_alone_is_sent(place) -> None:
    place.heard.clear()
    place.serve("class-everywhere", settings_for(PLAIN, rounds=1, rank=2))
    sent = [
        numpy_arrays(r.content.array_records[ARRAYS]) for r in place.heard if r.metadata.message_type == "train.joint"
    ]
    assert len(sent) == len(place.staying)
    layers = ("convolution1", "convolution2", "hidden")
    assert all(arrays.keys() == {factor_name(layer, UP) for layer in layers} for arrays in sent)


def test_a_group_that_becomes_zero_is_sent_no_more_and_changes_nothing(place) -> None:
    """Some strength between one that keeps all groups and one that keeps none keeps some of them."""
    sparsest = None
    for strength in (0.02, 0.05, 0.1, 0.2, 0.4):
        settings = settings_for(PLAIN, rounds=4, sparsity=strength, warm_up=0)
        try:
            state, witness = place.serve("class-everywhere", settings)
        except ClientError:
            break
        if int(witness.after[-1].arrays[GROUPS_LEFT][0]) < 3:
            sparsest = state, witness
            break
    assert sparsest is not None
    state, witness = sparsest
    joint = [before for before, report in zip(witness.before, witness.reports, strict=True) if report.phase.trains]
    kept = [set(before.adapters.plan.layers) for before in joint]
    assert all(later <= earlier for earlier, later in pairwise(kept))
    gone = {"convolution1", "convolution2", "hidden"} - set(kept[-1])
    sizes = [sum(array.nbytes for array in before.packed().values()) for before in joint]
    assert bool(gone) == (sizes[-1] < sizes[0])
    for layer in gone:
        assert torch.equal(state.model[f"{layer}.weight"], place.model[f"{layer}.weight"])
    changed = {layer for layer in ("convolution1", "convolution2", "hidden")
               if not torch.equal(state.model[f"{layer}.weight"], place.model[f"{layer}.weight"])}  # fmt: skip
    assert len(changed) == int(witness.after[-1].arrays[GROUPS_LEFT][0]) < 3


def test_too_much_sparsity_is_told(place) -> None:
    with pytest.raises(ClientError, match="every group of adapters has become zero"):
        place.serve("class-everywhere", settings_for(PLAIN, sparsity=1e6, warm_up=0))


def test_prototypes_cross_as_sums_over_twenty_samples_and_more_and_never_of_the_forgotten_class(place) -> None:
    place.heard.clear()
    _, witness = place.serve("class-everywhere", settings_for(PROTOTYPICAL, rounds=1))
    asked = [r for r in place.heard if r.metadata.message_type == "query.prototypes"]
    assert len(asked) == len(place.staying)
    total = np.zeros((10, 65))
    for reply in asked:
        [sums] = numpy_arrays(reply.content.array_records[ARRAYS]).values()
        counted = sums[:, -1]
        assert ((counted == 0) | (counted >= 20)).all()
        assert not sums[counted == 0].any() and not sums[2].any()
        total += sums
    assert total[:, -1].any()
    left = witness.before[-1].arrays[PROTOTYPES]
    assert np.allclose(left, total)
    # The mean of the features themselves.
    features = []
    for client in place.staying:
        site = place.sites[client]
        own = site.training_samples()
        model = site.load(place.model)
        with torch.no_grad():
            inputs = site.task.inputs(own.inputs)
            hidden = functional.relu(model.hidden(model._features(inputs)))
        counted = torch.bincount(own.labels, minlength=10)
        features += [hidden[own.labels == label] for label in range(10) if label == 3 and counted[label] >= 20]
    assert torch.allclose(torch.from_numpy(left[3, :-1] / left[3, -1]), torch.cat(features).mean(dim=0), atol=1e-4)


def test_no_prototype_crosses_where_nothing_is_pulled(place) -> None:
    place.heard.clear()
    place.serve("class-everywhere", settings_for(PROTOTYPICAL, rounds=1, pull=0))
    assert "query.prototypes" not in {reply.metadata.message_type for reply in place.heard}


def test_without_prototype_terms_both_methods_are_one(place) -> None:
    plain = place.serve("classes", settings_for(PLAIN))[0]
    # Branches draw from their requests, not from the method's name.
    none = place.serve("classes", settings_for(PROTOTYPICAL, push=0, pull=0))[0]
    assert digest_state(plain.model) == digest_state(none.model)
    with_some = place.serve("classes", settings_for(PROTOTYPICAL))[0]
    assert digest_state(plain.model) != digest_state(with_some.model)


def test_the_own_class_alone_can_be_what_samples_are_driven_off(place) -> None:
    both = with_gone(place, (2, 5))
    away, own = (
        both.serve("class-everywhere", settings_for(PLAIN, away_from=word))[0].model for word in ("gone", "own")
    )
    assert digest_state(away) != digest_state(own)
    alone = with_gone(place, (2,)).serve("class-everywhere", settings_for(PLAIN))[0].model
    assert digest_state(own) == digest_state(alone)


def test_what_it_would_send_is_what_it_sends(place) -> None:
    settings = settings_for(PLAIN, rounds=2, sparsity=0)
    _, witness = place.serve("class-everywhere", settings)
    trained = [report.outcome for report in witness.reports if report.phase.trains]
    up = sum(count["up"] for outcome in trained for count in outcome.bytes.values())
    channels = sum(group.channels for group in place.session.architecture.layout.groups)
    facts = Facts(4, 4, 4, 1.0, 2, place.session.training, 10**6, 4 * channels, 0.5)
    estimated = methods.get(PLAIN).estimate(settings, facts)  # type: ignore[attr-defined]
    numbers = 8 * sum(len(answer.metrics) for outcome in trained for answer in outcome.answers)
    assert (estimated.rounds, estimated.bytes) == (2, 2 * (up - numbers))
    assert estimated.client_seconds == 2 * 2 * 4 * 0.5
    exact = settings_for(PLAIN, mode="exact")
    assert estimate(methods.get(PLAIN), exact, facts).bytes > estimated.bytes


def test_the_rate_falls_as_a_cosine() -> None:
    settings = settings_for(PLAIN, rounds=4)
    assert rate_in(0, settings) == pytest.approx(1e-2)
    assert rate_in(2, settings) == pytest.approx(1e-2 * (1e-3 + (1 - 1e-3) / 2))
    assert rate_in(4, settings) == pytest.approx(1e-5)
    assert rate_in(0, settings.model_copy(update={"learning_rate": 0.5})) == 0.5


@pytest.mark.parametrize(
    "options", [{"mode": "guess"}, {"rank": 0}, {"scale": 0}, {"hinge": "all"}, {"sparsity": -1}, {"bound": "high"},
                {"group_weights": "own"}, {"push": 0.1}]
)  # fmt: skip
def test_an_option_that_is_none_is_refused(place, options: dict) -> None:
    with pytest.raises(SettingsError):
        place.serve("classes", settings_for(PLAIN, **options))


def test_a_server_that_cannot_build_the_network_says_so(place) -> None:
    state = replace(place.state("classes", settings_for(PLAIN)), network=None)
    last = methods.get(PLAIN).phases(settings_for(PLAIN), 1)[1]
    with pytest.raises(RequestError, match="adapters need the network at the server"):
        last.combine(state, [])
