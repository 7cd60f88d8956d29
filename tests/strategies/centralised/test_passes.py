from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import SettingsError
from fedunlearn.strategies.method import methods
from fedunlearn.strategies.passes import answers, forget_recipe, losses_and_logits, train_by_position


@pytest.fixture
def work(tiny):
    """A target's work, with an option for its own passes."""
    settings = UnlearnSettings(local_epochs=2, options={"forget_rate": 0.5, "forget_epochs": 3})
    phase = methods.get("scrub").phases(settings, 3)[0]
    return tiny.work_of(tiny.start(tiny.network(), settings), tiny.Client(forget=tiny.samples(30, 1)), 0, phase, 0)


def test_the_recipe_of_a_target(tiny, work) -> None:
    assert forget_recipe(work) == replace(tiny.PLAIN, local_epochs=3, learning_rate=0.05)
    bare = replace(work, settings=UnlearnSettings(local_epochs=2, learning_rate=0.3))
    assert forget_recipe(bare, rate=0.1).learning_rate == pytest.approx(0.03)
    assert forget_recipe(bare, rate=0.1).local_epochs == 2
    with pytest.raises(SettingsError, match="forget_rate"):
        forget_recipe(replace(work, settings=UnlearnSettings(options={"forget_rate": 0})))


def test_a_loss_knows_which_sample_is_which(tiny, work) -> None:
    """Every sample is seen once an epoch, at the position of its own inputs."""
    seen = []

    def loss(model, inputs: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        assert torch.equal(inputs, work.forget.inputs[positions])
        seen.extend(positions.tolist())
        return model(inputs).square().sum(1)

    reply = train_by_position(work, work.forget, loss, replace(tiny.PLAIN, local_epochs=2))
    assert sorted(seen[:30]) == sorted(seen[30:]) == list(range(30))
    assert reply.metrics["num-examples"] == 30 and reply.metrics["epochs"] == 2


def test_a_teacher_answers_in_evaluation_mode_and_the_student_stays(tiny, work) -> None:
    other = tiny.network(5)
    before = {name: tensor.clone() for name, tensor in work.model.state_dict().items()}
    found = answers(work, other.state_dict(), work.forget)
    assert torch.allclose(found, other(work.forget.inputs).detach())
    assert all(torch.equal(tensor, before[name]) for name, tensor in work.model.state_dict().items())


def test_losses_and_logits_agree_with_the_task(tiny) -> None:
    """For a task that tells its loss from the logits, and for one that does not."""

    class Opaque:
        """A task with class scores whose loss does not follow from them."""

        name, networks, default_network = "opaque", (), ""
        dataset, build, inputs = tiny.TASK.dataset, tiny.TASK.build, staticmethod(tiny.TASK.inputs)
        predict, loss = staticmethod(tiny.TASK.predict), staticmethod(tiny.TASK.loss)

    model, some = tiny.network(), tiny.samples(12, 3)
    for task in (tiny.TASK, Opaque()):
        losses, logits = losses_and_logits(task, model, some.inputs, some.labels)
        assert torch.allclose(losses, tiny.TASK.loss(model, some.inputs, some.labels))
        assert torch.equal(logits, model(some.inputs))
