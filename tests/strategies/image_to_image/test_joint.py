"""Each rival's step against the step of one machine that has all the data."""

from __future__ import annotations

import pytest
import torch

from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import ClientError, SettingsError
from fedunlearn.models.moving_average import MovingAverage
from fedunlearn.strategies.image_to_image.joint import encoding, noise_like, targeted
from fedunlearn.strategies.method import methods
from fedunlearn.tasks.classification import ClassificationTask

WEIGHT = 0.3
RIVALS = ("max-loss", "noisy-label", "retain-label", "random-encoder", "encoder-to-noise", "controllable")


def forget_term(tiny, name: str, model, forget: Samples, stays: Samples) -> torch.Tensor:
    """What the target minimises, written down plainly; noise is drawn as its generator draws it."""
    task, images, generator = tiny.TASK, forget.inputs, tiny.generator_of("train.forget", 0)
    original = tiny.network()
    with torch.no_grad():
        known = task.encode(original, images)
    if name == "max-loss":
        return -task.loss(model, images, forget.labels).mean()
    if name == "noisy-label":
        return task.loss_to(model, images, noise_like(images, generator)).mean()
    if name == "retain-label":
        drawn = torch.randint(len(stays), (len(forget),), generator=generator)
        with torch.no_grad():
            goals = task.reconstruct(original, stays.inputs)[drawn]
        return task.loss_to(model, images, goals).mean()
    if name == "random-encoder":
        goals = known.mean() + known.std() * torch.randn(known.shape, generator=generator)
        return (task.encode(model, images) - goals).square().mean()
    with torch.no_grad():
        goals = task.encode(original, noise_like(images, generator))
    return (task.encode(model, images) - goals).square().mean()


def retain_term(tiny, name: str, model, retain: Samples) -> torch.Tensor:
    if name in ("encoder-to-noise", "controllable"):
        with torch.no_grad():
            goals = tiny.TASK.encode(tiny.network(), retain.inputs)
        return (tiny.TASK.encode(model, retain.inputs) - goals).square().mean()
    return tiny.TASK.loss(model, retain.inputs, retain.labels).mean()


@pytest.mark.parametrize("name", RIVALS)
def test_one_step_is_the_step_of_one_machine(tiny, name) -> None:
    """A leaving target and two others; a batch of everything, no momentum."""
    forget, unseen = tiny.samples(24, 1), tiny.samples(22, 5)
    stay = [tiny.samples(30, 2), tiny.samples(20, 3)]
    clients = [tiny.Client(forget=forget, held_out=unseen), *(tiny.Client(retain=one) for one in stay)]
    served = tiny.serve(tiny.network(), clients, name, weight=WEIGHT)
    model = tiny.network()
    value = retain_term(tiny, name, model, Samples.concat(stay)) + WEIGHT * forget_term(
        tiny, name, model, forget, unseen
    )
    slopes = tiny.slopes(model, value)
    for key, parameter in model.named_parameters():
        expected = parameter.detach() - tiny.PLAIN.learning_rate * slopes[key]
        assert torch.allclose(served.model[key], expected, atol=1e-6), key


@pytest.mark.parametrize("name", ["encoder-to-noise", "controllable"])
def test_only_the_encoder_moves(tiny, name) -> None:
    clients = [tiny.Client(forget=tiny.samples(24, 1)), tiny.Client(retain=tiny.samples(30, 2))]
    served, before = tiny.serve(tiny.network(), clients, name, rounds=2), tiny.network().state_dict()
    # Beyond what averaging rounds.
    moved = {key for key, tensor in served.model.items() if not torch.allclose(tensor, before[key], atol=1e-6)}
    assert moved == {"encoder.weight", "encoder.bias"}


def test_a_target_that_keeps_images_shows_its_own(tiny) -> None:
    """Retain label: with the same images kept or merely held out the goals are the same."""
    kept, other = tiny.samples(22, 5), tiny.Client(retain=tiny.samples(30, 2))
    leaving = tiny.Client(forget=tiny.samples(24, 1), held_out=kept)
    staying = tiny.Client(forget=tiny.samples(24, 1), retain=kept, held_out=tiny.samples(22, 9))
    terms = [
        tiny.serve(tiny.network(), [one, other], "retain-label").of("train.forget")[0][0].arrays
        for one in (leaving, staying)
    ]
    assert all((terms[0][key] == terms[1][key]).all() for key in terms[0])
    with pytest.raises(ClientError, match="keeps no image and holds none out"):
        tiny.serve(tiny.network(), [tiny.Client(forget=tiny.samples(24, 1)), other], "retain-label")


def test_the_more_is_given_back_the_less_controllable_unlearning_forgets(tiny) -> None:
    forget = tiny.samples(24, 1)
    clients = [tiny.Client(forget=forget), tiny.Client(retain=tiny.samples(30, 2))]

    def remaining_distance(relaxation: float) -> float:
        model = tiny.loaded(tiny.serve(tiny.network(), clients, "controllable", 8, relaxation=relaxation).model)
        with torch.no_grad():
            known = tiny.TASK.encode(tiny.network(), forget.inputs)
            return float((tiny.TASK.encode(model, forget.inputs) - known).square().mean())

    distances = [remaining_distance(relaxation) for relaxation in (0.0, 0.7, 1.0)]
    assert distances == sorted(distances, reverse=True) and distances[0] > distances[2]


def test_noise_has_each_image_s_mean_and_deviation() -> None:
    images = torch.stack([torch.full((1, 64, 64), 0.5), 0.5 + 0.1 * torch.randn(1, 64, 64)]).clamp(0, 1)
    noise = noise_like(images, torch.Generator().manual_seed(0))
    assert torch.equal(noise[0], images[0])
    assert float(noise[1].mean()) == pytest.approx(float(images[1].mean()), abs=0.01)
    assert float(noise[1].std()) == pytest.approx(float(images[1].std()), abs=0.01)


def test_a_task_that_cannot_do_it_is_told_so() -> None:
    task = ClassificationTask("plain", "digits")
    with pytest.raises(ClientError, match="no `loss_to`"):
        targeted(task)
    with pytest.raises(ClientError, match="no `encode`"):
        encoding(task)


@pytest.mark.parametrize("name", RIVALS)
def test_an_option_that_is_none_is_refused(name) -> None:
    for option in ({"weight": 0}, {"forget_epochs": 0.5}):
        with pytest.raises(SettingsError, match="expected a"):
            methods.get(name).phases(UnlearnSettings(options=option), 3)  # type: ignore[arg-type]
    for option in ({"relaxation": 1.5}, {"first": -1.0}):
        with pytest.raises(SettingsError, match="expected a number"):
            methods.get("controllable").phases(UnlearnSettings(options=option), 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", RIVALS)
def test_moving_averages_forget_with_what_they_follow(tiny, name: str) -> None:
    """A diffusion model paints with its averages: if they stayed, the target's step would change no answer."""
    model = tiny.network()
    model.average = MovingAverage(model.encoder, "encoder.", 0.9)
    forget, kept = tiny.samples(24, 1), tiny.samples(30, 2)
    clients = [tiny.Client(forget=forget, held_out=tiny.samples(22, 9)), tiny.Client(retain=kept)]
    served = tiny.serve(model, clients, name)
    sent = served.of("train.forget")[0][0].arrays
    moved = torch.tensor(sent["encoder.weight"]) - model.encoder.weight.detach()
    assert float(moved.abs().max()) > 1e-4
    averages = torch.tensor(sent["average.weight"]) - model.average.get_buffer("weight")
    assert torch.allclose(averages, moved, atol=1e-6)
