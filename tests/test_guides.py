"""The guides' code runs, as it is printed."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from fedunlearn import engines
from fedunlearn.channels.layout import channel_layout
from fedunlearn.clients.inbox import Inbox
from fedunlearn.config import FederationSettings, UnlearnSettings
from fedunlearn.data.holding import holding
from fedunlearn.errors import SettingsError
from fedunlearn.strategies import methods
from fedunlearn.tasks import get_task

GUIDES = Path(__file__).parents[1] / "docs" / "guides"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules can be imported, as that of whoever follows a guide."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def save_code(guide: str, folder: Path, *modules: str) -> None:
    """Save the Python blocks of `guide` as `modules`, one after the other."""
    blocks = re.findall(r"^```python\n(.*?)^```", (GUIDES / guide).read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) == len(modules)
    for module, block in zip(modules, blocks, strict=True):
        sys.modules.pop(module, None)
        (folder / f"{module}.py").write_text(block, encoding="utf-8")


def load(module: str) -> ModuleType:
    return importlib.import_module(module)


def test_a_task_of_ones_own(folder: Path) -> None:
    save_code("your-own-task.md", folder, "cells")
    assert len((folder / "cells.py").read_text().splitlines()) < 40
    task = get_task("cells:task")
    data = task.dataset(0)
    model = task.build(None, 0, data)
    layers = channel_layout(model, task.inputs(data.test.inputs[:2])).groups
    assert [layer.channels for layer in layers] == [32, 16]
    settings = FederationSettings(task="cells:task", clients=4, partition="iid")
    shares = [len(holding(settings, client, data)) for client in range(4)]
    assert sum(shares) == len(data.train)


def test_a_method_of_ones_own(folder: Path) -> None:
    if "shrink-and-perturb" not in methods.names():
        save_code("your-own-method.md", folder, "shrink")
        load("shrink")
    method = methods.get("shrink-and-perturb")
    settings = UnlearnSettings(method=method.name, rounds=3, options={"keep": 0.5})
    assert [phase.message for phase in method.phases(settings, 15)] == ["train.recover"] * 3
    with pytest.raises(SettingsError, match="keep = 2"):
        method.phases(settings.model_copy(update={"options": {"keep": 2}}), 15)


def test_erasure_in_a_stock_app(folder: Path) -> None:
    save_code("erasure-in-your-flower-app.md", folder, "client_app", "server_app", "leave")
    client_app, server_app, leave = load("client_app"), load("server_app"), load("leave")
    run_config = {"client-folders": str(folder)}

    before = engines.run("local", server_app.train_federation, client_app.app, 4, run_config)
    assert [round(m["num-examples"]) for m in before.train_metrics_clientapp.values()] != []
    request = leave.leave(folder, client=1, clients=4)
    after = engines.run("local", server_app.train_federation, client_app.app, 4, run_config)

    asked = Inbox(folder / "1").get(request)
    assert asked.state == "done"
    assert _accuracy(client_app, after.arrays.to_torch_state_dict()) > 0.6
    assert not _equal(before.arrays.to_torch_state_dict(), after.arrays.to_torch_state_dict())


def _accuracy(client_app: ModuleType, state: dict[str, torch.Tensor]) -> float:
    model = client_app.make_model()
    model.load_state_dict(state)
    inputs, labels = client_app.load_data(0, 1)
    return float((model(inputs).argmax(1) == labels).float().mean())


def _equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)
