"""The guides' code runs, as it is printed."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest
import torch
from flwr.app import ArrayRecord
from flwr.serverapp import Grid

from fedunlearn import engines
from fedunlearn.audit.metric import Gathered, Sizes, metrics
from fedunlearn.channels.layout import channel_layout
from fedunlearn.clients.inbox import Inbox
from fedunlearn.config import FederationSettings, UnlearnSettings
from fedunlearn.data.holding import holding
from fedunlearn.errors import SettingsError
from fedunlearn.federation import Federation
from fedunlearn.models import networks
from fedunlearn.server.ledger_verify import KINDS
from fedunlearn.strategies import methods
from fedunlearn.tasks import get_task
from fedunlearn.tasks.base import ImageToImageTask
from fedunlearn.tasks.degradations import degradations

GUIDES = Path(__file__).parents[1] / "docs" / "guides"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules can be imported, as that of whoever follows a guide."""
    loaded = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    # What a guide registers is gone afterwards, so that tests over everything registered see what is ours.
    for registry in (methods, networks, metrics):
        monkeypatch.setattr(registry, "_items", {name: registry.get(name) for name in registry.names()})
    yield tmp_path
    for name in set(sys.modules) - loaded:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


def save_code(guide: str, folder: Path, *modules: str) -> None:
    """Save the Python blocks of `guide` as `modules`, one after the other."""
    blocks = re.findall(r"^```python\n(.*?)^```", (GUIDES / guide).read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) == len(modules)
    for module, block in zip(modules, blocks, strict=True):
        (folder / f"{module}.py").write_text(block, encoding="utf-8")


def load(module: str) -> ModuleType:
    return importlib.import_module(module)


def declared(guide: str, name: str) -> object:
    """What a package that is made as the guide says declares under a name; the registry takes no other object."""
    table = re.search(r"^```toml\n(\[project\.entry-points.*?)^```", (GUIDES / guide).read_text(), re.M | re.S)
    assert table is not None
    [(group, points)] = tomllib.loads(table[1])["project"]["entry-points"].items()
    return EntryPoint(name, points[name], group).load()


def test_a_kind_of_image_task_of_ones_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(degradations, "_items", {name: degradations.get(name) for name in degradations.names()})
    save_code("image-to-image.md", folder, "rows")
    load("rows")
    task = get_task("rows:digits")
    images = task.inputs(task.dataset(0).test.inputs[:2])
    assert isinstance(task, ImageToImageTask)
    assert task.region(images).mean(dim=(0, 1, 3)).tolist() == [0.0, 1.0] * 4


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
    save_code("your-own-method.md", folder, "shrink")
    shrink = load("shrink")
    method = methods.get("shrink-and-perturb")
    assert method is declared("your-own-method.md", "shrink-and-perturb") is shrink.METHOD
    settings = UnlearnSettings(method=method.name, rounds=3, options={"keep": 0.5})
    assert [phase.message for phase in method.phases(settings, 15)] == ["train.recover"] * 3
    with pytest.raises(SettingsError, match="keep = 2"):
        method.phases(settings.model_copy(update={"options": {"keep": 2}}), 15)


def test_a_metric_of_ones_own(folder: Path) -> None:
    save_code("your-own-metric.md", folder, "sureness")
    sureness = load("sureness")
    assert metrics.get("sureness") is declared("your-own-metric.md", "sureness") is sureness.METRIC
    findings = {0: {"sum": 10.0, "samples": 40}, 1: {}, 2: {"sum": 30.0, "samples": 60}}
    value = sureness.combine(Gathered(Sizes(10), findings))["sureness"]
    assert value.value == 0.4 and value.of == 100
    assert sureness.combine(Gathered(Sizes(10), {1: {}}))["sureness"].refused


def test_a_ledger_is_checked_without_this_program(folder: Path, audited: Federation) -> None:
    save_code("ledger-and-certificate.md", folder, "check")
    bundle = audited.certify(out=folder / "bundle").bundle
    check = load("check").check
    assert check(bundle) == len(audited._session().ledger.entries()) - 1  # without the entry of the certificate
    lines = (bundle / "ledger.jsonl").read_text().splitlines()
    for changed in (lines[:-1], [*lines[:3], *lines[4:]], [*lines[:3], lines[3].replace("0", "1", 1), *lines[4:]]):
        (bundle / "ledger.jsonl").write_text("\n".join(changed))
        with pytest.raises(AssertionError):
            check(bundle)


def test_every_method_is_described() -> None:
    text = (GUIDES.parent / "methods.md").read_text(encoding="utf-8")
    assert [name for name in methods.names() if f"`{name}`" not in text] == []


def test_every_kind_of_problem_is_in_the_guide() -> None:
    text = (GUIDES / "ledger-and-certificate.md").read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f"`{kind}`" not in text] == []


def test_erasure_in_a_stock_app(folder: Path) -> None:
    save_code("erasure-in-your-flower-app.md", folder, "client_app", "server_app", "leave")
    client_app, server_app, leave = load("client_app"), load("server_app"), load("leave")
    filed, states, weights = [], [], []

    def evaluate(finished: int, arrays: ArrayRecord) -> None:
        """Between two rounds: client 1 leaves after the second."""
        weights.append(arrays.to_torch_state_dict())
        if finished == 2:
            filed.append(leave.leave(folder, client=1, clients=4))
        states.extend(Inbox(folder / "1").get(id).state for id in filed)

    def serve(grid: Grid) -> None:
        server_app.train_federation(grid, evaluate)

    engines.run("local", serve, client_app.app, 4, {"client-folders": str(folder)})
    assert states == ["pending", "done", "done", "done"]
    assert _accuracy(client_app, weights[0]) < 0.3
    assert _accuracy(client_app, weights[-1]) > 0.6


def _accuracy(client_app: ModuleType, state: dict[str, torch.Tensor]) -> float:
    model = client_app.make_model()
    model.load_state_dict(state)
    inputs, labels = client_app.load_data(0, 1)
    return float((model(inputs).argmax(1) == labels).float().mean())


def test_the_example_of_the_readme(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    readme = (GUIDES.parents[1] / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", readme, re.M | re.S)
    assert len(code.splitlines()) <= 12
    # The same calls on a federation that trains in seconds.
    for printed, smaller in {
        '"mnist5k", clients=10, partition="dirichlet:1.0"': '"digits", clients=3, partition="iid"',
        "rounds=15": "rounds=1",
        "rounds=3": "rounds=1",
    }.items():
        assert code.count(printed) == 1
        code = code.replace(printed, smaller)
    exec(compile(code, "README.md", "exec"), {})
    shown = capsys.readouterr().out
    assert "forget everything that client 0 contributed" in " ".join(shown.split())
    assert shown.rstrip().endswith("report.html")


def test_continual_forgetting(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_code("continual-forgetting.md", folder, "sequence")
    printed = (folder / "sequence.py").read_text(encoding="utf-8")
    # The same code on smaller images, in as few passes as there can be.
    quicker = {'"mnist5k"': '"digits"', 'out="run"': f'rounds=1, local_epochs=1, class_harm=1.0, out="{folder}/run"'}
    quicker |= {"rounds=3, local_epochs=2)": "rounds=1, local_epochs=1)"}
    for text, instead in quicker.items():
        assert printed.count(text) == 1
        printed = printed.replace(text, instead)
    (folder / "sequence.py").write_text(printed, encoding="utf-8")
    load("sequence")
    told = capsys.readouterr().out.splitlines()
    assert [line.partition("]")[0] for line in told] == ["[8, 9", "[6, 7", "[4, 5", "[2, 3"]
    served = Federation.open(folder / "run").requests()
    assert [one.state for one in served] == ["done"] * 4
