from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Context, RecordDict

from fedunlearn.clients.filing import file_request
from fedunlearn.clients.site import Site, site_from_context
from fedunlearn.errors import ClientError

SiteOf = Callable[[int], Site]


def test_the_folder_is_in_the_run_or_where_the_node_says(run_config: dict, tmp_path: Path) -> None:
    assert site_at(run_config, {}).folder == tmp_path / "run" / "clients" / "2"
    own = tmp_path / "mine"
    assert site_at(run_config, {"client-folder": str(own)}).folder == own
    with pytest.raises(ClientError, match=r"client 2 has no folder; give `client-folder`"):
        site_at({**run_config, "out": ""}, {})


def site_at(run_config: dict, node_config: dict) -> Site:
    return site_from_context(Context(1, 1, {"partition-id": 2, **node_config}, RecordDict(), run_config))


def test_what_is_trained_on_held_out_and_forgotten_never_meets(site_of: SiteOf) -> None:
    site = site_of(0)
    request = file_request(site.folder, site.holding, classes=[3, 5])
    forgotten = site.forget_positions([request.id])
    kept = site.holding.training_positions(site.inbox.forgotten_positions())
    assert len(site.training_samples()) == len(kept)
    assert not set(forgotten) & set(kept)
    assert not (set(forgotten) | set(kept)) & set(site.holding.held_out.tolist())
    assert not set(site.training_samples().labels.tolist()) & {3, 5}
    assert np.array_equal(forgotten, np.sort(forgotten))


def test_only_the_named_requests_count(site_of: SiteOf) -> None:
    site = site_of(0)
    one = file_request(site.folder, site.holding, classes=[1])
    two = file_request(site.folder, site.holding, classes=[2])
    both = site.forget_positions([one.id, two.id])
    assert set(both) == set(site.forget_positions([one.id])) | set(site.forget_positions([two.id]))
    assert len(site.forget_positions(["client-0-9"])) == 0


def test_a_refused_request_gives_the_samples_back(site_of: SiteOf) -> None:
    site = site_of(1)
    before = len(site.training_samples())
    request = file_request(site.folder, site.holding, classes=[1])
    site.inbox.acknowledge(request.id, "refused", "it is forged.")
    assert len(site.training_samples()) == before


def test_a_model_of_another_architecture_is_refused(site_of: SiteOf) -> None:
    site = site_of(0)
    state = {name: tensor.clone() for name, tensor in site.blank.state_dict().items()}
    loaded = site.load({name: tensor + 1 for name, tensor in state.items()})
    assert torch.equal(loaded.state_dict()["output.bias"], state["output.bias"] + 1)
    with pytest.raises(ClientError, match="not of this federation's architecture"):
        site.load({"other.weight": torch.zeros(2)})


def test_the_key_stays_the_same(site_of: SiteOf) -> None:
    assert site_of(0).public_key == site_of(0).public_key != site_of(1).public_key
