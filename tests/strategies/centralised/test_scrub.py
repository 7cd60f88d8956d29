from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedunlearn.channels.packing import digest_state
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import ClientError, SettingsError
from fedunlearn.strategies.method import methods
from fedunlearn.strategies.passes import divergence


def by_hand(teacher: torch.Tensor, student: torch.Tensor, temperature: float) -> torch.Tensor:
    """Sum over classes of p log(p / q), both softened, times the temperature squared."""
    p = (teacher / temperature).exp() / (teacher / temperature).exp().sum(1, keepdim=True)
    q = (student / temperature).exp() / (student / temperature).exp().sum(1, keepdim=True)
    return temperature**2 * (p * (p.log() - q.log())).sum(1)


def test_the_divergence_by_hand() -> None:
    teacher, student = (
        torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]]),
        torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0]]),
    )
    for temperature in (1.0, 4.0):
        found = divergence(teacher, student, temperature)
        assert torch.allclose(found, by_hand(teacher, student, temperature), atol=1e-5)
    assert float(found[1]) == pytest.approx(0.0, abs=1e-6)


@pytest.fixture
def elsewhere(tiny):
    """A state whose model is no longer the one that the request found; recipe: one batch, one step."""
    model = tiny.network()
    settings = UnlearnSettings(method="scrub", rounds=2, options={"alpha": 0.3, "gamma": 0.8, "temperature": 2.0})
    state = tiny.start(model, settings, replace(tiny.PLAIN, batch_size=64))
    moved = {name: tensor + 0.2 * torch.sin(tensor * 9) for name, tensor in state.model.items()}
    return replace(state, model=moved)


def stepped(tiny, state, loss, rate: float) -> dict[str, torch.Tensor]:
    """One plain step of gradient descent."""
    model = tiny.loaded(state.model)
    slopes = torch.autograd.grad(loss(model), list(model.parameters()))
    return {name: p.detach() - rate * g for (name, p), g in zip(model.named_parameters(), slopes, strict=True)}


def test_the_max_step_by_hand(tiny, elsewhere) -> None:
    client = tiny.Client(forget=tiny.samples(20, 1))
    phase = methods.get("scrub").phases(elsewhere.settings, 3)[0]
    reply = phase.compute(tiny.work_of(elsewhere, client, 0, phase, 0))
    inputs = client.forget.inputs
    teacher = tiny.loaded(elsewhere.base)(inputs).detach()
    expected = stepped(tiny, elsewhere, lambda model: -by_hand(teacher, model(inputs), 2.0).mean(), rate=0.1 * 0.1)
    assert (phase.message, phase.to) == ("train.forget", "target")
    for name, tensor in expected.items():
        assert torch.allclose(torch.from_numpy(reply.arrays[name]), tensor, atol=1e-6), name


def test_the_min_step_by_hand(tiny, elsewhere) -> None:
    client = tiny.Client(retain=tiny.samples(20, 2))
    phase = methods.get("scrub").phases(elsewhere.settings, 3)[1]
    reply = phase.compute(tiny.work_of(elsewhere, client, 1, phase, 0))
    inputs, labels = client.retain.inputs, client.retain.labels
    teacher = tiny.loaded(elsewhere.base)(inputs).detach()

    def loss(model) -> torch.Tensor:
        logits = model(inputs)
        entropy = -logits.log_softmax(1)[torch.arange(20), labels].mean()
        return 0.8 * entropy + 0.3 * by_hand(teacher, logits, 2.0).mean()

    assert (phase.message, phase.to) == ("train.recover", "remaining")
    for name, tensor in stepped(tiny, elsewhere, loss, rate=0.1).items():
        assert torch.allclose(torch.from_numpy(reply.arrays[name]), tensor, atol=1e-6), name


@pytest.mark.parametrize(("most", "expected"), [(None, "MmMmm"), (1, "Mmmm"), (3, "MmMmMm")])
def test_max_steps_come_first(most, expected) -> None:
    options = {} if most is None else {"max_rounds": most}
    phases = methods.get("scrub").phases(UnlearnSettings(rounds=3, options=options), 3)
    assert "".join("M" if phase.to == "target" else "m" for phase in phases) == expected


def error(tiny, state, samples) -> float:
    return float((tiny.loaded(state)(samples.inputs).argmax(1) != samples.labels).float().mean())


def test_the_rewind_goes_back_to_the_round_closest_to_unseen_samples(tiny) -> None:
    """Whatever round it is, it is the closest; over several held-out sets it is not always the same one."""
    chosen = set()
    for seed in range(6):
        target = tiny.Client(forget=tiny.samples(30, 1), held_out=tiny.samples(25, 100 + seed))
        clients = [target, tiny.Client(retain=tiny.samples(40, 2))]
        options = {"rewind": True, "forget_rate": 2.0, "max_rounds": 4}
        served = tiny.serve(tiny.network(), clients, "scrub", rounds=5, **options)
        after = [state for state, (phase, _) in zip(served.states, served.replies, strict=True) if phase.is_round]
        reference = error(tiny, after[-1].model, target.held_out)
        distances = [round(abs(error(tiny, state.model, target.forget) - reference), 6) for state in after]
        best = distances.index(min(distances))
        assert digest_state(served.model) == digest_state(after[best].model)
        assert served.states[-1].arrays == {}
        chosen.add(best)
    assert len(chosen) > 1


def test_the_reference_is_of_the_forgotten_classes_where_there_are_enough(tiny) -> None:
    """Held-out samples of other classes, all labelled wrongly, do not count."""
    own, foreign = tiny.samples(25, 5, classes=[0]), tiny.samples(40, 6, classes=[1, 2])
    foreign = tiny.with_labels(foreign, 3 - foreign.labels)
    both = type(own).concat([own, foreign])
    retained = tiny.Client(retain=tiny.samples(40, 2))
    target = tiny.Client(forget=tiny.samples(30, 1, classes=[0]), held_out=both)
    served = tiny.serve(tiny.network(), [target, retained], "scrub", rounds=2, rewind=True)
    (_, [reply]) = served.replies[-1]
    last = [state for state, (phase, _) in zip(served.states, served.replies, strict=True) if phase.is_round][-1]
    assert float(reply.arrays["classes"].sum()) == pytest.approx(error(tiny, last.model, own))
    assert set(reply.arrays) == {"classes"} and reply.arrays["classes"].shape == (tiny.CLASSES,)


def test_no_class_has_an_error_of_its_own(tiny) -> None:
    """Of a class the target may hold one sample, whose fate nobody is told."""
    forget = tiny.samples(30, 1, classes=[0])
    forget.labels[0] = 1
    clients = [tiny.Client(forget=forget, held_out=tiny.samples(25, 5)), tiny.Client(retain=tiny.samples(40, 2))]
    served = tiny.serve(tiny.network(), clients, "scrub", rounds=2, rewind=True)
    told = [reply.arrays["classes"] for phase, [reply] in served.replies if phase.message == "query.error"]
    assert len(told) == 3 and any(errors.any() for errors in told)
    assert all((errors == errors[0]).all() for errors in told)


@pytest.mark.parametrize(("forget", "held_out"), [(19, 40), (30, 19)])
def test_errors_of_few_samples_are_withheld(tiny, forget: int, held_out: int) -> None:
    target = tiny.Client(forget=tiny.samples(forget, 1), held_out=tiny.samples(held_out, 2))
    with pytest.raises(ClientError, match="fewer than 20"):
        tiny.serve(tiny.network(), [target, tiny.Client(retain=tiny.samples(40, 3))], "scrub", rewind=True)


@pytest.mark.parametrize("option", [{"rewind": "yes"}, {"max_rounds": 4}, {"temperature": 0}, {"alpha": -1}])
def test_an_option_that_is_none_is_refused(option) -> None:
    with pytest.raises(SettingsError, match="expected"):
        methods.get("scrub").phases(UnlearnSettings(rounds=3, options=option), 3)


def test_the_rewind_passes_the_guard(place) -> None:
    """With real clients: its two queries are let through, and count."""
    settings = UnlearnSettings(method="scrub", rounds=2, options={"rewind": True})
    state, witness = place.serve("client", settings)
    asked = [report for report in witness.reports if report.phase.message == "query.error"]
    assert len(asked) == 3 and all(report.outcome.answers for report in asked)
    rounds = [after for report, after in zip(witness.reports, witness.after, strict=True) if report.phase.is_round]
    assert digest_state(state.model) in {digest_state(one.model) for one in rounds}
