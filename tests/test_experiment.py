"""Reading an experiment file: what it comes to, and a sentence for everything that is wrong in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fedunlearn.errors import SettingsError
from fedunlearn.experiment import Run, narrowed, read_experiment

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
    assert even.request().model_dump(exclude={"then"}) == {"client": "largest", "classes": None, "samples": None}
    assert one_class.request().model_dump(exclude={"then"}) == {"client": 2, "classes": (3,), "samples": None}
    assert even.steps == ("even",) and even.request().in_order() == (even.request(),)
    assert even.method().rounds == 2 and even.method().method == "selective-channels"


def test_requests_may_follow_one_another(write: Write) -> None:
    following = 'client = "largest"\nthen = [{ client = 1, samples = "random:0.2" }, { classes = [3] }]'
    experiment = read_experiment(write(GOOD.replace('client = "largest"', following)))
    run = Run(experiment, experiment.cells[0], seed=3)
    assert run.steps == ("even-after-1", "even-after-2", "even-after-3")
    first, second, third = run.request().in_order()
    assert (first.client, second.samples, third.classes) == ("largest", "random:0.2", (3,)) and not first.then
    # Settings are tuned on the first alone, and what asked before there were sequences is the same question still.
    tried = Run(experiment, experiment.cells[0], seed=3, trying=True)
    assert tried.steps == ("even",) and "then" not in tried.asked()["request"]
    assert len(run.asked()["request"]["then"]) == 2


@pytest.mark.parametrize(
    ("following", "sentence"),
    [
        ("{ client = 9 }", "there is no client 9"),
        ('{ client = "smallest" }', "expected a number"),
        ('{ client = 1, samples = "random:2" }', "share between 0 and 1"),
        ("{ client = 1, then = [{ client = 2 }] }", "has requests of its own that follow"),
        ("{ customer = 1 }", "there is no such setting"),
    ],
)
def test_what_is_wrong_in_a_later_request_is_told_too(write: Write, following: str, sentence: str) -> None:
    text = GOOD.replace('client = "largest"', f'client = "largest"\nthen = [{following}]')
    with pytest.raises(SettingsError, match=sentence):
        read_experiment(write(text))


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


CONTEST = """
name = "contest"
seeds = [3, 5]
methods = ["fine-tune", "selective-channels", "at random"]
band = 2

[budget]
client_epochs = 0.125

[settings."at random"]
method = "selective-channels"
local_epochs = 2
options = { ranking = "random" }

[tuning]
seeds = [7]
tries = 3

[tuning.space."at random"]
ratio = [0.1, 0.2, 0.3]
attribution = ["gradient-x-activation"]

[federation]
task = "digits"
clients = 4

[request]
client = "largest"
samples = "random:0.1"
"""


def test_contenders_have_the_rounds_that_fit(write: Write) -> None:
    experiment = read_experiment(write(CONTEST))
    run = Run(experiment, experiment.cells[0], seed=3)
    # An eighth of 15 rounds of 2 epochs are 3.75 client epochs.
    rounds = {name: (one.rounds, one.local_epochs) for name, one in run.contenders(0).items()}
    assert rounds == {"fine-tune": (3, 1), "selective-channels": (3, 1), "at random": (1, 2)}
    assert run.is_contest and (run.method(0).method, run.method(0).rounds) == ("fine-tune", 3)
    assert run.request().samples == "random:0.1" and run.band == 2
    asked = run.asked()
    assert list(asked["methods"]) == list(rounds) and asked["band"] == 2
    assert asked["budget"] == {"client_epochs": 0.125, "bytes": None}


def test_a_part_of_an_experiment_is_the_same_question(write: Write) -> None:
    whole = read_experiment(write(CONTEST))
    part = narrowed(whole, [5], ["fine-tune", "at random"])
    assert part.seeds == (5,) and narrowed(whole, None, None).model_dump() == whole.model_dump()
    ours, all_of_it = (Run(one, one.cells[0], seed=5) for one in (part, whole))
    assert ours.contenders(0) == {n: one for n, one in all_of_it.contenders(0).items() if n != "selective-channels"}
    assert list(ours.tries()) == ["fine-tune", "at random"]
    # What is left out takes its settings and its space along; else they would belong to nothing.
    assert list(Run(narrowed(whole, None, ["fine-tune"]), part.cells[0], seed=5).tries()) == ["fine-tune"]
    with pytest.raises(SettingsError, match="no seed 4; it has 3, 5"):
        narrowed(whole, [3, 4], None)
    with pytest.raises(SettingsError, match="no method scrub; it has fine-tune, selective-channels, at random"):
        narrowed(whole, None, ["scrub"])


def test_without_contenders_an_experiment_asks_for_what_it_always_did(write: Write) -> None:
    experiment = read_experiment(write(GOOD))
    run = Run(experiment, experiment.cells[0], seed=3)
    assert not run.is_contest
    assert set(run.asked()) == {"federation", "request", "method", "controls", "rounds_after", "pooled_audit"}


def test_a_method_under_test_beside_contenders_stays_it(write: Write) -> None:
    experiment = read_experiment(write(CONTEST + "\n[method]\nrounds = 2\n"))
    run = Run(experiment, experiment.cells[0], seed=3)
    assert not run.is_contest and (run.method(0).method, run.method(0).rounds) == ("selective-channels", 2)


def test_a_validation_request_has_the_tries_and_nothing_else(write: Write) -> None:
    experiment = read_experiment(write(CONTEST))
    run = Run(experiment, experiment.cells[0], seed=7, trying=True)
    tries = run.contenders(0)
    assert list(tries) == ["at random #1", "at random #2", "at random #3"]
    assert tries["at random #1"].ratio == "auto"
    found = [one for name, one in tries.items() if name != "at random #1"]
    assert {one.ratio for one in found} <= {0.1, 0.2, 0.3} and len({one.ratio for one in found}) == 2
    assert all(one.options["attribution"] == "gradient-x-activation" for one in found)
    assert (run.controls(0), run.band, run.is_contest) == ({}, 0, True)


def test_what_was_chosen_is_what_runs(write: Write) -> None:
    experiment = read_experiment(write(CONTEST))
    run = Run(experiment, experiment.cells[0], seed=3, chosen={"at random": {"ratio": 0.3, "attribution": "deeplift"}})
    chosen = run.contenders(0)["at random"]
    assert (chosen.ratio, chosen.options) == (0.3, {"ranking": "random", "attribution": "deeplift"})
    assert run.contenders(0)["selective-channels"].ratio == "auto"


def test_the_federation_prepares_for_whoever_needs_it(write: Write) -> None:
    plain = read_experiment(write(CONTEST))
    assert Run(plain, plain.cells[0], 3).federation().prepare_for == ""
    needy = read_experiment(write(CONTEST.replace('"fine-tune",', '"federaser",')))
    run = Run(needy, needy.cells[0], 3)
    assert run.federation().prepare_for == "federaser"
    given = CONTEST.replace('"fine-tune",', '"federaser",').replace(
        "clients = 4", 'clients = 4\nprepare_for = "quickdrop"'
    )
    both = read_experiment(write(given))
    assert Run(both, both.cells[0], 3).federation().prepare_for == "quickdrop,federaser"
    tested = read_experiment(write(GOOD.replace("rounds = 2", 'method = "federaser"')))
    assert Run(tested, tested.cells[0], 3).federation().prepare_for == "federaser"


def test_what_serves_in_a_contest_is_not_judged_for_harm(write: Write) -> None:
    harm = {}
    for text in (GOOD, CONTEST, CONTEST.replace("clients = 4", "clients = 4\nclass_harm = 0.3")):
        experiment = read_experiment(write(text))
        harm[text] = Run(experiment, experiment.cells[0], 3).federation().class_harm
    assert list(harm.values()) == [0.5, 1.0, 0.3]


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ('"fine-tune",', '"fine-tun",', "did you mean 'fine-tune'"),
        ('"fine-tune",', '"fine-tune", "fine-tune",', "the method 'fine-tune' is there twice"),
        ('method = "selective-channels"\n', "", "there is no method called 'at random'"),
        ("[budget]", "[budget]\nbytes = 0.1", "give client_epochs or bytes, not both"),
        ("seeds = [7]", "seeds = [5]", "the seed 5 is for tuning and for results"),
        ("seeds = [7]", "seeds = [7, 7]", "the tuning seed 7 is there twice"),
        ("tries = 3", "tries = 0", "tries = 0"),
        ('space."at random"', "space.elsewhere", r"tuning\.space\.elsewhere: there is no such method here"),
        ('["gradient-x-activation"]', '["gradient-x-nothing"]', "gradient-x-nothing"),
        ('"random:0.1"', '"random:2"', "with a share between 0 and 1"),
        ('samples = "random:0.1"', 'samples = "random:0.1"\nclasses = [1]', "names classes or samples, not both"),
        ("band = 2", "band = 2\n[controls.fine-tune]", "'fine-tune' is a method and a control"),
        ("band = 2", "band = -1", "band = -1"),
        ('[settings."at random"]', "[settings.unlearned]", "no method called 'at random'"),
        ('"selective-channels", "at', '"a | b", "at', "no method called 'a | b'"),
        ("[tuning]", '[settings."a | b"]\nmethod = "not"\n[tuning]', "must do without"),
    ],
)
def test_every_mistake_in_a_contest_is_one_sentence(write: Write, before: str, after: str, sentence: str) -> None:
    assert before in CONTEST
    path = write(CONTEST.replace(before, after, 1))
    with pytest.raises(SettingsError, match=sentence) as caught:
        read_experiment(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_guides_example_can_be_read(write: Write) -> None:
    guide = Path(__file__).parents[1] / "docs" / "guides" / "benchmarks.md"
    (text,) = re.findall(r"^```toml\n(.*?)^```", guide.read_text(encoding="utf-8"), re.M | re.S)
    experiment = read_experiment(write(text))
    run = Run(experiment, experiment.cells[0], seed=0)
    assert list(run.contenders(0)) == [*experiment.methods, "channels at random"]
    assert {name: len(several) for name, several in run.tries().items() if len(several) > 1} == {"scrub": 4}


def test_retraining_takes_the_federations_own_rounds_and_passes(write: Write) -> None:
    contest = """
name = "contest"
methods = ["fine-tune", "retrain", "shorter"]
[federation]
task = "digits"
rounds = 8
local_epochs = 4
[request]
client = 0
[settings.shorter]
method = "retrain"
rounds = 2
local_epochs = 1
"""

    def spent(text: str) -> dict[str, tuple[int, int]]:
        experiment = read_experiment(write(text))
        every = Run(experiment, experiment.cells[0], 0).contenders(0)
        return {name: (settings.rounds, settings.local_epochs) for name, settings in every.items()}

    assert spent(contest) == {"fine-tune": (3, 2), "retrain": (8, 4), "shorter": (2, 1)}
    # Half of its client epochs: four whole rounds of its own passes.
    within = spent(contest + "[budget]\nclient_epochs = 0.5\n")
    assert within == {"fine-tune": (8, 2), "retrain": (4, 4), "shorter": (16, 1)}
