from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.data.splitting import complement, stratified_positions

labels_of = st.lists(st.integers(0, 4), max_size=60).map(lambda values: np.array(values, dtype=np.int64))


@given(labels_of, st.floats(0, 1), st.integers(0, 2**32))
def test_every_class_gives_its_share(labels: np.ndarray, share: float, seed: int) -> None:
    chosen = stratified_positions(labels, share, np.random.default_rng(seed))
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(chosen) == round(len(labels) * share)
    for value in np.unique(labels):
        exact = share * (labels == value).sum()
        assert exact - 1 < (labels[chosen] == value).sum() < exact + 1


@given(labels_of, st.floats(0, 1))
def test_complement_is_everything_else(labels: np.ndarray, share: float) -> None:
    chosen = stratified_positions(labels, share, np.random.default_rng(0))
    rest = complement(chosen, len(labels))
    assert sorted([*chosen.tolist(), *rest.tolist()]) == list(range(len(labels)))


def test_the_generator_decides() -> None:
    labels = np.repeat([0, 1], 50)
    draws = [stratified_positions(labels, 0.2, np.random.default_rng(seed)).tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_a_fifth_of_equal_classes_is_a_fifth_of_each() -> None:
    labels = np.repeat(np.arange(10), 500)
    chosen = stratified_positions(labels, 0.2, np.random.default_rng(0))
    assert np.bincount(labels[chosen]).tolist() == [100] * 10
