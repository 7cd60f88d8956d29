"""Forget sets by a rule: random and hardest samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from fedunlearn.contest.forget_set import chosen_samples, hardest, parse_rule
from fedunlearn.data.holding import holding
from fedunlearn.errors import RequestError, SettingsError
from fedunlearn.federation import Federation
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.session import Session


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A federation of three after two rounds; to be read only."""
    out = tmp_path_factory.mktemp("run")
    Federation.simulate("digits", clients=3, rounds=2, partition="iid", out=out).train()
    return out


def session_of(folder: Path) -> Session:
    return Session(RunFolder.open(folder))


@pytest.mark.parametrize("text", ["random", "random:0", "random:1", "hardest:x", "easiest:0.1", ""])
def test_what_is_no_rule_is_told(text: str) -> None:
    with pytest.raises(SettingsError, match="expected a list of indices, triggered, or random:SHARE or hardest:SHARE"):
        parse_rule(text)


def test_random_samples_are_a_share_of_what_is_trained_on_and_follow_the_seed(trained: Path) -> None:
    session = session_of(trained)
    found = chosen_samples(session, "random:0.1", None)
    assert list(found) == [0, 1, 2]
    for client, positions in found.items():
        trains_on = holding(session.settings, client, session.dataset).training_positions()
        assert len(positions) == round(0.1 * len(trains_on)) and positions == sorted(set(positions))
        assert set(positions) <= set(trains_on.tolist())
    assert chosen_samples(session, "random:0.1", 1) == {1: found[1]}
    assert found[0] != found[1]


def test_the_triggered_are_those_that_were_planted(tmp_path: Path) -> None:
    settings = {
        "clients": 3,
        "rounds": 1,
        "partition": "iid",
        "backdoor": "client=1,share=0.2,target=0,size=2,margin=0",
    }
    Federation.simulate("digits", out=tmp_path / "run", **settings)
    session = session_of(tmp_path / "run")
    found = chosen_samples(session, "triggered", None)
    own = holding(session.settings, 1, session.dataset)
    assert found == {1: np.flatnonzero(own.parts == "triggered").tolist()}
    assert (own.samples.inputs[found[1]][:, :, -2:, -2:] == own.samples.inputs.max()).all()
    assert chosen_samples(session, "triggered", 1) == found
    with pytest.raises(RequestError, match="comes to no sample"):
        chosen_samples(session, "triggered", 0)


def test_the_hardest_are_known_by_heart_and_no_other_known_one_is_harder(trained: Path) -> None:
    session = session_of(trained)
    (positions,) = chosen_samples(session, "hardest:0.05", 2).values()
    own = holding(session.settings, 2, session.dataset)
    session.blank.load_state_dict(session.models.load(session.ledger.rounds("main")[-1].digest_after))
    with torch.no_grad():
        logits = session.blank(session.task.inputs(own.samples.inputs))
    losses = functional.cross_entropy(logits, own.samples.labels, reduction="none").numpy()
    right = (logits.argmax(1) == own.samples.labels).numpy()
    trains_on = own.training_positions()
    assert right[positions].all() and 0 < len(positions) <= round(0.05 * len(trains_on))
    others = np.setdiff1d(trains_on, positions)
    assert losses[positions].min() >= losses[others][right[others]].max() - 1e-6


def test_what_a_model_gets_wrong_is_not_among_them(trained: Path) -> None:
    session = session_of(trained)
    own = holding(session.settings, 0, session.dataset)
    candidates = own.training_positions()
    # Always class 0: it remembers those, and nothing else.
    with torch.no_grad():
        for parameter in session.blank.parameters():
            parameter.zero_()
        session.blank.output.bias[0] = 1.0  # type: ignore[union-attr, index]
    found = hardest(session.task, session.blank, own, candidates, len(candidates))
    assert found == [int(one) for one in candidates if own.samples.labels[one] == 0]


def test_a_share_that_comes_to_nothing_is_told(trained: Path) -> None:
    session = session_of(trained)
    with pytest.raises(RequestError, match="comes to no sample"):
        chosen_samples(session, "random:0.0001", None)
    assert [len(one) for one in chosen_samples(session, "random:0.0001", 0).values()] == [1]


def test_before_training_nothing_is_hard(tmp_path: Path) -> None:
    Federation.simulate("digits", clients=2, partition="iid", out=tmp_path / "run")
    with pytest.raises(RequestError, match="known only after training"):
        chosen_samples(session_of(tmp_path / "run"), "hardest:0.1", 0)
