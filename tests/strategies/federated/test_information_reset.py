from __future__ import annotations

import numpy as np
import pytest
import torch

from fedunlearn.config import UnlearnSettings
from fedunlearn.data.dataset import Samples
from fedunlearn.errors import ClientError
from fedunlearn.strategies.federated.gauss_newton import gauss_newton_diagonal
from fedunlearn.strategies.federated.information_reset import measured, reset_most_informed
from fedunlearn.strategies.federated.weight_vectors import flatten, weight_names


def test_the_reset_by_hand() -> None:
    model = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[3.0, 4.0]])}
    fresh = {"a": torch.tensor([-1.0, -2.0]), "b": torch.tensor([[-3.0, -4.0]])}
    forgotten = {"a": np.array([8.0, 1.0]), "b": np.array([[4.0, 0.0]])}
    retained = {"a": np.array([7.0, 0.0]), "b": np.array([[1.0, 0.0]])}
    # The mean retained information is 2: ratios 8/9, 1/2, 4/3, 0.
    after = reset_most_informed(model, fresh, ["a", "b"], forgotten, retained, 0.5)
    assert after["a"].tolist() == [-1.0, 2.0]
    assert after["b"].tolist() == [[-3.0, 4.0]]
    assert model["a"].tolist() == [1.0, 2.0]


def test_a_client_tells_what_it_measured_in_the_place_of_the_weights(make_work) -> None:
    work = make_work()
    reply = measured(work, work.forget, 64)
    wanted = gauss_newton_diagonal(work.task, work.model, work.forget)
    assert reply.metrics == {"num-examples": 30}
    assert list(reply.arrays) == list(work.base)
    assert all(np.allclose(array, wanted[name]) for name, array in reply.arrays.items())
    assert measured(work, work.retain, 25).metrics == {"num-examples": 25}


def test_few_samples_are_not_told_about(make_work) -> None:
    work = make_work()
    few = Samples(work.forget.inputs[:19], work.forget.labels[:19])
    with pytest.raises(ClientError, match="fewer than 20 samples"):
        measured(work, few, 64)


def test_a_share_of_the_weights_is_fresh_before_recovery(place) -> None:
    settings = UnlearnSettings(method="information-reset", rounds=1, options={"share": 0.2, "samples": 20})
    _, witness = place.serve("client", settings)
    reset = witness.after[1]
    assert [report.phase.message for report in witness.reports] == ["query.importance"] * 2 + ["train.recover"]
    names = weight_names(place.model, reset.layout)
    before, fresh, after = (flatten(model, names) for model in (place.model, reset.fresh, reset.model))
    changed = after != before
    assert int(changed.sum()) == pytest.approx(0.2 * len(before), abs=2)
    assert torch.equal(after[changed], fresh[changed])
