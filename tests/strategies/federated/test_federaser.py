from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedunlearn.channels.packing import digest_state
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import RequestError, SettingsError
from fedunlearn.randomness import derive_seed
from fedunlearn.strategies.federated.federaser import calibrated
from fedunlearn.strategies.federated.stored_rounds import retained_mean
from fedunlearn.strategies.method import methods
from fedunlearn.strategies.recovery import local_recipe
from fedunlearn.tasks.training import train_locally


def settings(**options: float) -> UnlearnSettings:
    return UnlearnSettings(method="federaser", options=options)  # type: ignore[arg-type]


def test_a_step_has_the_kept_length_and_the_new_direction_layer_by_layer() -> None:
    model = {"a": torch.tensor([1.0, 1.0]), "b": torch.tensor([[0.0]]), "n": torch.tensor(4)}
    trained = {"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([[-0.5]]), "n": torch.tensor(5)}
    kept = {"a": torch.tensor([0.0, 0.0]), "b": torch.tensor([[2.0]]), "n": torch.tensor(1)}
    after = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([[3.0]]), "n": torch.tensor(2)}
    found = calibrated(model, trained, kept, after)
    # Layer a moved by a vector of length 5 and now points upwards; layer b by 1, and now downwards.
    assert found["a"].tolist() == [1.0, 6.0] and found["b"].tolist() == [[-1.0]] and found["n"] == 5


def test_a_layer_that_the_short_training_leaves_alone_stays() -> None:
    model = {"a": torch.tensor([1.0])}
    assert calibrated(model, model, {"a": torch.tensor([0.0])}, {"a": torch.tensor([9.0])})["a"].tolist() == [1.0]


def test_it_is_a_plain_loop_over_the_kept_rounds(place) -> None:
    asked = settings(interval=1)
    state, witness = place.serve("client", asked)
    start = place.state("client", asked)
    history, [target] = start.history, start.targets
    assert history.rounds() == (1, 2) and target == 1

    def mean(models: list[dict[str, torch.Tensor]], weights: list[float]) -> dict[str, torch.Tensor]:
        shares = [weight / sum(weights) for weight in weights]
        return {n: sum(s * m[n].double() for s, m in zip(shares, models, strict=True)) for n in models[0]}  # type: ignore[misc]

    def kept(number: int) -> dict[str, torch.Tensor]:
        those = [update for update in history.updates(number) if update.client != target]
        assert [one.client for one in those] == [0, 2, 3, 4]
        return mean([one.model for one in those], [one.weight for one in those])

    # From here on with the rounding of the method's own first mean: some epochs of training make a large error of it.
    model = witness.after[0].model
    assert all(torch.allclose(model[name].double(), tensor, atol=1e-6) for name, tensor in kept(1).items())
    trained, weights = [], []
    for client in place.staying:
        site = place.sites[client]
        own = site.load(model)
        recipe = replace(local_recipe(place.session.training, asked), local_epochs=2)  # half of 3, rounded up
        generator = torch.Generator().manual_seed(derive_seed(start.seed, "train.calibrate", 1, client))
        train_locally(site.task, own, site.training_samples(), recipe, generator)
        trained.append({name: tensor.clone() for name, tensor in own.state_dict().items()})
        weights.append(float(len(site.training_samples())))
    new, old, sent = mean(trained, weights), kept(2), history.model(2)
    for name, found in state.model.items():
        step = new[name] - model[name].double()
        expected = model[name] + (old[name] - sent[name]).norm() * step / step.norm()
        assert torch.allclose(found.double(), expected.double(), atol=2e-5), name
    assert [report.phase.message for report in witness.reports] == ["query.count", "train.calibrate"]
    assert {answer.metrics["epochs"] for answer in witness.reports[1].outcome.answers} == {2}


def test_the_first_model_is_the_mean_of_what_those_who_stay_sent_at_first(place) -> None:
    state, _ = place.serve("client", settings())
    start = place.state("client", settings())
    assert digest_state(state.model) == digest_state(retained_mean(start, 1))


def test_an_interval_at_which_nothing_was_kept_is_told_of_and_not_shortened(place) -> None:
    start = replace(place.state("client", settings(interval=1)), rounds=4)
    count = methods.get("federaser").phases(start.settings, 4)[0]
    with pytest.raises(RequestError, match=r"interval = 1: it asks for rounds between those .* kept \(1, 2\); choose"):
        count.combine(start, [])


def test_rounds_follow_from_the_interval() -> None:
    method = methods.get("federaser")
    rounds = [sum(p.is_round for p in method.phases(settings(interval=n), 15)) for n in (1, 2, 5)]
    assert rounds == [14, 7, 2]
    with pytest.raises(SettingsError, match="interval"):
        method.phases(settings(interval=0), 15)
    with pytest.raises(SettingsError, match="calibration"):
        method.phases(settings(calibration=2.0), 15)


def test_a_round_in_which_only_targets_took_part_cannot_be_replayed(place) -> None:
    start = replace(place.state("client", settings()), targets=(0, 1, 2, 3, 4))
    with pytest.raises(RequestError, match="nobody who stays took part in round 1"):
        retained_mean(start, 1)
