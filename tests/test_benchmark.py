"""A benchmark from its file to its tables, what is gone on with, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fedunlearn.benchmark as module
from fedunlearn.benchmark import benchmark
from fedunlearn.errors import FedunlearnError, RequestError, SettingsError
from fedunlearn.progress import Progress
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.session import Session

EXPERIMENT = """
name = "tiny"
question = "Does a tiny one run?"
seeds = [0]

[federation]
task = "digits"
network = "perceptron"
clients = 3
rounds = 1
local_epochs = 1
partition = "iid"

[request]
client = "largest"

[method]
rounds = 1

[[cells]]
name = "client"

[[cells]]
name = "class"
request = { client = 1, classes = [3] }
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(EXPERIMENT, encoding="utf-8")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.slow
def test_two_cells_run_in_processes_and_only_what_lacks_is_run_again(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, told = tmp_path / "out", list[Progress]()
    results = benchmark(experiment, out, told.append, processes=2)
    assert [(cell["cell"], cell["seeds"]) for cell in results["cells"]] == [("client", [0]), ("class", [0])]
    assert sorted(one.detail for one in told) == ["class-seed0", "client-seed0"]
    assert [(one.step, one.total) for one in told] == [(1, 2), (2, 2)]
    made = contents(out / "cells")
    assert set(made) == {"class-seed0.json", "client-seed0.json"}
    models = results["cells"][1]["models"]
    assert list(models) == ["original", "unlearned", "retrained", "fine-tuned", "retrained-same-budget"]
    assert 0 <= models["unlearned"]["figures"]["forgotten_classes_accuracy"]["mean"] <= 1
    environments = results["provenance"]["environments"]
    assert {run for one in environments for run in one["runs"]} == {"client seed 0", "class seed 0"}
    assert all(len(run["digests"]["unlearned"]) == 64 for run in results["provenance"]["runs"])
    page = (out / "results.md").read_text()
    assert page.startswith("# tiny\n\nDoes a tiny one run?\n") and page.count("\n## ") == 3

    # A run that was ended before its document was written is gone on with, and comes to the same.
    (out / "cells" / "class-seed0.json").unlink()
    ran = list[str]()
    do = module.do
    monkeypatch.setattr(module, "do", lambda run, out: (ran.append(run.name), do(run, out)))
    again = benchmark(experiment, out, processes=1)
    assert ran == ["class-seed0"]
    assert [one["models"] for one in again["cells"]] == [one["models"] for one in results["cells"]]
    remade = contents(out / "cells")
    assert remade["client-seed0.json"] == made["client-seed0.json"]
    documents = [json.loads(one["class-seed0.json"]) for one in (made, remade)]
    assert documents[0]["models"] == documents[1]["models"]

    # Further models are added to what is there; another federation is not mixed in.
    experiment.write_text(EXPERIMENT + '\n[controls.zeroed]\nmethod = "zero-output-unit"\n', encoding="utf-8")
    ran.clear()
    more = benchmark(experiment, out, processes=1)
    assert ran == ["client-seed0", "class-seed0"]
    assert "zeroed" in more["cells"][0]["models"]
    digests = [one["provenance"]["runs"][0]["digests"]["retrained"] for one in (results, more)]
    assert digests[0] == digests[1]
    experiment.write_text(EXPERIMENT.replace("clients = 3", "clients = 4"), encoding="utf-8")
    with pytest.raises(SettingsError, match="made with another federation"):
        benchmark(experiment, out, processes=1)


def test_one_run_that_fails_does_not_stop_the_others(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def do(run: Any, out: Path) -> None:
        if run.cell.name == "client":
            raise RequestError("nobody is left.")
        (out / "cells" / f"{run.name}.json").write_text("{}")

    monkeypatch.setattr(module, "do", do)
    with pytest.raises(RequestError, match=r"1 of 2 runs did not work; client-seed0: nobody is left\."):
        benchmark(experiment, tmp_path / "out", processes=1)
    assert (tmp_path / "out" / "cells" / "class-seed0.json").is_file()


@pytest.mark.slow
def test_what_fails_in_a_process_is_told_in_one_sentence(experiment: Path, tmp_path: Path) -> None:
    # Known only where the data is: no client holds a class 30.
    text = EXPERIMENT.replace("classes = [3]", "classes = [30]").replace('"largest"', '"half-of-two-classes"')
    experiment.write_text(text, encoding="utf-8")
    with pytest.raises(
        FedunlearnError, match=r"2 of 2 runs did not work; .*-seed0: (no client fits|client 1 holds)"
    ) as caught:
        benchmark(experiment, tmp_path / "out", processes=2)
    assert "\n" not in str(caught.value)


def test_processes_are_counted_from_one(experiment: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="processes = 0"):
        benchmark(experiment, tmp_path / "out", processes=0)


CONTEST = """
name = "contest"
question = "Which of three?"
seeds = [0]
methods = ["not", "class-pruning", "half"]
band = 1

[budget]
client_epochs = 0.5

[settings.half]
method = "selective-channels"
ratio = 0.5
options = { forget_step = "reset" }

[tuning]
seeds = [5]
tries = 2
[tuning.space.half]
ratio = [0.2]

[federation]
task = "digits"
network = "perceptron"
clients = 3
rounds = 2
local_epochs = 2
partition = "iid"

[request]
client = "largest"
samples = "random:0.3"
"""


@pytest.mark.slow
def test_three_methods_compete_within_a_budget_and_one_that_cannot_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out, told = tmp_path / "contest.toml", tmp_path / "out", list[Progress]()
    path.write_text(CONTEST, encoding="utf-8")
    results = benchmark(path, out, told.append, processes=1)
    assert [(one.detail, one.step, one.total) for one in told] == [("seed5", 1, 2), ("seed0", 2, 2)]
    (cell,) = results["cells"]
    always = ["original", "retrained", "fine-tuned", "retrained-same-budget"]
    assert list(cell["models"]) == [*always, "not", "half"], "what serves in no method's name is left out"
    refused = cell["methods"]["class-pruning"]
    assert "does not serve requests of scope samples" in refused["cannot"]["0"]
    # Half of 2 rounds of 2 epochs: 2 client epochs, 2 rounds of 1 epoch.
    for name in ("not", "half"):
        budget = cell["methods"][name]["budget"]
        assert (budget["allowed"], budget["spent"]["mean"], budget["over"]) == (2.0, 2.0, [])
        assert cell["models"][name]["figures"]["cost.rounds"]["mean"] == 2
    assert cell["retrained_band"]["size"] == 2
    assert cell["retrained_band"]["distance_to_retrained"]["mean"] > 0

    # The better try on the validation request is what ran on the other.
    tries = results["tuning"]["cells"][""]["half"]
    distances = [one["distance"]["mean"] for one in tries]
    (chosen,) = [index for index, one in enumerate(tries) if one["chosen"]]
    assert distances[chosen] == min(distances)
    assert cell["methods"]["half"]["settings"]["ratio"] == [0.5, 0.2][chosen]
    assert [len(several) for several in results["tuning"]["cells"][""].values()] == [1, 1, 2]

    # All from the same original model; the band's model is another one.
    (run,) = results["provenance"]["runs"]
    assert len(set(run["digests"].values())) == len(run["digests"])
    document = json.loads((out / "cells" / "seed0.json").read_text())
    assert document["band"] == ["retrained-band-1"]
    assert results["provenance"]["environments"][0]["memory"] > 10**8

    # Nothing is run again; a larger budget is another question to the same federation.
    again = benchmark(path, out, processes=1)
    assert again["cells"] == results["cells"]
    trained = list[str]()
    monkeypatch.setattr(module, "do", lambda run, out: trained.append(run.name))
    path.write_text(CONTEST.replace("client_epochs = 0.5", "client_epochs = 0.75"), encoding="utf-8")
    benchmark(path, out, processes=1)
    assert trained == ["seed5", "seed0"]


@pytest.mark.slow
def test_a_budget_of_bytes_is_kept_by_what_moves_little_and_by_what_moves_all(tmp_path: Path) -> None:
    path, out = tmp_path / "bytes.toml", tmp_path / "out"
    text = CONTEST[: CONTEST.index("[tuning]")] + CONTEST[CONTEST.index("[federation]") :]
    text = text.replace("client_epochs = 0.5", "bytes = 0.5").replace("rounds = 2\n", "rounds = 4\n")
    text = text.replace("clients = 3", "clients = 4")
    path.write_text(text.replace('samples = "random:0.3"\n', "").replace("band = 1\n", ""), encoding="utf-8")
    (cell,) = benchmark(path, out, processes=1)["cells"]
    rounds = {}
    for name in ("not", "half"):
        budget = cell["methods"][name]["budget"]
        assert budget["of"] == "bytes" and budget["spent"]["mean"] <= budget["allowed"]
        rounds[name] = budget["rounds"]["mean"]
        # One more round would not fit.
        queries = 0 if name == "not" else 0.05 * budget["spent"]["mean"]
        a_round = (budget["spent"]["mean"] - queries) / rounds[name]
        assert budget["spent"]["mean"] + a_round > budget["allowed"]
    assert rounds["not"] == 2 < rounds["half"]


@pytest.mark.slow
def test_steps_of_the_targets_are_paid_with_rounds(tmp_path: Path) -> None:
    path, out = tmp_path / "steps.toml", tmp_path / "out"
    text = CONTEST[: CONTEST.index("[tuning]")] + CONTEST[CONTEST.index("[federation]") :]
    text = text.replace("rounds = 2\n", "rounds = 4\n").replace("band = 1\n", "")
    text = text.replace('"not", "class-pruning", "half"', '"neggrad-plus"').replace('client = "largest"\n', "")
    path.write_text(text.replace('samples = "random:0.3"', "classes = [3]"), encoding="utf-8")
    (cell,) = benchmark(path, out, processes=1)["cells"]
    # Everybody holds the class. A pass over it and one over the rest are one over all that a client holds.
    budget = cell["methods"]["neggrad-plus"]["budget"]
    spent = (budget["allowed"], budget["spent"]["mean"], budget["rounds"]["mean"])
    assert spent == pytest.approx((4.0, 4.0, 4))
    assert budget["over"] == []


SEQUENCE = """
name = "one-after-another"
seeds = [0]
methods = ["not", "class-pruning"]

[settings.not]
rounds = 1

[federation]
task = "digits"
network = "perceptron"
clients = 4
rounds = 2
local_epochs = 1
partition = "iid"

[request]
client = "largest"
then = [{ client = "largest", samples = "random:0.5" }]
"""


@pytest.mark.slow
def test_each_method_goes_on_from_its_own_model_after_the_request_before(tmp_path: Path) -> None:
    path, out = tmp_path / "sequence.toml", tmp_path / "out"
    path.write_text(SEQUENCE, encoding="utf-8")
    results = benchmark(path, out, processes=1)
    assert [(cell["cell"], cell["step"]["number"]) for cell in results["cells"]] == [("after-1", 1), ("after-2", 2)]
    first, second = (json.loads((out / "cells" / f"after-{step}-seed0.json").read_text()) for step in (1, 2))
    ledger = Session(RunFolder.open(out / "runs" / "seed0")).ledger
    heads = {branch.head: branch for branch in ledger.branches() if branch.state == "done"}
    for name in ("not", "fine-tuned"):
        assert heads[second["models"][name]["digest"]].settings["start"] == first["models"][name]["digest"]
    assert second["models"]["original"]["digest"] == first["models"]["original"]["digest"]

    # The second retrained model had neither the one's samples nor the other's, and is measured on both together.
    one, other = (ledger.request(id) for id in second["request"]["id"].split("+"))
    assert one.targets != other.targets and second["request"]["count"] == one.count + other.count
    asked = [entry["forget"]["retrained"]["count"] for entry in second["deletions"]]
    assert sum(asked) == second["models"]["retrained"]["forget"]["all"]["count"] > asked[0] > asked[1]
    assert (
        "deletions" not in first and second["models"]["retrained"]["digest"] != first["models"]["retrained"]["digest"]
    )
    assert "unlearned" not in second["deletions"][0]["forget"]

    # What cannot serve the first request has no model to serve the second from, though that is of another scope.
    assert "scope client" in results["cells"][0]["methods"]["class-pruning"]["cannot"]["0"]
    assert "no model to go on from" in results["cells"][1]["methods"]["class-pruning"]["cannot"]["0"]
    page = (out / "results.md").read_text()
    assert "## One request after another" in page and "| model | request 1 | request 2 |" in page

    # Killed between the two: the same figures. Another model would be trained without what was asked for since.
    (out / "cells" / "after-2-seed0.json").unlink()
    again = benchmark(path, out, processes=1)
    assert [cell["models"] for cell in again["cells"]] == [cell["models"] for cell in results["cells"]]
    path.write_text(SEQUENCE.replace('"not", ', '"not", "neggrad-plus", '), encoding="utf-8")
    with pytest.raises(SettingsError, match="no model can be added later"):
        benchmark(path, out, processes=1)


@pytest.mark.slow
def test_who_spends_less_than_a_pass_a_round_gets_the_rounds_that_fit(tmp_path: Path) -> None:
    path, out = tmp_path / "less.toml", tmp_path / "out"
    text = CONTEST[: CONTEST.index("[tuning]")] + CONTEST[CONTEST.index("[federation]") :]
    text = text.replace("rounds = 2\n", "rounds = 4\n").replace("band = 1\n", "").replace("0.5", "0.25", 1)
    text = text.replace('"not", "class-pruning", "half"', '"quickdrop"')
    path.write_text(text.replace('samples = "random:0.3"\n', ""), encoding="utf-8")
    (cell,) = benchmark(path, out, processes=1)["cells"]
    # Two rounds are planned for 2 client epochs; condensed samples are few, and twice as many rounds fit.
    budget = cell["methods"]["quickdrop"]["budget"]
    assert budget["rounds"]["mean"] == 4 and budget["spent"]["mean"] <= budget["allowed"] == 2.0
