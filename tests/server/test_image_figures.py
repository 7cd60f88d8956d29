"""A deletion where images are completed, end to end: what the target told, what is remarked, and what is compared."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from fedunlearn.audit.metric import metrics
from fedunlearn.federation import Federation
from fedunlearn.server.image_figures import FIGURES
from fedunlearn.strategies.decoupling import PATIENCE
from fedunlearn.summaries import UnlearningSummary

OPTIONS = {"step": 1.0, "clip": 0.1, "max_steps": 40}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Federation, str, UnlearningSummary]]:
    folder = tmp_path_factory.mktemp("images") / "run"
    federation = Federation.simulate(
        "inpainting:digits",
        network="auto-encoder-small",
        clients=4,
        partition="iid",
        rounds=2,
        local_epochs=2,
        learning_rate=0.1,
        class_harm=1.0,
        out=folder,
        workers=0,
    )
    federation.train()
    request = federation.request_deletion(client=0)
    [summary] = federation.unlearn(request, method="decouple-retain", rounds=1, **OPTIONS)
    yield federation, request.id, summary


def test_the_ledger_holds_what_the_target_told_of_its_step(served) -> None:
    federation, _, summary = served
    [row] = [row for row in federation._session().ledger.phases(summary.branch) if "decouple" in row.name]
    assert row.result["displaced"].keys() == row.result["batches"].keys() == {"0"}
    # Each of two ways ends at 95 %, at the last step that is allowed, or where answers have come no farther.
    steps = row.result["batches"]["0"] / 2
    assert row.result["displaced"]["0"] >= 0.95 or PATIENCE < steps <= OPTIONS["max_steps"]
    assert row.result["displacement"]["0"] > 0 and "sigma" not in row.result


def test_bounds_and_the_step_are_remarked_beside_the_result(served) -> None:
    _, _, summary = served
    told = " ".join(summary.remarks)
    assert "1 x 40 x 0.1 = 4 " in told and "nothing of the kind is claimed" in told
    assert re.search(r"Client 0 in train\.decouple: batches \d+, displaced [\d.]+, displacement [\d.]+\.", told)


def test_every_model_of_a_comparison_has_the_figures_of_images(served) -> None:
    federation, request, _ = served
    document = federation.compare([request]).document
    assert document["method"]["remarks"][0].startswith("Displacement bound")
    assert document["method"]["remarks"][-1].startswith("Client 0 in train.decouple: "), "how far it came is reported"
    for name, model in document["models"].items():
        assert model["images"].keys() == FIGURES.keys(), name
        assert 0 <= model["images"]["out_of_distribution"] <= 1
        assert -1 <= model["images"]["forget_ssim"] <= 1
    original = document["models"]["original"]["images"]
    assert original["out_of_distribution"] == 0 and original["threshold"] > 0
    assert document["models"]["retrained"]["images"]["displacement"] > 0


def test_the_figures_are_values_of_registered_metrics() -> None:
    for value in FIGURES.values():
        assert value in metrics.get(value.partition(".")[0]).values
