"""A real federation is the same, bit for bit, in this process and in workers; Ray's parity is in test_ray.py."""

from __future__ import annotations

import pytest

from fedunlearn.federation import Federation

pytestmark = pytest.mark.slow


def digests(folder, workers, task):
    """Digests of the trained and of the unlearned model."""
    federation = Federation.simulate(
        task, clients=3, rounds=2, local_epochs=1, partition="iid", out=folder, workers=workers
    )
    trained = federation.train()
    request = federation.request_deletion(client=1)
    (unlearned,) = federation.unlearn(request, rounds=1)
    return trained.digest, unlearned.digest


@pytest.mark.parametrize("task", ["digits", "completion:digits"])
def test_training_and_unlearning_give_the_same_models_in_workers(tmp_path, task):
    inline, pooled = (digests(tmp_path / str(workers), workers, task) for workers in (0, 2))
    assert inline == pooled


def test_a_run_is_gone_on_with_under_other_workers(tmp_path):
    Federation.simulate("digits", clients=2, rounds=1, local_epochs=1, out=tmp_path, workers=0).train()
    again = Federation.simulate("digits", clients=2, rounds=1, local_epochs=1, out=tmp_path, workers=7)
    assert again.settings.workers == 7
