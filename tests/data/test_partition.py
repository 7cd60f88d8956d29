from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedunlearn.data.partition import partition_indices
from fedunlearn.errors import SettingsError

LABELS = np.repeat(np.arange(6), 40)


def shares(spec: str, clients: int = 6, seed: int = 0, labels: np.ndarray = LABELS) -> list[np.ndarray]:
    return partition_indices({"label": labels}, spec, clients, seed)


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(["iid", "dirichlet:0.3", "dirichlet:1", "dirichlet:100.0", "pathological:2", "pathological:6"]),
    st.integers(3, 9),
    st.integers(0, 2**63 - 1),
)
def test_shares_are_disjoint_complete_and_never_empty(spec: str, clients: int, seed: int) -> None:
    given_out = shares(spec, clients, seed)
    assert len(given_out) == clients
    assert all(len(share) > 0 and share.dtype == np.int64 for share in given_out)
    assert all((np.diff(share) > 0).all() for share in given_out)
    assert sorted(np.concatenate(given_out).tolist()) == list(range(len(LABELS)))
    if spec.startswith("pathological"):
        assert {len(np.unique(LABELS[share])) for share in given_out} == {int(spec[-1])}


@pytest.mark.parametrize("spec", ["iid", "dirichlet:1.0", "pathological:2"])
def test_the_seed_decides(spec: str) -> None:
    first, again, other = ([share.tolist() for share in shares(spec, seed=seed)] for seed in (1, 1, 2))
    assert first == again != other


def test_iid_shares_are_alike_although_the_data_is_sorted() -> None:
    for share in shares("iid", 3):
        assert len(share) == 80
        assert np.bincount(LABELS[share], minlength=6).min() >= 4


def test_a_small_dirichlet_parameter_makes_clients_unlike() -> None:
    def largest_class_share(spec: str) -> float:
        counts = [np.bincount(LABELS[share], minlength=6) for share in shares(spec)]
        return float(np.mean([count.max() / count.sum() for count in counts]))

    assert largest_class_share("dirichlet:0.1") > 0.5 > 0.25 > largest_class_share("dirichlet:1000.0")


def test_natural_clients_come_in_sorted_order(capsys: pytest.CaptureFixture[str]) -> None:
    columns = {"label": np.zeros(5, dtype=np.int64), "writer": np.array(["b", "a", "c", "a", "b"])}
    given_out = partition_indices(columns, "by:writer", 3, 0)
    assert [share.tolist() for share in given_out] == [[1, 3], [0, 4], [2]]
    assert capsys.readouterr() == ("", ""), "the partitioner's own bar is not shown"


@pytest.mark.parametrize(
    "spec",
    ["", "iid:3", "dirichlet", "dirichlet:", "dirichlet:x", "dirichlet:0", "dirichlet:-1", "dirichlet:nan",
     "dirichlet:inf", "pathological", "pathological:0", "pathological:1.5", "by", "by:", "shards:2", "IID"],
)  # fmt: skip
def test_an_unreadable_spec_is_told_the_four_forms(spec: str) -> None:
    with pytest.raises(SettingsError, match=r"iid, dirichlet:A .* pathological:K .* by:COLUMN"):
        shares(spec)


@pytest.mark.parametrize(
    ("spec", "clients", "sentence"),
    [
        ("iid", 241, "240 samples cannot be shared among 241 clients"),
        ("iid", 0, "among 0 clients"),
        ("dirichlet:0.001", 60, "dirichlet:0.001 left one of 60 clients without a sample"),
        ("pathological:7", 6, "there are 6; lower"),
        ("pathological:1", 5, "leaves some of the 6 classes with nobody"),
        ("pathological:6", 41, "gives a class to more clients than it has samples"),
        ("by:writer", 6, "no such column; it has label"),
        ("by:label", 5, "has 6 values and 5 clients were asked for; ask for 6"),
    ],
)
def test_what_cannot_be_done_is_said(spec: str, clients: int, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        shares(spec, clients)


def test_few_samples_still_give_every_client_one() -> None:
    assert min(len(share) for share in shares("dirichlet:1.0", 5, 0, np.array([0, 1] * 8))) >= 1
