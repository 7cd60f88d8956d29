from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Message, RecordDict

from fedunlearn.audit.metric import Metric, metrics, number
from fedunlearn.audit.places import Place, to_text
from fedunlearn.channels.packing import digest_state
from fedunlearn.clients import measuring
from fedunlearn.clients.filing import file_request
from fedunlearn.clients.site import Site
from fedunlearn.config import FederationSettings, run_config_of
from fedunlearn.strategies.content import BASE, CONFIG, FLAGS, METRICS, array_record

Ask = Callable[..., Message]
MEASURE = "evaluate.measure"


@pytest.fixture
def other(model: dict) -> dict:
    return {name: array + np.float32(0.01) for name, array in model.items()}


@pytest.fixture
def content(model: dict, other: dict) -> Callable[..., RecordDict]:
    """A measurement of the base and of another model."""

    def make(requests: tuple[str, ...] = (), **changed: object) -> RecordDict:
        config = {
            "base": digest_state(model),
            "requests": list(requests),
            "metrics": ["membership_auc"],
            "models": [digest_state(model), digest_state(other)],
            "places": to_text([Place(0), Place(1)]),
            "seed": 3,
            **changed,
        }
        records = {CONFIG: ConfigRecord(config), BASE: array_record(model), "model-1": array_record(other)}
        return RecordDict(records)  # type: ignore[arg-type]

    return make


@pytest.fixture
def filed(site_of: Callable[[int], Site]) -> str:
    site = site_of(0)
    return file_request(site.folder, site.holding, classes=[1, 2]).id


def findings(reply: Message) -> dict:
    assert not reply.has_error(), reply.error.reason
    return dict(reply.content.metric_records[METRICS])


def test_a_target_measures_every_model_on_its_forget_set(ask: Ask, content: Callable, filed: str, site_of) -> None:
    found = findings(ask(0, MEASURE, content((filed,))))
    site = site_of(0)
    positions = site.forget_positions([filed])
    totals = np.bincount(site.holding.samples.labels[positions], minlength=10).tolist()
    for place in (0, 1):
        prefix = f"{place}/membership_auc/target"
        assert found[f"{prefix}/total"] == totals
        assert sum(found[f"{prefix}/members"]) == len(positions)
    assert found["0/membership_auc/target/members"] != found["1/membership_auc/target/members"]


def test_others_have_nothing_to_say_to_an_attack_on_a_target(ask: Ask, content: Callable, filed: str) -> None:
    assert findings(ask(1, MEASURE, content((filed,)))) == {}


def test_a_target_that_keeps_samples_answers_in_both_roles(
    site_of: Callable[[int], Site], content: Callable, filed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def measure(subject, generator):
        seen.append((subject.role, len(subject.forget), len(subject.parts), len(subject.retained)))
        return {"draw": int(torch.randint(1000, (), generator=generator))}

    metric = Metric("m", "M.", roles=frozenset({"target", "remaining"}), sends={"draw": number()}, measure=measure)
    monkeypatch.setitem(metrics._items, "m", metric)
    site = site_of(0)
    message = Message(content((filed,), metrics=["m"]), 1, MEASURE)
    found = findings(measuring.measure(message, site))
    kept, gone = len(site.training_samples()), len(site.forget_positions([filed]))
    assert seen == [("target", gone, gone, kept), ("remaining", 0, 0, kept)] * 2
    assert found["0/m/target/draw"] == found["1/m/target/draw"] != found["0/m/remaining/draw"]


@pytest.mark.parametrize(("few", "measured"), [(1, 30), (25, 55)])
def test_what_a_small_part_withholds_does_not_follow_from_what_is_measured(
    run_config: dict,
    site_of: Callable[[int], Site],
    content: Callable,
    monkeypatch: pytest.MonkeyPatch,
    few: int,
    measured: int,
) -> None:
    """A comparison tells the sums over the 30 others: those over all 31 would tell the single sample's."""
    planted = "client=0,share=0.5,target=0,size=2,margin=0"
    run_config.update(run_config_of(FederationSettings(task="digits", clients=3, partition="iid", backdoor=planted)))
    site = site_of(0)
    kinds, trained = site.holding.parts, site.holding.training_positions()
    chosen = [*trained[kinds[trained] == "triggered"][:few], *trained[kinds[trained] == "ordinary"][:30]]
    request = file_request(site.folder, site.holding, samples=[int(one) for one in chosen])
    seen = []

    def measure(subject, generator):
        assert len(subject.forget) == len(subject.parts) == len(subject.true_labels)
        seen.append((len(subject.forget), set(subject.parts) == {"ordinary"}))
        return {}

    monkeypatch.setitem(metrics._items, "m", Metric("m", "M.", roles=frozenset({"target"}), sends={}, measure=measure))
    measuring.measure(Message(content((request.id,), metrics=["m"]), 1, MEASURE), site)
    assert seen == [(measured, few == 1)] * 2


def test_a_metric_with_too_few_models_is_left_out(ask: Ask, content: Callable, filed: str) -> None:
    assert findings(ask(0, MEASURE, content((filed,), metrics=["lira_auc"]))) == {}


def test_a_base_that_is_lacking_is_asked_for_and_kept(ask: Ask, content: Callable, filed: str) -> None:
    without = content((filed,))
    base = without.pop(BASE)
    reply = ask(0, MEASURE, without)
    assert dict(reply.content.config_records[FLAGS]) == {"needs-base": True}
    first = findings(ask(0, MEASURE, RecordDict({**without, BASE: base})))
    assert findings(ask(0, MEASURE, without)) == first


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"metrics": ["no-such"]}, "no metric called 'no-such'"),
        ({"metrics": ["cost"]}, "not measured by name"),
        ({"places": "[7]"}, "cannot be read"),
        ({"places": to_text([Place(4)])}, "names model 4; 2 were sent"),
        ({"seed": "three"}, "cannot be measured by"),
    ],
)
def test_what_cannot_be_measured_is_said(ask: Ask, content: Callable, filed: str, changed: dict, sentence: str) -> None:
    reply = ask(0, MEASURE, content((filed,), **changed))
    assert reply.has_error() and sentence in reply.error.reason


def test_models_are_what_their_digests_say(ask: Ask, content: Callable, filed: str, model: dict, other: dict) -> None:
    forged = content((filed,), models=[digest_state(model), "0" * 64])
    assert "does not have the digest" in ask(0, MEASURE, forged).error.reason
    lacking = content((filed,))
    lacking.pop("model-1")
    assert "did not come with it" in ask(0, MEASURE, lacking).error.reason
