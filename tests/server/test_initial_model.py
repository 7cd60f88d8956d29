"""A federation that starts from a model of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import safetensors.torch
import torch
from torchvision.models import ViT_B_16_Weights

from fedunlearn.channels.packing import digest_state
from fedunlearn.errors import RequestError, RunFolderError, SettingsError
from fedunlearn.federation import Federation
from fedunlearn.files import read_json
from fedunlearn.tasks import get_task

SMALL: dict[str, Any] = {
    "clients": 3,
    "partition": "iid",
    "local_epochs": 1,
    "learning_rate": 0.1,
    "class_harm": 1.0,
    "workers": 0,
}


def weights(classes: int = 10, seed: int = 5) -> dict[str, torch.Tensor]:
    task = get_task("digits")
    state = dict(task.build("lenet", seed, task.dataset(0)).state_dict())
    if classes != 10:
        state |= {"output.weight": torch.zeros(classes, 64), "output.bias": torch.zeros(classes)}
    return state


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pretrained.safetensors"
    safetensors.torch.save_file(weights(), path)
    return path


def start(path: Path | str, out: Path | None = None, **settings: Any) -> Federation:
    return Federation.simulate("digits", **{**SMALL, "rounds": 0, "init": str(path), "out": out, **settings})


def test_without_training_requests_are_served_against_the_model_itself(file: Path, tmp_path: Path) -> None:
    digest = digest_state(weights())
    federation = start(file, tmp_path / "run")
    assert federation.settings.init == digest
    summary = federation.train()
    assert (summary.rounds, summary.digest) == (0, digest)
    recorded = read_json(federation.folder / "initial-model.json")
    [event] = federation._session().ledger.events("initial-model")
    assert event.detail == recorded
    assert (recorded["digest"], recorded["source"], recorded["fresh"]) == (digest, str(file), [])
    [served] = federation.unlearn(federation.request_deletion(classes=[3]), method="fine-tune", rounds=1)
    assert served.digest != digest
    assert federation.verify_ledger().holds
    with pytest.raises(RequestError, match="not trained here, so that there are no rounds to repeat"):
        federation.retrain()
    with pytest.raises(RequestError, match="no training to repeat"):
        federation.compare()
    with pytest.raises(RequestError, match="no training to repeat for a band; audit in tier quick"):
        federation.audit(served.requests, "standard", 2, processes=0)
    assert federation.audit(served.requests, "quick").verdict == "inconclusive"
    assert federation.retrain(rounds=1).rounds == 1


def test_a_killed_training_has_recorded_it_or_nothing(file: Path, tmp_path: Path, monkeypatch) -> None:
    federation = start(file, tmp_path / "run")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("fedunlearn.server.ledger.Ledger.append_event", killed)
        with pytest.raises(KeyboardInterrupt):
            federation.train()
    assert federation._session().ledger.branch("main") is None
    federation.train()
    assert len(federation._session().ledger.events("initial-model")) == 1


def test_erasing_leaves_it_and_says_so(file: Path, tmp_path: Path) -> None:
    federation = start(file, tmp_path / "run")
    federation.train()
    request = federation.request_deletion(classes=[3])
    federation.unlearn(request, method="fine-tune", rounds=1)
    digest = digest_state(weights())
    assert any(digest[:12] in note and "stays" in note for note in federation.erase(request).notes)
    federation.erase(request, dry_run=False)
    assert federation._session().models.has(digest)


def test_training_starts_from_it_whatever_the_seed(file: Path, tmp_path: Path) -> None:
    federation = start(file, tmp_path / "run", rounds=1, seed=3)
    federation.train()
    [first] = federation._session().ledger.rounds("main")
    assert first.digest_before == digest_state(weights())
    assert first.digest_after != first.digest_before
    fresh = Federation.simulate("digits", **{**SMALL, "rounds": 1, "seed": 3, "out": tmp_path / "fresh"})
    fresh.train()
    assert fresh._session().ledger.rounds("main")[0].digest_before != first.digest_before


def test_a_run_goes_on_with_the_same_file_and_refuses_another(file: Path, tmp_path: Path) -> None:
    start(file, tmp_path / "run").train()
    assert start(file, tmp_path / "run").train().digest == digest_state(weights())
    safetensors.torch.save_file(weights(seed=6), file)
    with pytest.raises(RunFolderError, match="other settings"):
        start(file, tmp_path / "run")


def test_an_output_layer_of_other_classes_is_newly_initialised(tmp_path: Path) -> None:
    path = tmp_path / "thousand.safetensors"
    safetensors.torch.save_file(weights(classes=1000), path)
    federation = start(path, tmp_path / "run")
    federation.train()
    recorded = read_json(federation.folder / "initial-model.json")
    assert recorded["fresh"] == ["output.weight", "output.bias"]
    state = federation._session().models.load(recorded["digest"])
    assert torch.equal(state["convolution1.weight"], weights()["convolution1.weight"])
    assert state["output.weight"].shape == (10, 64) and state["output.weight"].any()


def test_half_precision_is_taken_in_the_networks_own(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    safetensors.torch.save_file({name: tensor.half() for name, tensor in weights().items()}, path)
    federation = start(path, tmp_path / "run")
    state = federation._session().fresh(0)
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden.weight": torch.zeros(3, 3)}, r"'hidden.weight' is .* \(3, 3\); expected torch.float32 \(64, 128\)"),
        ({"hidden.weight": torch.zeros(64, 128, dtype=torch.int64)}, "'hidden.weight' is torch.int64"),
        ({"hidden.weight": torch.full((64, 128), torch.nan)}, "'hidden.weight' holds a number that is not finite"),
        ({"features.0.weight": torch.zeros(1)}, "of another network: it holds 'features.0.weight'"),
        ({"hidden.weight": None}, "of another network: it lacks 'hidden.weight'"),
    ],
)  # fmt: skip
def test_a_model_that_does_not_fit_is_told(tmp_path: Path, change: dict, said: str) -> None:
    state = {name: tensor for name, tensor in {**weights(), **change}.items() if tensor is not None}
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file(state, path)
    with pytest.raises(SettingsError, match=said):
        start(path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_file_and_no_safetensors_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no such file; give a safetensors file, or torchvision:NAME"):
        start(tmp_path / "absent.safetensors")
    torch.save(weights(), tmp_path / "pickled.pt")
    with pytest.raises(SettingsError, match="pickled checkpoints are not read"):
        start(tmp_path / "pickled.pt")


def test_torchvisions_weights_are_asked_for_by_name(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(SettingsError, match="torchvision has no weights of that name"):
        start("torchvision:Absent")
    asked = []

    def without_network(self, **options: Any) -> None:
        asked.append((self, options))
        raise URLError("no route to host")

    monkeypatch.setattr(ViT_B_16_Weights, "get_state_dict", without_network)
    with pytest.raises(SettingsError, match=r"cannot be downloaded .*no route to host.*where there is no network"):
        start("torchvision:ViT_B_16_Weights.IMAGENET1K_V1")
    # Nothing but tensors is unpickled, and only what has the expected hash.
    [(found, options)] = asked
    assert found is ViT_B_16_Weights.IMAGENET1K_V1
    assert options["weights_only"] is True and options["check_hash"] is True


def test_no_rounds_and_no_model_are_refused() -> None:
    with pytest.raises(SettingsError, match="rounds = 0: expected 1 or more, or a model to start from"):
        Federation.simulate("digits", rounds=0)
