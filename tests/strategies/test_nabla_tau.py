from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from fedunlearn.channels.layout import channel_layout
from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.packing import digest_state
from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import ClientError, SettingsError
from fedunlearn.federation import Federation
from fedunlearn.strategies.gated_training import Gated, mean_loss, train_gated, train_paired
from fedunlearn.strategies.method import ClientReply, Phase, State, Work, methods
from fedunlearn.strategies.nabla_tau_terms import rate_in
from fedunlearn.strategies.serving import TargetGone
from fedunlearn.tasks import tasks
from fedunlearn.tasks.classification import ClassificationTask
from fedunlearn.tasks.training import TrainingSettings, train_locally

CLASSES, FEATURES = 3, 4
TASK = ClassificationTask("tiny", "digits")
WHOLE = TrainingSettings(local_epochs=1, learning_rate=0.1, momentum=0.0, batch_size=256)
"""One step of a batch of everything."""
ROUND = "train.recover"


def network(normalised: bool = False) -> nn.Module:
    torch.manual_seed(0)
    between: list[nn.Module] = [nn.BatchNorm1d(5)] if normalised else []
    return nn.Sequential(nn.Linear(FEATURES, 5), *between, nn.Tanh(), nn.Dropout(0.0), nn.Linear(5, CLASSES))


def samples(count: int, seed: int, classes: Sequence[int] = range(CLASSES)) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor(list(classes))[torch.randint(0, len(classes), (count,), generator=generator)]
    inputs = torch.randn(count, FEATURES, generator=generator)
    inputs[torch.arange(count), labels] += 2.0
    return Samples(inputs, labels)


NONE = samples(0, 0)


def client(forget: Samples = NONE, retain: Samples = NONE, held_out: Samples | None = None) -> SimpleNamespace:
    return SimpleNamespace(forget=forget, retain=retain, held_out=samples(20, 9) if held_out is None else held_out)


def serve(
    clients: Sequence[SimpleNamespace],
    model: nn.Module | None = None,
    rounds: int = 1,
    training: TrainingSettings = WHOLE,
    mask: ChannelMask | None = None,
    **options: Any,
) -> tuple[list[State], list[tuple[Phase, list[ClientReply]]]]:
    """The method's phases one after the other, without messages: the states after each, and the replies."""
    settings = UnlearnSettings(method="nabla-tau", rounds=rounds, options={"optimizer": "sgd", **options})
    model = model or network()
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layout = channel_layout(model.eval(), torch.zeros(2, FEATURES))
    model.train()
    state = State(base, base, layout, 7, base, settings, training, rounds=3, mask=mask)
    states, told = [], []
    for number, phase in enumerate(methods.get("nabla-tau").phases(settings, 3)):
        down, replies = phase.down(state), []
        assert down is not None
        for index, one in enumerate(clients):
            if not {"target": len(one.forget), "remaining": len(one.retain), "all": 1}[phase.to]:
                continue
            own = network("1.running_mean" in base)
            own.load_state_dict(state.model if down.packed is not None else state.base)
            work = Work(
                role="target" if len(one.forget) else "remaining",
                task=TASK,
                model=own,
                base=state.base,
                layout=layout,
                mask=state.mask,
                portion=state.portion,
                classes=CLASSES,
                forget=one.forget,
                retain=one.retain,
                held_out=one.held_out,
                arrays=down.arrays,
                settings=settings,
                training=training,
                round=number,
                generator=torch.Generator().manual_seed(100 * number + index),
                keep=lambda name, arrays: None,
            )
            reply = phase.compute(work)
            replies.append(ClientReply(index, work.role, reply.arrays, reply.metrics))
        state = phase.combine(state, replies)
        states.append(state)
        told.append((phase, replies))
    return states, told


def step(model: nn.Module, forget: Samples, retain: Samples, tau: float, alpha: float) -> dict[str, torch.Tensor]:
    """The centralised step, written down plainly."""
    of_forget = nn.functional.cross_entropy(model(forget.inputs), forget.labels)
    of_retain = nn.functional.cross_entropy(model(retain.inputs), retain.labels)
    loss = alpha * torch.clamp(tau - of_forget, min=0) ** 2 + (1 - alpha) * of_retain
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    named = zip(model.named_parameters(), gradients, strict=True)
    return {name: weight.detach() - 0.1 * gradient for (name, weight), gradient in named}


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, rtol=0, atol=1e-6), name


def test_each_sample_can_have_a_gate_of_its_own() -> None:
    """Two known by heart beside one that is not: their mean is above tau, and they are not."""
    losses = torch.tensor([0.0, 0.2, 5.0], requires_grad=True)
    of_the_batch, of_each = Gated(1.0, forget=0.5), Gated(1.0, forget=0.5, by_sample=True)
    assert of_the_batch(losses).item() == 0 and of_the_batch.share_open(losses) == 0.0
    term = of_each(losses)
    term.backward()
    assert term.item() == pytest.approx(0.5 * (1.0 + 0.64) / 3) and of_each.share_open(losses) == pytest.approx(2 / 3)
    assert losses.grad is not None and losses.grad.tolist() == pytest.approx([-1 / 3, -0.8 / 3, 0.0])


def test_one_client_with_all_samples_takes_the_centralised_step() -> None:
    forget, retain = samples(30, 1), samples(70, 2)
    states, told = serve([client(forget, retain)], tau=2.0)
    assert_close(states[-1].model, step(network(), forget, retain, 2.0, 5 / 3 * 0.3))
    assert told[-1][1][0].metrics["gate-open"] == 1.0


@pytest.mark.parametrize("tau", [2.0, 0.1])
def test_a_step_of_several_clients_is_the_centralised_one(tau: float) -> None:
    """A target that keeps nothing and two others: the terms are weighed by role."""
    forget, retain = samples(30, 1), [samples(50, 2), samples(20, 3)]
    states, _ = serve([client(forget), *(client(retain=one) for one in retain)], tau=tau, alpha=0.4)
    assert_close(states[-1].model, step(network(), forget, Samples.concat(retain), tau, 0.4))


def test_a_target_that_keeps_samples_does_its_share_of_both() -> None:
    forget, retain = samples(30, 1), [samples(50, 2), samples(20, 3)]
    states, _ = serve([client(forget, retain[0]), client(retain=retain[1])], tau=2.0, alpha=0.4)
    assert_close(states[-1].model, step(network(), forget, Samples.concat(retain), 2.0, 0.4))


def test_alpha_falls_over_the_rounds() -> None:
    clients = [client(samples(30, 1), samples(70, 2))]
    states, _ = serve(clients, rounds=2, tau=2.0, alpha=0.4)
    between = network()
    between.load_state_dict(states[-2].model)
    assert_close(states[-1].model, step(between, clients[0].forget, clients[0].retain, 2.0, 0.2))


@pytest.mark.parametrize("scope", ["samples", "classes"])
def test_alpha_0_is_fine_tuning_to_the_bit(place, scope: str) -> None:
    options: dict = {"alpha": 0, "optimizer": "sgd"}
    own, _ = place.serve(scope, UnlearnSettings(method="nabla-tau", rounds=2, options=options))
    plain, _ = place.serve(scope, UnlearnSettings(method="fine-tune", rounds=2))
    assert digest_state(own.model) == digest_state(plain.model) != digest_state(place.model)


def test_one_round_of_adamw_is_the_authors_step() -> None:
    forget, retain = samples(30, 1), samples(40, 2)
    states, _ = serve([client(forget, retain)], tau=2.0, alpha=0.4, optimizer="adamw")
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    of_forget, of_retain = (nn.functional.cross_entropy(model(s.inputs), s.labels) for s in (forget, retain))
    (0.4 * torch.relu(2.0 - of_forget) ** 2 + 0.6 * of_retain).backward()
    optimizer.step()
    for name, tensor in model.state_dict().items():
        # Rounding decides about the sign of a gradient that is almost zero, and with it about a whole step.
        assert torch.allclose(states[-1].model[name], tensor, atol=1e-6), name


def test_adamw_serves_who_forgets_nothing_as_well_and_its_rate_falls_to_a_tenth() -> None:
    assert [rate_in(i, 3) for i in range(4)] == pytest.approx([1.0, 0.7, 0.4, 0.1])
    clients = [client(samples(30, 1)), client(retain=samples(40, 2))]
    adam, _ = serve(clients, rounds=2, tau=2.0, alpha=0.4, optimizer="adamw")
    assert digest_state(adam[-1].model) != digest_state(serve(clients, rounds=2, tau=2.0, alpha=0.4)[0][-1].model)
    assert digest_state(adam[-1].model) == digest_state(
        serve(clients, rounds=2, tau=2.0, alpha=0.4, optimizer="adamw")[0][-1].model
    )


def test_pairs_without_a_forget_term_are_ordinary_training_to_the_bit() -> None:
    recipe = TrainingSettings(local_epochs=3, learning_rate=0.05, momentum=0.9, weight_decay=1e-3, batch_size=8)
    forget, retain = samples(21, 1), samples(45, 2)
    own, plain = network(), network()
    train_paired(TASK, own, forget, retain, Gated(1.0, 0.0, 1.0), recipe, torch.Generator().manual_seed(5))
    train_locally(TASK, plain, retain, recipe, torch.Generator().manual_seed(5))
    assert digest_state(own.state_dict()) == digest_state(plain.state_dict())


def test_tau_is_the_mean_over_all_held_out_samples() -> None:
    unseen = [samples(20, 11), samples(35, 12), samples(50, 13)]
    clients = [
        client(samples(30, 1), held_out=unseen[0]),
        client(retain=samples(40, 2), held_out=unseen[1]),
        client(retain=samples(40, 3), held_out=unseen[2]),
    ]
    states, told = serve(clients)
    everything, model = Samples.concat(unseen), network()
    expected = nn.functional.cross_entropy(model(everything.inputs), everything.labels).item()
    assert [phase.message for phase, _ in told] == ["query.count", "query.count", "query.tau", ROUND]
    assert states[2].arrays["nabla-tau/tau"][0] == pytest.approx(expected, rel=1e-6)
    assert_close(
        states[-1].model,
        step(network(), clients[0].forget, Samples.concat([one.retain for one in clients]), expected, 5 / 3 * 30 / 110),
    )


def test_tau_of_a_class_is_of_the_forgotten_classes_alone() -> None:
    unseen = [samples(80, 11), samples(90, 12)]
    clients = [
        client(samples(30, 1, [1]), samples(40, 2), unseen[0]),
        client(retain=samples(40, 3), held_out=unseen[1]),
    ]
    states, told = serve(clients, tau="class")
    assert told[0][1][0].arrays["classes"].tolist() == [0, 1, 0]
    everything = Samples.concat(unseen)
    own = everything.take((everything.labels == 1).nonzero().squeeze(1))
    expected = nn.functional.cross_entropy(network()(own.inputs), own.labels).item()
    assert states[2].arrays["nabla-tau/tau"][0] == pytest.approx(expected, rel=1e-6)


def test_tau_of_guessing_asks_nobody() -> None:
    clients = [client(samples(30, 1), samples(70, 2))]
    states, told = serve(clients, tau="log-k")
    assert [phase.message for phase, _ in told] == ["query.count", "query.count", ROUND]
    assert_close(states[-1].model, step(network(), clients[0].forget, clients[0].retain, math.log(3), 0.5))


def test_tau_is_measured_again_on_schedule() -> None:
    settings = UnlearnSettings(method="nabla-tau", rounds=5, options={"tau_every": 2})
    order = [phase.message for phase in methods.get("nabla-tau").phases(settings, 3)][2:]
    assert order == ["query.tau", ROUND, ROUND, "query.tau", ROUND, ROUND, "query.tau", ROUND]


def test_a_mean_of_few_samples_is_withheld() -> None:
    with pytest.raises(ClientError, match="fewer than 20 samples and withholds"):
        serve([client(samples(30, 1), samples(70, 2), samples(19, 3))])
    with pytest.raises(ClientError, match=r"of the forgotten classes and withholds.*tau=log-k"):
        serve([client(samples(30, 1, [1]), samples(70, 2), samples(50, 3, [0, 2]))], tau="class")
    _, told = serve([client(samples(19, 1), samples(70, 2))], tau=1.0)
    assert "gate-open" not in told[-1][1][0].metrics


def test_the_gate_is_counted_batch_by_batch() -> None:
    """A model that hardly moves: each batch's loss can be known beforehand."""
    still = TrainingSettings(local_epochs=2, learning_rate=1e-12, momentum=0.0, batch_size=8)
    forget, model, draws = samples(44, 1), network(), torch.Generator().manual_seed(3)
    batches = [batch for _ in range(2) for batch in torch.randperm(44, generator=draws).split(8)]
    losses = [nn.functional.cross_entropy(model(forget.inputs[b]), forget.labels[b]).item() for b in batches]
    tau = sorted(losses)[4] + 1e-6
    result = train_gated(TASK, model, forget, Gated(tau), still, torch.Generator().manual_seed(3))
    assert (result.gate_open, result.forgotten_seen) == (5 / len(losses), 88)
    for extreme, share in ((0.0, 0.0), (100.0, 1.0)):
        paired = train_paired(
            TASK, model, forget, samples(30, 2), Gated(extreme, 0.5, 0.5), still, torch.Generator().manual_seed(3)
        )
        assert paired.gate_open == share


def test_each_retained_batch_has_one_of_the_forget_set() -> None:
    recipe = TrainingSettings(local_epochs=2, learning_rate=0.01, momentum=0.0, batch_size=8)
    few = train_paired(TASK, network(), samples(16, 1), samples(40, 2), Gated(1.0, 0.5, 0.5), recipe, torch.Generator())
    assert few.forgotten_seen == 2 * 5 * 8
    # More to forget than to retain: one pass over what is retained still sees all of it.
    many = train_paired(
        TASK, network(), samples(80, 1), samples(16, 2), Gated(1.0, 0.5, 0.5), recipe, torch.Generator()
    )
    assert many.forgotten_seen == 2 * 80


def test_a_target_that_keeps_nothing_takes_as_many_steps_as_the_others() -> None:
    recipe = replace(WHOLE, batch_size=8)
    clients = [client(samples(20, 1)), client(retain=samples(60, 2)), client(retain=samples(84, 3))]
    _, told = serve(clients, training=recipe, tau=1.0)
    # 72 retained samples a client are 9 batches; the target's 20 are 3.
    assert [reply.metrics["epochs"] for reply in told[-1][1]] == [3, 1, 1]


def test_what_was_computed_is_told() -> None:
    recipe = replace(WHOLE, batch_size=10)
    _, told = serve([client(samples(30, 1), samples(70, 2))], training=recipe, tau=1.0)
    reply = told[-1][1][0]
    assert reply.metrics["num-examples"] == 100
    assert reply.metrics["epochs"] == pytest.approx((70 + 7 * 10) / 100)


def test_the_forget_set_leaves_statistics_of_normalisation_alone() -> None:
    retain = samples(70, 2)
    found = []
    for seed in (1, 8):
        states, _ = serve([client(samples(30, seed), retain)], network(normalised=True), tau=3.0)
        found.append(states[-1].model)
    assert digest_state(found[0]) != digest_state(found[1])
    assert torch.equal(found[0]["1.running_mean"], found[1]["1.running_mean"])
    model = network(normalised=True)
    before = model[1].running_mean.clone()
    train_gated(TASK, model, samples(30, 1), Gated(3.0), WHOLE, torch.Generator())
    assert torch.equal(model[1].running_mean, before)


def test_the_forget_term_has_no_dropout() -> None:
    model = network()
    model[2].p = 0.9
    forget = samples(30, 1)
    loss = mean_loss(TASK, model, forget)
    # Closed by a hair, and so never opened by a draw of what is dropped.
    recipe = replace(WHOLE, local_epochs=5)
    assert train_gated(TASK, model, forget, Gated(loss - 1e-4), recipe, torch.Generator()).gate_open == 0
    assert model.training


class Reconstruction:
    """A task without classes: a network gives back a part of its inputs."""

    name = "reconstruction"

    def inputs(self, raw: torch.Tensor) -> torch.Tensor:
        return raw

    def loss(self, model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (model(inputs) - labels).square().mean(dim=1)


def test_a_loss_is_all_that_it_needs_of_a_task() -> None:
    def some(seed: int) -> Samples:
        inputs = torch.randn(32, FEATURES, generator=torch.Generator().manual_seed(seed))
        return Samples(inputs, inputs[:, :CLASSES].clone())

    task: Any = Reconstruction()
    recipe = TrainingSettings(local_epochs=40, learning_rate=0.05, batch_size=8)
    model, forget, retain = network(), some(1), some(2)
    train_locally(task, model, Samples.concat([forget, retain]), recipe, torch.Generator())
    tau, before = mean_loss(task, model, some(3)), mean_loss(task, model, forget)
    result = train_paired(task, model, forget, retain, Gated(10 * tau, 0.9, 0.1), recipe, torch.Generator())
    assert mean_loss(task, model, forget) > before and result.gate_open > 0


def test_only_selected_channels_move(place) -> None:
    options: dict = {"channels": "selected"}
    settings = UnlearnSettings(method="nabla-tau", rounds=2, ratio=0.25, options=options)
    state, witness = place.serve("classes", settings)
    messages = [report.phase.message for report in witness.reports]
    assert messages[:2] == ["query.reference", "query.attribute"] and messages.count(ROUND) == 2
    assert state.mask is not None and 0 < state.mask.ratio(state.layout) <= 0.26
    rows = state.mask.portion(state.layout).rows
    moved = 0
    for name, tensor in state.model.items():
        chosen = rows.get(name, torch.empty(0, dtype=torch.int64))
        if chosen is None:
            continue
        kept = torch.ones(len(tensor), dtype=torch.bool)
        kept[chosen] = False
        assert torch.equal(tensor[kept], place.model[name][kept]), name
        moved += int((tensor[chosen] != place.model[name][chosen]).sum())
    assert moved


def test_without_a_target_nothing_is_forgotten(place) -> None:
    alone = replace(place.roster, members={c: m for c, m in place.roster.members.items() if c != 0})
    with pytest.raises(TargetGone):
        place.serve("classes", UnlearnSettings(method="nabla-tau", rounds=1), roster=alone)


@pytest.mark.parametrize(
    "option",
    [
        {"tau": "guess"},
        {"tau": -1},
        {"tau": True},
        {"tau_every": 0},
        {"alpha": 1.5},
        {"gate": "class"},
        {"channels": "some"},
    ],
)
def test_an_option_that_is_none_is_refused(option: dict) -> None:
    with pytest.raises(SettingsError, match="expected"):
        methods.get("nabla-tau").phases(UnlearnSettings(options=option), 3)


@pytest.mark.parametrize(("task", "clients"), [("digits", 4), ("mnist5k", 10), ("breast-cancer", 2)])
def test_a_round_on_every_task_that_needs_no_network(tmp_path, task: str, clients: int) -> None:
    assert task in tasks.names()
    federation = Federation.simulate(
        task, clients=clients, partition="iid", rounds=1, local_epochs=1, workers=0, out=tmp_path / "run"
    )
    federation.train()
    request = federation.request_deletion(client=0)
    [served] = federation.unlearn(request, method="nabla-tau", rounds=1)
    ledger = federation._session().ledger
    [row] = ledger.rounds(served.branch)
    assert row.digest_before != row.digest_after
    assert row.metrics["gate_open"].keys() == {"0"} and 0 <= row.metrics["gate_open"]["0"] <= 1


@pytest.mark.parametrize(("channels", "gate"), [("all", "batch"), ("all", "sample"), ("selected", "batch")])
def test_the_forget_sets_loss_comes_nearer_to_tau_than_by_fine_tuning(place, channels: str, gate: str) -> None:
    """Client 1 leaves a model that is far from done: fine-tuning goes on teaching what the client had, too."""
    site = place.sites[1]
    forget = site.holding.samples.take(site.holding.training_positions())
    options: dict = {"tau": 1.5, "alpha": 0.9, "channels": channels, "gate": gate}
    own, witness = place.serve("client", UnlearnSettings(method="nabla-tau", rounds=3, options=options))
    plain, _ = place.serve("client", UnlearnSettings(method="fine-tune", rounds=3))
    raised, tuned = (mean_loss(site.task, site.load(model), forget) for model in (own.model, plain.model))
    assert tuned < raised and abs(raised - 1.5) < abs(tuned - 1.5)
    answers = [report.outcome.answers for report in witness.reports if report.phase.trains]
    gates = [[a.metrics["gate-open"] for a in some if "gate-open" in a.metrics] for some in answers]
    assert [len(some) for some in gates] == [1, 1, 1] and gates[0][0] > 0
