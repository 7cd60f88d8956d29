from __future__ import annotations

import pytest
import torch

from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import SettingsError
from fedunlearn.strategies.centralised.unsir import NoiseOptions, maximise_loss
from fedunlearn.strategies.method import methods


@pytest.mark.parametrize("label", [0, 2])
def test_noise_raises_the_loss_of_its_class_and_leaves_the_model(tiny, label: int) -> None:
    model = tiny.network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    made = []
    for steps in (1, 60):
        options = NoiseOptions(noises=16, steps=steps, rate=0.1, penalty=0.01)
        generator = torch.Generator().manual_seed(3)
        noise = maximise_loss(tiny.TASK, model, label, (4,), options, generator)
        made.append(float(tiny.TASK.loss(model, noise, torch.full((16,), label)).mean()))
    assert noise.shape == (16, 4) and made[1] > made[0] + 1.0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_one_step_of_noise_by_hand(tiny) -> None:
    """Adam's first step moves every value by the rate, along the sign of the slope."""
    model, generator = tiny.network(), torch.Generator().manual_seed(3)
    start = torch.randn((8, 4), generator=torch.Generator().manual_seed(3)).requires_grad_()
    wanted = (0.1 * start.square().sum(1) - tiny.TASK.loss(model, start, torch.full((8,), 1))).mean()
    [slope] = torch.autograd.grad(wanted, [start])
    noise = maximise_loss(tiny.TASK, model, 1, (4,), NoiseOptions(8, 1, 0.1, 0.1), generator)
    assert torch.allclose(noise, start.detach() - 0.1 * slope.sign(), atol=1e-4)


def test_forgotten_samples_are_not_shown(tiny) -> None:
    """Their inputs may be anything: only how many there are of which class matters."""
    forget = tiny.samples(30, 1, classes=[1])
    clients = [
        tiny.Client(forget=forget, retain=tiny.samples(20, 2, classes=[0, 2])),
        tiny.Client(retain=tiny.samples(30, 3)),
    ]
    spoilt = Samples(torch.full_like(forget.inputs, torch.nan), forget.labels)
    others = [tiny.Client(forget=spoilt, retain=clients[0].retain), clients[1]]
    one, two = (tiny.serve(tiny.network(), some, "unsir", rounds=2) for some in (clients, others))
    for name, tensor in one.model.items():
        assert torch.isfinite(tensor).all() and torch.equal(tensor, two.model[name]), name


def test_passes_over_noise_count(tiny) -> None:
    forget = tiny.samples(30, 1, classes=[0, 1])
    clients = [
        tiny.Client(forget=forget, retain=tiny.samples(20, 2, classes=[2])),
        tiny.Client(retain=tiny.samples(30, 3)),
    ]
    served = tiny.serve(tiny.network(), clients, "unsir", noises=5, steps=10, forget_epochs=2)
    [impaired] = served.replies[0][1]
    # Two classes' noise of five inputs in ten steps, beside two passes over 30 and 20 samples.
    assert impaired.metrics["num-examples"] == 50
    assert impaired.metrics["epochs"] == pytest.approx(2 + 2 * 5 * 10 / 50)


@pytest.mark.parametrize(("retained", "told"), [(19, False), (20, True)])
def test_noise_does_not_make_a_mean_of_few_samples_one_of_many(tiny, retained: int, told: bool) -> None:
    clients = [tiny.Client(forget=tiny.samples(30, 1, classes=[0]), retain=tiny.samples(retained, 2, classes=[1, 2]))]
    served = tiny.serve(tiny.network(), clients, "unsir", noises=5, steps=2)
    assert ("loss" in served.replies[0][1][0].metrics) is told


def test_a_class_is_left_behind_what_fine_tuning_leaves(tiny) -> None:
    start = tiny.serve(tiny.network(), [tiny.Client(retain=tiny.samples(150, 3))], "fine-tune", rounds=30).model
    forget = tiny.samples(60, 1, classes=[0])
    clients = [
        tiny.Client(forget=forget, retain=tiny.samples(40, 4, classes=[1, 2])),
        tiny.Client(retain=tiny.samples(60, 2, classes=[1, 2])),
    ]
    options = {"forget_epochs": 3, "forget_rate": 1.0}
    fine = tiny.serve(tiny.loaded(start), clients, "fine-tune", rounds=2).model
    own = tiny.serve(tiny.loaded(start), clients, "unsir", rounds=2, **options).model
    shares = [float((tiny.loaded(model)(forget.inputs).argmax(1) == 0).float().mean()) for model in (start, fine, own)]
    assert shares[2] < shares[1] - 0.1 < shares[0]


def test_it_serves_classes_only() -> None:
    assert methods.get("unsir").scopes == {"classes", "class-everywhere"}


@pytest.mark.parametrize("option", [{"noises": 0}, {"steps": 1.5}, {"noise_rate": 0}, {"penalty": -1}])
def test_an_option_that_is_none_is_refused(option) -> None:
    with pytest.raises(SettingsError, match="expected a"):
        methods.get("unsir").phases(UnlearnSettings(options=option), 3)
