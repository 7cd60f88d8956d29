"""Forget sets by a rule: random and hardest samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from fedunlearn.clients.inbox import Inbox
from fedunlearn.contest.forget_set import chosen_samples, hardest, memorised, parse_rule
from fedunlearn.data.holding import Holding, holding
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


def test_the_most_memorised_by_hand() -> None:
    known, unseen = np.array([0.9, 0.9, 0.5, 0.2]), np.array([0.8, 0.1, 0.0, 0.9])
    assert memorised(known, unseen, np.array([10, 11, 14, 17]), 2) == [11, 14]


def test_memorised_samples_are_those_that_a_model_without_them_does_not_know(tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = {
        "clients": 2,
        "rounds": 1,
        "local_epochs": 2,
        "learning_rate": 0.1,
        "network": "perceptron",
        "workers": 0,
    }
    Federation.simulate("digits", partition="iid", out=out, **settings).train()
    session = session_of(out)
    (picked,) = chosen_samples(session, "memorised:0.05", 0).values()
    own = holding(session.settings, 0, session.dataset)
    gained = probabilities(session, own)
    seen = np.zeros(len(own))
    for number in ("0", "1"):
        beside = session_of(out / "halves" / number)
        (request,) = Inbox(beside.folder.client(0)).all()
        # Nothing had been learned that would have had to be unlearned first.
        assert request.state == "done" and not beside.ledger.branches(request.id)
        positions = np.array(request.positions)
        gained[positions] -= probabilities(beside, own)[positions]
        seen[positions] += 1
    trains_on = own.training_positions()
    assert (seen[trains_on] == 1).all() and len(picked) == round(0.05 * len(trains_on))
    assert gained[picked].min() >= np.delete(gained[trains_on], np.searchsorted(trains_on, picked)).max() - 1e-6


def test_nothing_is_memorised_where_the_first_model_may_have_known_it(tmp_path: Path) -> None:
    settings = {"clients": 2, "partition": "iid", "rounds": 1, "network": "perceptron", "workers": 0}
    first = Federation.simulate("digits", out=tmp_path / "first", **settings)
    trained = first.folder / "models" / f"{first.train().digest}.safetensors"
    federation = Federation.simulate("digits", init=str(trained), out=tmp_path / "run", **settings)
    federation.train()
    with pytest.raises(RequestError, match="started from may have known all of it"):
        chosen_samples(session_of(federation.folder), "memorised:0.05", 0)


def probabilities(session: Session, own: Holding) -> np.ndarray:
    """Of the recorded labels, in the model of a run."""
    session.blank.load_state_dict(session.models.load(session.ledger.rounds("main")[-1].digest_after))
    with torch.no_grad():
        shares = session.blank(session.task.inputs(own.samples.inputs)).softmax(dim=1)
    return shares[torch.arange(len(own)), own.samples.labels].numpy().copy()


@pytest.mark.parametrize("text", ["random", "random:0", "random:1", "hardest:x", "easiest:0.1", ""])
def test_what_is_no_rule_is_told(text: str) -> None:
    expected = "expected a list of indices, triggered, or random:SHARE or hardest:SHARE or memorised:SHARE"
    with pytest.raises(SettingsError, match=expected):
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


def test_what_earlier_requests_named_is_not_picked_again(trained: Path) -> None:
    session = session_of(trained)
    for rule in ("random:0.2", "hardest:0.1"):
        (first,) = chosen_samples(session, rule, 1).values()
        (second,) = chosen_samples(session, rule, 1, {1: first}).values()
        assert second and not set(first) & set(second)


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
    with pytest.raises(RequestError, match="shows after training"):
        chosen_samples(session_of(tmp_path / "run"), "hardest:0.1", 0)
