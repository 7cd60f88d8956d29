from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fedunlearn.channels.packing import digest_state
from fedunlearn.config import UnlearnSettings


def test_one_step_by_hand(tiny) -> None:
    """From the original model its own answers pull nowhere, so that the target's step alone is averaged in."""
    clients = [tiny.Client(forget=tiny.samples(20, 1)), tiny.Client(retain=tiny.samples(60, 2))]
    model, whole = tiny.network(), replace(tiny.PLAIN, batch_size=64)
    served = tiny.serve(model, clients, "bad-teacher", training=whole)
    inputs = clients[0].forget.inputs
    fresh = tiny.start(model, UnlearnSettings()).fresh
    bad = tiny.loaded(fresh)(inputs).softmax(1).detach()
    loss = (bad * (bad.log() - model(inputs).log_softmax(1))).sum(1).mean()
    slopes = torch.autograd.grad(loss, list(model.parameters()))
    for (name, weight), slope in zip(model.named_parameters(), slopes, strict=True):
        expected = weight.detach() - 0.1 * slope * 20 / 80
        assert torch.allclose(served.model[name], expected, atol=1e-6), name


def test_the_student_comes_to_answer_as_the_bad_teacher_does(tiny) -> None:
    clients = [tiny.Client(forget=tiny.samples(40, 1)), tiny.Client(retain=tiny.samples(40, 2))]
    served = tiny.serve(tiny.network(), clients, "bad-teacher", rounds=1, local_epochs=60)
    fresh = tiny.loaded(tiny.start(tiny.network(), UnlearnSettings()).fresh)
    inputs = clients[0].forget.inputs
    [mistaught] = served.replies[0][1]
    target = tiny.loaded({name: torch.from_numpy(array) for name, array in mistaught.arrays.items()})
    wanted = fresh(inputs).softmax(1)
    before, after = (float((one(inputs).softmax(1) - wanted).detach().abs().mean()) for one in (tiny.network(), target))
    assert after < 0.3 * before


def test_the_teacher_goes_down_to_the_target_alone(tiny) -> None:
    clients = [tiny.Client(forget=tiny.samples(20, 1)), tiny.Client(retain=tiny.samples(20, 2))]
    served = tiny.serve(tiny.network(), clients, "bad-teacher")
    start = tiny.start(tiny.network(), UnlearnSettings())
    forget, remain = (phase for phase, _ in served.replies)
    sent = forget.down(start).arrays
    assert {name.removeprefix("teacher:") for name in sent} == set(start.base)
    assert all(np.array_equal(sent[f"teacher:{name}"], tensor.numpy()) for name, tensor in start.fresh.items())
    assert not remain.down(start).arrays
    assert served.states[-1].arrays == {}


def test_a_higher_temperature_is_another_loss(tiny) -> None:
    clients = [tiny.Client(forget=tiny.samples(20, 1)), tiny.Client(retain=tiny.samples(20, 2))]
    digests = {
        digest_state(tiny.serve(tiny.network(), clients, "bad-teacher", temperature=t).model) for t in (1.0, 4.0)
    }
    assert len(digests) == 2
