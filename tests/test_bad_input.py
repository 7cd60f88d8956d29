"""Bad input gets a sentence: no traceback, the right exit status, and nothing half done."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fedunlearn import files
from fedunlearn.cli import main
from fedunlearn.clients.inbox import Inbox
from fedunlearn.errors import ClientError, CorruptModel, FedunlearnError, NoChannels, RunFolderError
from fedunlearn.federation import Federation
from fedunlearn.server.branches import MAIN

TINY = {"clients": 3, "partition": "iid", "rounds": 1, "local_epochs": 1, "learning_rate": 0.1}


def refused(capsys: pytest.CaptureFixture[str], *words: object, status: int = 1) -> str:
    """The one sentence of a command that does not work."""
    assert main([*map(str, words), "--json"]) == status
    captured = capsys.readouterr()
    sentence = json.loads(captured.out)["error"]
    assert "Traceback" not in captured.err and "defect" not in sentence
    assert "\n" not in sentence and sentence.rstrip().endswith((".", "help"))
    return str(sentence)


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (["--client", 7], 1, "there is no client 7; the clients are 0 to 2"),
        (["--client", -1], 1, "there is no client -1"),
        (["--client", 0, "--classes", "11"], 1, "no sample of class 11; classes there: 0, 1, 2"),
        (["--client", 0, "--samples", "99999"], 1, "its samples are 0 to"),
        (["--client", 0, "--classes", "0,1,2,3,4,5,6,7,8,9"], 1, "without a sample to train on"),
        (["--classes", "0,1,2,3,4,5,6,7,8,9"], 1, "leave the federation without data"),
        (["--classes", "3,77"], 1, "no client holds a sample of class 77; classes there: 0, 1"),
        (["--client", 0, "--classes", "1", "--samples", "1"], 2, "classes or samples, not both"),
        (["--samples", "1"], 2, "name a client"),
        ([], 2, "name a client"),
    ],
)
def test_a_request_that_cannot_be_filed(
    federation: Federation, capsys: pytest.CaptureFixture[str], words: list, status: int, expected: str
) -> None:
    assert expected in refused(capsys, "request", federation.folder, *words, status=status)
    assert federation.requests() == []


@pytest.mark.parametrize("what", [{"classes": []}, {"client": 0, "classes": []}, {"client": 0, "samples": []}])
def test_an_empty_forget_set(federation: Federation, what: dict) -> None:
    with pytest.raises(FedunlearnError, match=r"no sample|no class"):
        federation.request_deletion(**what)
    assert federation.requests() == []


def test_the_last_client_cannot_leave(federation: Federation) -> None:
    federation.request_deletion(client=0)
    federation.request_deletion(client=1)
    with pytest.raises(FedunlearnError, match="leave the federation without data"):
        federation.request_deletion(client=2)


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (["--ratio", "1.5"], 2, "from 0 to 1"),
        (["--ratio", "-0.1"], 2, "from 0 to 1"),
        (["--ratio", "some"], 2, "ratio"),
        (["--ratio", "hidden=2"], 2, "from 0 to 1"),
        (["--ratio", "no-layer=0.5"], 2, "no layer 'no-layer' with channels; layers: convolution1"),
        (["--method", "selective-chanels"], 2, "did you mean 'selective-channels'"),
        (["--rounds", "0"], 2, "rounds = 0"),
        (["--option", "attribution=guess"], 2, "guess"),
        (["--request", "client-9-1"], 1, "no request 'client-9-1'"),
    ],
)
def test_an_unlearning_that_cannot_be(
    federation: Federation, capsys: pytest.CaptureFixture[str], words: list, status: int, expected: str
) -> None:
    request = federation.request_deletion(client=0, classes=[1])
    assert expected in refused(capsys, "unlearn", federation.folder, *words, status=status)
    assert Inbox(federation.folder / "clients" / "0").get(request.id).state == "pending"
    assert federation._session().ledger.branches(request.id) == []


WRONG_ARGUMENTS = [
    ("unlearn --request client-9-1", 1, "no request 'client-9-1'; there are: client-0-1, client-1-1"),
    ("unlearn --request client-0-1+client-0-2", 1, "no request 'client-0-2'"),
    ("unlearn --ratio no-layer=0.5", 2, "no layer 'no-layer' with channels"),
    ("unlearn --method federaser", 1, "needs the updates of the rounds of training, and this run kept none"),
    ("compare --request client-9-1", 1, "no request 'client-9-1'"),
    ("compare --request client-1-1", 1, "request client-1-1 has not been served yet"),
    ("compare --method scrub", 1, "was not unlearned by 'scrub', but by fine-tune; name one of these"),
    ("compare --rounds-after -1", 2, "rounds-after = -1"),
    ("report --request client-9-1", 1, "no request 'client-9-1'"),
    ("audit --request client-9-1", 1, "no request 'client-9-1'"),
    ("audit --request client-1-1", 1, "request client-1-1 has not been served yet"),
    ("audit --audit thorough", 2, "no audit 'thorough'"),
    ("erase --request client-9-1", 1, "no request 'client-9-1'"),
    ("erase --request client-1-1", 1, "the ledger has no request 'client-1-1'"),
    ("certificate issue --request client-9-1", 1, "no request 'client-9-1'"),
    ("ledger lineage --request client-9-1", 1, "no request 'client-9-1'"),
]


def test_a_wrong_argument_leaves_nothing_in_the_ledger(
    federation: Federation, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was filed and is not taken in yet is known all the same, and waits for a command that is right."""
    federation.request_deletion(client=0, classes=[1])
    federation.unlearn("client-0-1", method="fine-tune", rounds=1)
    federation.request_deletion(client=1, classes=[1])
    before = federation._session().ledger.entries()
    for line, status, expected in WRONG_ARGUMENTS:
        command, dash, options = line.partition(" --")
        words = [*command.split(), federation.folder, *f"{dash}{options}".split()]
        assert expected in refused(capsys, *words, status=status), line
        assert federation._session().ledger.entries() == before, line


def test_a_request_of_a_scope_that_the_method_does_not_serve_stays_as_it_was(federation: Federation) -> None:
    request = federation.request_deletion(client=0)
    with pytest.raises(FedunlearnError, match="does not serve requests of scope client"):
        federation.unlearn(request, method="class-pruning")
    assert federation.requests() == [request]


def test_nothing_to_serve_or_to_compare(federation: Federation, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no open request" in refused(capsys, "unlearn", federation.folder)
    assert "no request has been served yet" in refused(capsys, "compare", federation.folder)
    assert "no request has been served yet" in refused(capsys, "report", federation.folder)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["--clients", "1"], "clients = 1"),
        (["--partition", "by:owner"], "owner"),
        (["--partition", "evenly"], "iid"),
        (["--task", "no-such-task"], "no-such-task"),
        (["--task", "nowhere:task"], "nowhere"),
        (["--network", "lenett"], "lenet"),
        (["--strategy", "fedsgd"], "no strategy called 'fedsgd'"),
        (["--strategy", "fedprox:mu=1"], "no option 'mu'"),
        (["--backdoor", "client=5,share=0.5,target=0"], "no client 5"),
        (["--canaries", "client=0"], "canaries"),
        (["--learning-rate", "-1"], "learning-rate"),
        (["--engine", "cluster"], "engine"),
    ],
)
def test_a_federation_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: list[str], expected: str
) -> None:
    out = tmp_path / "run"
    words = ["simulate", "--task", "digits", "--clients", "3", "--partition", "iid", "--rounds", "1"]
    assert expected in refused(capsys, *words, *settings, "--out", out, status=2)
    assert not (out / "run.json").exists()


def test_no_run_a_newer_run_and_a_damaged_one(
    federation: Federation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "holds no run" in refused(capsys, "requests", tmp_path / "nothing")
    description = federation.folder / "run.json"
    content = json.loads(description.read_text())
    description.write_text(json.dumps({**content, "format": 99}))
    assert "newer version" in refused(capsys, "unlearn", federation.folder)
    description.write_text("{")
    assert "damaged" in refused(capsys, "requests", federation.folder)


def checkpoint(federation: Federation) -> Path:
    branch = federation._session().ledger.branch(MAIN)
    assert branch is not None
    return federation.folder / "models" / f"{branch.head}.safetensors"


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(b"not a model"),
        lambda path: path.write_bytes(bytes([path.read_bytes()[-1] ^ 1]).join([path.read_bytes()[:-1], b""])),
        lambda path: path.unlink(),
        lambda path: shutil.copy(min(p for p in path.parent.glob("*.safetensors") if p != path), path),
    ],
    ids=["cut", "other file", "one bit", "missing", "foreign"],
)
def test_a_corrupted_or_foreign_checkpoint(
    federation: Federation, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], object]
) -> None:
    path = checkpoint(federation)
    damage(path)
    with pytest.raises(CorruptModel):
        federation.train(3)
    federation.request_deletion(client=0, classes=[1])
    assert path.stem[:8] in refused(capsys, "unlearn", federation.folder)
    # Nothing was made of a broken model; the request waits for a whole one.
    assert federation.requests()[0].state == "failed"


def test_a_damaged_inbox_leaves_its_client_out_rather_than_training_on_what_is_forgotten(
    federation: Federation,
) -> None:
    request = federation.request_deletion(client=1, classes=[1])
    (federation.folder / "clients" / "1" / "inbox" / f"{request.id}.json").write_text("{")
    federation.train(3)
    last = federation._session().ledger.last_round(MAIN)
    assert last is not None and last.participants == (0, 2)
    [event] = federation._session().ledger.events("client-absent")
    assert f"{request.id}.json is damaged" in event.detail["why"]


def test_no_space_left(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = checkpoint(federation)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as context:
        context.setattr(files.os, "fsync", full)
        with pytest.raises(RunFolderError, match="no space is left"):
            federation.train(3)
        assert "no space is left" in refused(capsys, "request", federation.folder, "--client", 0)
    # Once there is space again, the same command goes on.
    assert checkpoint(federation) == before
    assert federation.train(3).rounds == 3


def test_all_updates_broken(tmp_path: Path) -> None:
    federation = Federation.simulate("digits", out=tmp_path / "run", **{**TINY, "learning_rate": 1e30})
    with pytest.raises(ClientError, match="not finite"):
        federation.train()


NO_CHANNELS = """
import torch
from torch import nn
from fedunlearn.tasks.classification import ClassificationTask
from fedunlearn.models import networks

def one_layer(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))

networks.register("one-layer", one_layer)
task = ClassificationTask("one-layer", "digits", networks=("one-layer",), default_network="one-layer")
"""


def test_a_model_without_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedunlearn.models import networks

    monkeypatch.setattr(networks, "_items", {name: networks.get(name) for name in networks.names()})
    (tmp_path / "no_channels_task.py").write_text(NO_CHANNELS)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(NoChannels):
        Federation.simulate("no_channels_task:task", out=tmp_path / "run", **TINY)
    assert not (tmp_path / "run").exists()


def test_a_network_with_batch_normalisation_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its counters have no dimension, which once did not survive a message."""
    from fedunlearn.models import networks

    monkeypatch.setattr(networks, "_items", {name: networks.get(name) for name in networks.names()})
    source = (
        NO_CHANNELS.replace("one_layer", "normed")
        .replace("one-layer", "normed")
        .replace(
            "nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes)",
            "nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, classes)",
        )
    )
    (tmp_path / "normed_task.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    federation = Federation.simulate("normed_task:task", out=tmp_path / "run", **TINY)
    federation.train()
    federation.request_deletion(client=0, classes=[1])
    [served] = federation.unlearn(rounds=1, ratio=0.5)
    model = federation._session().models.load(served.digest)
    assert model["1.num_batches_tracked"].dtype == torch.int64 and model["1.num_batches_tracked"].dim() == 0
