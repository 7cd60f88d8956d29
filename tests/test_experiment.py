"""Reading an experiment file: what it comes to, and a sentence for everything that is wrong in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedunlearn.errors import SettingsError
from fedunlearn.experiment import Run, read_experiment

GOOD = """
name = "leaving"
question = "Does it forget?"
seeds = [3, 5]
rounds_after = 1

[federation]
task = "digits"
clients = 4
backdoor = "client={client},share=0.5,target=0"

[request]
client = "largest"

[method]
rounds = 2

[controls.trigger-scrub]
method = "trigger-scrub"
options = { backdoor = "client={client},share=0.5,target=0" }

[[cells]]
name = "even"
federation = { partition = "iid" }

[[cells]]
name = "one-class"
request = { client = 2, classes = [3] }
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(text: str) -> Path:
        path = tmp_path / "experiment.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return put


def test_cells_change_the_federation_and_the_request(write: Write) -> None:
    experiment = read_experiment(write(GOOD))
    even, one_class = (Run(experiment, cell, seed=5) for cell in experiment.cells)
    assert (even.name, one_class.name) == ("even-seed5", "one-class-seed5")
    assert (even.federation().partition, one_class.federation().partition) == ("iid", "dirichlet:1.0")
    assert even.federation().seed == 5 and even.federation().clients == 4
    assert even.request().model_dump() == {"client": "largest", "classes": None, "samples": None}
    assert one_class.request().model_dump() == {"client": 2, "classes": (3,), "samples": None}
    assert even.method().rounds == 2 and even.method().method == "selective-channels"


def test_the_chosen_client_is_put_wherever_a_text_asks_for_it(write: Write) -> None:
    experiment = read_experiment(write(GOOD))
    run = Run(experiment, experiment.cells[0], seed=3)
    assert run.federation(2).backdoor == "client=2,share=0.5,target=0"
    assert run.controls(2)["trigger-scrub"].options["backdoor"] == "client=2,share=0.5,target=0"


def test_what_was_asked_names_defaults_and_tells_experiments_apart(write: Write) -> None:
    def asked(text: str) -> dict[str, object]:
        experiment = read_experiment(write(text))
        return Run(experiment, experiment.cells[0], seed=3).asked()

    before = asked(GOOD)
    assert before["federation"]["momentum"] == 0.9  # type: ignore[index]
    assert asked(GOOD.replace('question = "Does it forget?"', "")) == before
    assert asked(GOOD.replace("rounds = 2", "rounds = 3")) != before
    assert asked(GOOD.replace("rounds_after = 1", "rounds_after = 2")) != before
    assert asked(GOOD.replace("[federation]", '[federation]\nengine = "ray"')) == before


def test_little_is_needed(write: Write) -> None:
    experiment = read_experiment(write('name = "x"\n[federation]\n[request]\nclient = 0\n'))
    assert (experiment.seeds, experiment.question, len(experiment.cells)) == ((0,), "", 1)
    assert Run(experiment, experiment.cells[0], seed=0).name == "seed0"


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ('name = "leaving"', "", "the key 'name' is missing"),
        ("[request]", "[demand]", "the key 'request' is missing"),
        ("rounds_after", "round_after", "there is no such setting; known: .*rounds_after"),
        ("seeds = [3, 5]", "seeds = []", "seeds"),
        ("seeds = [3, 5]", "seeds = [3, -5]", "-5"),
        ("seeds = [3, 5]", "seeds = [3, 3]", "the seed 3 is there twice"),
        ('name = "one-class"', 'name = "even"', "the cell 'even' is there twice"),
        ('name = "one-class"', 'name = "../up"', r"'\.\./up'"),
        ('name = "one-class"', "rounds = 3", "there is no such setting; known: federation, name, request"),
        ("clients = 4", "clients = 1", "clients = 1"),
        ("clients = 4", "seed = 4", "list it under seeds"),
        ("clients = 4", "customers = 4", "customers.*there is no such setting"),
        ("client = 2,", "client = 4,", "there is no client 4; the clients are 0 to 3"),
        ("client = 2,", 'client = "smallest",', "expected a number, 'largest' or 'half-of-two-classes'"),
        ("client = 2,", "customer = 2,", "customer.*there is no such setting"),
        ("rounds = 2", "ratio = 1.5", "expected a share from 0 to 1"),
        ("rounds = 2", 'method = "selective-chanels"', "did you mean 'selective-channels'"),
        ("[controls.trigger-scrub]", "[controls.retrained]", "the control 'retrained' has the name of a model"),
        ('target=0" }', 'target=0,colour=red" }', "colour"),
        ("[method]", "[method", "not valid TOML"),
    ],
)
def test_every_mistake_is_one_sentence_that_names_the_file(
    write: Write, before: str, after: str, sentence: str
) -> None:
    assert before in GOOD
    path = write(GOOD.replace(before, after))
    with pytest.raises(SettingsError, match=sentence) as caught:
        read_experiment(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no experiment file .*nothing\.toml"):
        read_experiment(tmp_path / "nothing.toml")
