"""A target that lies about its mask, or in its own step, to damage a class that stays."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedunlearn.channels.mask import ChannelMask
from fedunlearn.federation import Federation
from fedunlearn.server.acceptance import REFUSED, HarmfulModel, forgotten_shares
from fedunlearn.server.branches import MAIN
from fedunlearn.strategies import selective_channels
from fedunlearn.strategies.forgetting import towards_unseen
from fedunlearn.strategies.method import Reply, Work
from fedunlearn.strategies.nearest_label import shrink

HONEST = {"rounds": 1}
WITH_A_STEP = {"rounds": 1, "forget_step": "reset-and-raise", "ratio": 0.3}

counts = st.lists(st.integers(0, 300), min_size=4, max_size=4)


@pytest.fixture(scope="module")
def learned_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clients that answer nine of ten unseen samples; client 0 has asked to leave."""
    folder = tmp_path_factory.mktemp("learned") / "run"
    federation = Federation.simulate(
        "digits", clients=4, partition="iid", rounds=6, local_epochs=2, learning_rate=0.05, workers=0, out=folder
    )
    federation.train()
    federation.request_deletion(client=0)
    return folder


@pytest.fixture
def learned(learned_run: Path, tmp_path: Path) -> Federation:
    return Federation.open(shutil.copytree(learned_run, tmp_path / "run"))


def forged_mask(work: Work) -> Reply:
    """Every channel: what the others need for their classes goes with the rest."""
    return Reply(ChannelMask.full(work.layout).to_arrays(), {"num-examples": len(work.forget), "seconds": 0.1})


def forged_step(work: Work) -> Reply:
    """The honest step, but for class 7, which nobody asked to forget."""
    return without_seven(towards_unseen(work), 50.0)


def forged_shrinking(work: Work, rate: float) -> Reply:
    """The same in the step that comes before the others recover, by more than their rounds can make good."""
    return without_seven(shrink(work, rate), 1e4)


def without_seven(reply: Reply, by: float) -> Reply:
    bias = reply.arrays["output.bias"].copy()
    bias[7] -= by
    return replace(reply, arrays={**reply.arrays, "output.bias": bias})


def head(federation: Federation) -> str:
    branch = federation._session().ledger.branch(MAIN)
    assert branch is not None
    return branch.head


@pytest.mark.parametrize("options", [HONEST, WITH_A_STEP])
def test_an_honest_target_is_served(learned: Federation, options: dict) -> None:
    [served] = learned.unlearn(**options)
    assert head(learned) == served.digest and served.method == "selective-channels"
    assert learned._session().ledger.events(REFUSED) == []


@pytest.mark.parametrize("lie", ["mask", "step", "shrinking"])
def test_a_lying_target_is_caught_before_its_model_is_served(
    learned: Federation, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    if lie == "mask":
        monkeypatch.setattr(selective_channels, "select_channels", forged_mask)
    elif lie == "shrinking":
        monkeypatch.setattr("fedunlearn.strategies.localisation.influence_of", lambda *_: "concentrated")
        monkeypatch.setattr(selective_channels, "shrink", forged_shrinking)
    else:
        monkeypatch.setattr(selective_channels, "STEPS", {"reset-and-raise": forged_step})
    before, options = head(learned), WITH_A_STEP if lie == "step" else HONEST
    with pytest.raises(HarmfulModel, match="classes that stay fell too far") as caught:
        learned.unlearn(**options)
    assert head(learned) == before
    [request] = learned.requests()
    assert (request.state, request.reason) == ("failed", str(caught.value))
    [event] = learned._session().ledger.events(REFUSED)
    assert event.detail["why"] == str(caught.value) and event.request_id == request.id
    for harmed in event.detail["classes"].values():
        assert harmed["before"] - harmed["after"] > harmed["allowed"] >= 0.2 and harmed["samples"] >= 5
    if lie == "step":
        assert list(event.detail["classes"]) == ["7"]
    # Asked again it is refused again, without a second event; retraining takes nothing from the target.
    with pytest.raises(HarmfulModel):
        learned.unlearn(**options)
    assert len(learned._session().ledger.events(REFUSED)) == 1
    [served] = learned.unlearn(method="retrain", rounds=6, local_epochs=2)
    assert head(learned) == served.digest and learned.requests()[0].state == "done"


def test_the_bound_can_be_switched_off(learned: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selective_channels, "select_channels", forged_mask)
    settings = learned.settings.model_copy(update={"class_harm": 1.0})
    lenient = Federation.simulate(out=learned.folder, **settings.model_dump())
    [served] = lenient.unlearn(**HONEST)
    assert head(lenient) == served.digest


def test_shares_by_hand() -> None:
    assert forgotten_shares([30, 0, 10], [10, 50, 0], announced=40) == [0.75, 0.0, 1.0]
    # Who signed for ten samples cannot have forgotten forty.
    assert forgotten_shares([30, 0, 10], [10, 50, 0], announced=10) == pytest.approx([7.5 / 17.5, 0.0, 1.0])
    assert forgotten_shares([0, 0], [0, 3], announced=5) == [0.0, 0.0]


@given(counts, counts, st.integers(0, 600))
def test_shares_are_shares_and_more_announced_explains_no_less(gone: list, kept: list, announced: int) -> None:
    found, more = forgotten_shares(gone, kept, announced), forgotten_shares(gone, kept, announced + 50)
    assert all(0 <= one <= other + 1e-12 <= 1 + 1e-9 for one, other in zip(found, more, strict=True))
