from __future__ import annotations

import torch

from fedunlearn.channels.packing import digest_state
from fedunlearn.federation import Federation
from fedunlearn.progress import Progress
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.session import Session


def test_fresh_weights_follow_from_the_seed_alone(federation: Federation) -> None:
    session = federation._session()
    before = torch.get_rng_state()
    assert digest_state(session.fresh(3)) == digest_state(session.fresh(3)) != digest_state(session.fresh(4))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_architecture_is_that_of_the_network(federation: Federation) -> None:
    session = federation._session()
    assert [group.channels for group in session.architecture.layout.groups] == [16, 32, 64]
    assert session.architecture.fresh(1).keys() == session.blank.state_dict().keys()
    assert session.backdoor is None


def test_the_recipe_and_the_trigger_are_those_of_the_settings(federation: Federation) -> None:
    folder = RunFolder.open(federation.folder)
    changed = folder.settings.model_copy(
        update={"momentum": 0.3, "batch_size": 5, "backdoor": "client=1,share=0.5,target=4"}
    )
    session = Session(RunFolder(folder.path, changed, folder.created))
    assert (session.training.momentum, session.training.batch_size) == (0.3, 5)
    assert session.backdoor is not None and session.backdoor.target == 4


def test_progress_is_told_to_whoever_listens(federation: Federation) -> None:
    heard: list[Progress] = []
    Session(RunFolder.open(federation.folder), heard.append).tell("train", 1, 3, "well")
    federation._session().tell("train", 1, 3)
    assert heard == [Progress("train", 1, 3, "well")]
