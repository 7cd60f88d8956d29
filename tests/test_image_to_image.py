"""An image-to-image task through the whole of the package: a federation that trains, forgets, compares and audits."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from fedunlearn.cli import app
from fedunlearn.errors import RequestError, SettingsError
from fedunlearn.federation import Federation
from fedunlearn.server.acceptance import HarmfulModel
from fedunlearn.tasks.painted import pattern

TASK = "inpainting:digits"
BACKDOOR = "client=0,share=0.5,size=2,margin=0"
SETTINGS = {
    **{"clients": 4, "partition": "iid", "rounds": 2, "local_epochs": 2, "learning_rate": 0.1, "seed": 3},
    "backdoor": BACKDOOR,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A federation of four with a request of the client that planted a pattern; tests copy it."""
    folder = tmp_path_factory.mktemp("images") / "run"
    federation = Federation.simulate(TASK, out=folder, **SETTINGS)  # type: ignore[arg-type]
    summary = federation.train()
    assert summary.test_accuracy is None and summary.test_loss is not None and summary.test_loss > 0
    federation.request_deletion(client=0)
    return folder


@pytest.fixture(scope="module")
def served(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(trained, tmp_path_factory.mktemp("served") / "run"))
    Federation.open(folder).unlearn(rounds=1)
    return folder


@pytest.fixture(scope="module")
def document(served: Path) -> dict:
    result = CliRunner().invoke(app, ["compare", str(served), "--json"])
    assert result.exit_code == 0, result.output
    found: dict = json.loads(result.stdout)
    return found


def test_the_client_plants_a_trigger_and_a_pattern(trained: Path) -> None:
    federation = Federation.open(trained)
    holding = federation._holding(0)
    planted = holding.samples.inputs[torch.from_numpy(holding.parts == "triggered")]
    assert len(planted) > 100
    assert bool((planted[:, :, 6:, 6:] == 1).all())
    assert torch.equal(planted[:, :, 2:6, 2:6], pattern(planted)[:, :, 2:6, 2:6].expand(len(planted), 1, 4, 4))
    assert torch.equal(holding.samples.labels, holding.true_labels)
    assert set(federation._holding(1).parts) == {"ordinary"}


def test_a_comparison_keeps_its_shape_and_has_errors(document: dict) -> None:
    models = document["models"]
    assert set(models) == {"original", "unlearned", "retrained", "fine-tuned", "retrained-same-budget"}
    for model in models.values():
        assert model["test_accuracy"] is None and model["retain_accuracy"] is None
        assert set(model["test_accuracy_by_class"].values()) == {None} and model["canary_exposure"] is None
        assert 0 < model["test_error"] < 1 and 0 < model["retain_error"] < 1
        assert model["test_psnr"] == pytest.approx(-10 * torch.tensor(model["test_loss"]).log10().item(), abs=1e-3)
        assert model["retain_psnr"] > 0 and model["retain_loss"] > 0
        for part in ("all", "triggered", "untriggered"):
            own = model["forget"][part]
            assert own["accuracy"] is None and own["count"] > 20
            assert 0 < own["error"] < 1 and own["psnr"] > 0 and own["loss"] > 0
        assert model["forget"]["canaries"] is None
        assert 0 <= model["backdoor_success"] <= 1 and 0 <= model["membership_auc"] <= 1
        assert model["cost"]["client_flops"] > 0 or model is models["unlearned"]


def test_the_report_shows_the_pictures_and_says_whose_they_are(served: Path, document: dict) -> None:
    page = (served / "report.html").read_text(encoding="utf-8")
    made = sorted(path.relative_to(served).as_posix() for path in served.glob("clients/*/picture-*.png"))
    assert made == [
        "clients/0/picture-forget-client-0-1.png",
        "clients/0/picture-unseen-client-0-1.png",
        "clients/1/picture-retain-client-0-1.png",
        "clients/1/picture-unseen-client-0-1.png",
    ]
    for path in made:
        assert base64.b64encode((served / path).read_bytes()).decode() in page
        assert (served / path).stat().st_mode & 0o077 == 0, "nobody else's"
    assert page.count("in a deployment they stay with the client") >= 4
    numbers = page.partition("All numbers")[2].partition("</section>")[0]
    assert "Test PSNR" in numbers and "accuracy" not in numbers and "class by class" not in page


def test_where_clients_are_elsewhere_there_are_no_pictures_to_show(
    served: Path, document: dict, tmp_path: Path
) -> None:
    from fedunlearn.comparison import client_pictures

    copy = Path(shutil.copytree(served, tmp_path / "run"))
    session = Federation.open(copy)._session()
    assert len(client_pictures(session, ["client-0-1"])) == 4
    shutil.rmtree(copy / "clients")
    assert client_pictures(session, ["client-0-1"]) == []


def test_a_quick_audit_judges_losses_and_regeneration(served: Path, document: dict) -> None:
    audit = Federation.open(served).audit(tier="quick").document
    assert [one["metric"] for one in audit["primary"]] == ["backdoor_success", "untriggered_loss", "test_loss"]
    assert audit["verdict"] == "inconclusive" and audit["left_out"] == {} and audit["accuracy"] is None
    assert "answers that are classes" in audit["described"]["entropy_attack"]["refused"]
    assert audit["described"]["membership_auc"]["unlearned"] is not None
    assert audit["described"]["harm.loss"]["unlearned"] is not None
    Federation.open(served).report()


def test_the_erased_lose_their_pictures(served: Path, document: dict, tmp_path: Path) -> None:
    copy = Federation.open(Path(shutil.copytree(served, tmp_path / "run")))
    copy.retrain()
    erasure = copy.erase("client-0-1", dry_run=True)
    assert {int(client): counts["files"] for client, counts in erasure.clients.items()} == {0: 3, 1: 2, 2: 0, 3: 0}


@pytest.mark.parametrize("method", ["scrub", "class-pruning", "fisher-forgetting", "federaser"])
def test_a_method_that_lacks_something_is_refused_by_name(trained: Path, tmp_path: Path, method: str) -> None:
    federation = Federation.open(Path(shutil.copytree(trained, tmp_path / "run")))
    why = "updates of the rounds" if method == "federaser" else f"answers with scores of classes, and task '{TASK}'"
    with pytest.raises(RequestError, match=f"method '{method}' needs .*{why}"):
        federation.unlearn(method=method)


@pytest.mark.parametrize("step", ["ascent", "relabel"])
def test_an_option_that_is_made_of_classes_is_refused(trained: Path, tmp_path: Path, step: str) -> None:
    federation = Federation.open(Path(shutil.copytree(trained, tmp_path / "run")))
    with pytest.raises(RequestError, match="'selective-channels' needs a task that answers with scores of classes"):
        federation.unlearn(rounds=1, ratio=0.5, forget_step=step)


def test_a_model_that_lost_what_was_learned_is_not_served(trained: Path, tmp_path: Path) -> None:
    federation = Federation.open(Path(shutil.copytree(trained, tmp_path / "run")))
    with pytest.raises(HarmfulModel, match="% of what the model before had learned"):
        federation.unlearn(method="over-forget", rounds=3, loss=1.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"canaries": "client=0,count=20"}, "canaries are wrong labels, and this task learns none"),
        ({"backdoor": "client=0,share=0.5,target=1"}, "target= is a label, and this task learns none"),
        ({"backdoor": "client=0,share=0.5"}, "lies in what is hidden from the model"),
        ({"task": "denoising:digits"}, "hides no part that is the same in every image"),
        ({"task": "colourisation:digits"}, "the images of 'digits' are grey"),
        ({"network": "lenet"}, "'lenet' does not complete images"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_made(changes: dict, words: str, tmp_path: Path) -> None:
    settings = {"task": TASK, **SETTINGS, **changes}
    with pytest.raises(SettingsError, match=words):
        Federation.simulate(out=tmp_path / "run", **settings)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_the_command_line_lists_the_tasks() -> None:
    result = CliRunner().invoke(app, ["list", "tasks", "--json"])
    listed = {one["name"]: one for one in json.loads(result.stdout)["tasks"]}
    assert "inpainting[=NUMBER]:SOURCE" in listed and "colourisation:SOURCE" in listed
    assert "diffusion" in listed["denoising[=NUMBER]:SOURCE"]["networks"]
