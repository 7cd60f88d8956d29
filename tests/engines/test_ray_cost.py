from __future__ import annotations

import pytest

from fedunlearn.engines.ray_cost import advice, exchange_seconds


@pytest.mark.parametrize(("clients", "measured"), [(10, 0.21), (100, 1.6), (1000, 26.0)])
def test_the_costs_are_those_that_were_measured(clients, measured):
    assert exchange_seconds(clients) == pytest.approx(measured, rel=0.1)


def test_who_has_one_machine_is_told_what_ray_costs():
    sentence = advice(100, 2, cluster=False, gpus=0.0)
    assert sentence is not None
    assert "10 s to start" in sentence and "1.5 s an exchange with 100 clients" in sentence and "workers=2" in sentence
    assert "\n" not in sentence and sentence.endswith(".")


def test_a_cluster_and_shared_gpus_are_what_ray_is_for():
    assert advice(100, 2, cluster=True, gpus=0.0) is None
    assert advice(100, 2, cluster=False, gpus=0.5) is None
