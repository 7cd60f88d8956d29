"""A race on a real federation: what cannot is told, and what is nobody's fault is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedunlearn.config import UnlearnSettings
from fedunlearn.contest.budget import Budget
from fedunlearn.contest.race import race
from fedunlearn.errors import RunFolderError
from fedunlearn.federation import Federation


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Federation, list[str]]:
    """A federation of four after two rounds, and a request that fine-tuning has served."""
    out = tmp_path_factory.mktemp("run")
    federation = Federation.simulate("digits", clients=4, rounds=2, local_epochs=1, partition="iid", out=out)
    federation.train()
    id = federation.request_deletion(client=0).id
    federation.unlearn_with([id], UnlearnSettings(method="fine-tune", rounds=1))
    return federation, [id]


def test_all_start_from_the_model_that_the_request_found(served: tuple[Federation, list[str]]) -> None:
    federation, ids = served
    contenders = {
        "not": UnlearnSettings(method="not", rounds=1),
        "pruned": UnlearnSettings(method="class-pruning", rounds=1),
        "eraser": UnlearnSettings(method="federaser", rounds=1),
    }
    document, more = race(federation, ids, contenders, Budget(), 2, without=("unlearned",))
    original = document["models"]["original"]["digest"]
    ledger = federation._session().ledger
    branches = {branch.kind: branch for branch in ledger.branches()}
    for kind in ("not", "retrained-band-1", "retrained-band-2", "fine-tuned"):
        assert branches[kind].settings["base"] == branches[kind].settings["start"] == original
    assert len({document["models"][name]["digest"] for name in ("retrained", *more["band"])}) == 3
    assert "unlearned" not in document["models"] and "unlearned" not in document["rounds"]
    assert "does not serve requests of scope client" in more["methods"]["pruned"]["cannot"]
    assert "pruned" not in document["models"] and "eraser" not in document["models"]
    # It was not prepared for while the federation trained.
    assert more["methods"]["eraser"]["cannot"]
    done = more["methods"]["not"]
    assert (done["cannot"], done["kind"], done["budget"]["allowed"]) == (None, "federated", None)
    assert done["budget"]["spent"] == 1.0


def test_a_full_disk_is_no_property_of_a_method(
    served: tuple[Federation, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation, ids = served

    def full(*_: Any, **__: Any) -> Any:
        raise RunFolderError("no space is left.")

    monkeypatch.setattr(Federation, "run_beside", full)
    with pytest.raises(RunFolderError, match="no space"):
        race(federation, ids, {"not": UnlearnSettings(method="not", rounds=1)}, Budget(), 0)


def test_without_contenders_and_band_nothing_is_added(served: tuple[Federation, list[str]]) -> None:
    federation, ids = served
    document, more = race(federation, ids, {}, Budget(client_epochs=0.5), 0)
    assert more == {} and "unlearned" in document["models"]
    assert Path(federation.folder).is_dir()
