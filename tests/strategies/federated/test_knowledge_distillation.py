from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedunlearn.channels.packing import digest_state
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import RequestError, SettingsError
from fedunlearn.strategies.federated.knowledge_distillation import distillation_losses, without_targets
from fedunlearn.strategies.method import methods
from fedunlearn.strategies.serving import serve


def settings(**options: float) -> UnlearnSettings:
    return UnlearnSettings(method="knowledge-distillation", options=options)  # type: ignore[arg-type]


def test_what_the_target_added_is_taken_out(place) -> None:
    state = place.state("client", settings())
    expected = {name: tensor.double() for name, tensor in place.model.items()}
    for number in (1, 2):
        updates, sent = list(state.history.updates(number)), state.history.model(number)
        share = updates[1].weight / sum(one.weight for one in updates)
        for name in expected:
            expected[name] -= share * (updates[1].model[name] - sent[name]).double()
    found = without_targets(state)
    assert all(torch.allclose(found[name].double(), expected[name], atol=1e-6) for name in expected)


def test_with_every_client_a_target_what_is_left_is_the_model_before_training(place) -> None:
    state = replace(place.state("client", settings()), targets=(0, 1, 2, 3, 4))
    first = state.history.model(1)
    found = without_targets(state)
    assert all(torch.allclose(found[name], first[name], atol=1e-5) for name in first)


def test_the_loss_by_hand() -> None:
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[4.0, 0.0]])
    p = torch.tensor([2.0, 0.0]).softmax(0)
    expected = float((p * (p / 0.5).log()).sum())
    assert distillation_losses(student, teacher, 2.0).tolist() == pytest.approx([expected])
    assert distillation_losses(teacher, teacher + 3, 2.0).abs().max() < 1e-6


def test_the_answers_of_the_model_before_are_learned_back(place) -> None:
    state, witness = place.serve("client", settings(epochs=20))
    damaged = witness.after[0]
    task, inputs = place.session.task, place.session.task.inputs(place.server_data)
    with torch.no_grad():
        teacher, before, after = (
            task.predict(damaged.network(model), inputs) for model in (place.model, damaged.model, state.model)
        )
    losses = [float(distillation_losses(one, teacher, 3.0).mean()) for one in (before, after)]
    assert losses[1] < 0.5 * losses[0]
    assert digest_state(state.model) != digest_state(place.model)
    assert all(report.phase.message == "query.count" for report in witness.reports)


def test_the_number_of_threads_makes_no_difference(place) -> None:
    here = torch.get_num_threads()
    digests = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        digests.append(digest_state(place.serve("client", settings())[0].model))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(here)
    assert digests[0] == digests[1]


def test_without_samples_at_the_server_it_is_refused_before_anything_is_sent(place) -> None:
    state = replace(place.state("client", settings()), server_data=None)
    place.heard.clear()
    with pytest.raises(RequestError, match="gave it none: train with --server-data"):
        serve(place.grid, place.roster, methods.get("knowledge-distillation"), state, place.jobs["client"], None, 60.0)  # type: ignore[arg-type]
    assert not place.heard


def test_options_are_checked() -> None:
    for wrong in ({"temperature": 0.0}, {"epochs": 0}):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            methods.get("knowledge-distillation").phases(settings(**wrong), 2)
