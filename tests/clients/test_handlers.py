from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from fedunlearn.channels.mask import ChannelMask
from fedunlearn.channels.packing import digest_state
from fedunlearn.clients.filing import file_request
from fedunlearn.clients.handlers import kept_path
from fedunlearn.clients.site import Site
from fedunlearn.config import FederationSettings, UnlearnSettings, run_config_of
from fedunlearn.strategies.content import ARRAYS, BASE, CONFIG, FLAGS, MASK, METRICS, array_record, numpy_arrays

SiteOf = Callable[[int], Site]
Ask = Callable[..., Message]
Content = Callable[..., RecordDict]


def test_an_announcement_holds_scope_count_and_commitment_but_no_sample(site_of: SiteOf, ask: Ask) -> None:
    site = site_of(0)
    request = file_request(site.folder, site.holding, samples=site.holding.training_positions()[:7].tolist())
    said = ask(0, "query.requests").content.config_records[CONFIG]
    assert (said["ids"], said["scopes"], said["counts"], said["classes"]) == ([request.id], ["samples"], [7], [""])
    assert said["samples"] == len(site.holding)
    assert said["retained"] == len(site.training_samples())
    # Nothing else is in the reply; the commitment is salted.
    assert len(said) == 11 and request.salt not in str(dict(said))


def test_an_acknowledgement_changes_only_what_was_filed_here(site_of: SiteOf, ask: Ask) -> None:
    site = site_of(0)
    mine = file_request(site.folder, site.holding, classes=[1])
    told = {"ids": [mine.id, "client-1-1"], "states": ["running", "done"], "reasons": ["", ""]}
    said = ask(0, "query.acknowledge", RecordDict({CONFIG: ConfigRecord(told)})).content
    assert [(r.id, r.state) for r in site.inbox.all()] == [(mine.id, "running")]
    assert said.config_records[CONFIG]["ids"] == []


def test_an_impossible_acknowledgement_is_an_error(site_of: SiteOf, ask: Ask) -> None:
    site = site_of(0)
    mine = file_request(site.folder, site.holding, classes=[1])
    site.inbox.acknowledge(mine.id, "done")
    told = {"ids": [mine.id], "states": ["running"], "reasons": [""]}
    assert ask(0, "query.acknowledge", RecordDict({CONFIG: ConfigRecord(told)})).has_error()
    assert site.inbox.get(mine.id).state == "done"


def test_an_ordinary_round_leaves_out_what_was_filed(site_of: SiteOf, ask: Ask, train_content: RecordDict) -> None:
    site = site_of(0)
    whole = ask(0, "train", train_content).content
    assert whole.metric_records[METRICS]["num-examples"] == len(site.holding.training_positions())
    assert whole.config_records[FLAGS]["deletion-request"] is False
    request = file_request(site.folder, site.holding, classes=[1])
    fewer = ask(0, "train", train_content).content
    assert fewer.config_records[FLAGS]["deletion-request"] is True
    left = whole.metric_records[METRICS]["num-examples"] - len(site.forget_positions([request.id]))
    assert fewer.metric_records[METRICS]["num-examples"] == left
    assert digest_of(fewer) != digest_of(whole)


def digest_of(content: RecordDict) -> str:
    return digest_state(numpy_arrays(content.array_records[ARRAYS]))


def test_a_round_is_deterministic_and_depends_on_client_and_round(ask: Ask, train_content: RecordDict) -> None:
    first, again = ask(0, "train", train_content), ask(0, "train", train_content)
    assert digest_of(first.content) == digest_of(again.content)
    later = RecordDict({**train_content, CONFIG: ConfigRecord({"server-round": 2, "seed": 0})})
    assert digest_of(ask(0, "train", later).content) != digest_of(first.content)


def test_a_client_without_samples_says_so(site_of: SiteOf, ask: Ask, train_content: RecordDict) -> None:
    site = site_of(1)
    file_request(site.folder, site.holding)
    assert "no sample is left" in ask(1, "train", train_content).error.reason


def test_the_base_is_asked_for_once_and_kept(ask: Ask, phase_content: Content, model: dict) -> None:
    content = phase_content()
    without = RecordDict({name: record for name, record in content.items() if name != BASE})
    lacking = ask(0, "train.recover", without).content
    assert lacking.config_records[FLAGS]["needs-base"] is True
    assert not lacking.array_records[ARRAYS]
    assert not ask(0, "train.recover", content).has_error()
    assert ask(0, "train.recover", without).content.array_records[ARRAYS]
    assert "needs-base" not in ask(0, "train.recover", without).content.config_records[FLAGS]


def test_a_damaged_base_is_asked_for_again(site_of: SiteOf, ask: Ask, phase_content: Content) -> None:
    content = phase_content()
    ask(0, "train.recover", content)
    for path in site_of(0).base_models.folder.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:100])
    without = RecordDict({name: record for name, record in content.items() if name != BASE})
    assert ask(0, "train.recover", without).content.config_records[FLAGS]["needs-base"] is True
    assert ask(0, "train.recover", content).content.array_records[ARRAYS]


def test_a_base_under_another_digest_is_refused(ask: Ask, phase_content: Content, model: dict) -> None:
    other = {name: array + 1 for name, array in model.items()}
    reply = ask(0, "train.recover", phase_content(**{BASE: array_record(other)}))
    assert "does not have the digest" in reply.error.reason


def test_only_the_masked_rows_come_back_and_the_rest_of_the_base_stays(
    site_of: SiteOf, ask: Ask, phase_content: Content, model: dict
) -> None:
    layout = site_of(0).layout
    empty = ChannelMask.empty(layout).to_arrays()
    mask = ChannelMask.from_arrays({**empty, "convolution1": np.array([1, 4], np.int32)})
    rows = {"convolution1.weight": model["convolution1.weight"][[1, 4]], "convolution1.bias": np.zeros(2, "f4")}
    rows |= {name: model[name] for name in layout.output}
    content = phase_content(**{MASK: array_record(mask.to_arrays()), ARRAYS: array_record(rows)})
    sent = numpy_arrays(ask(0, "train.recover", content).content.array_records[ARRAYS])
    assert {name: array.shape for name, array in sent.items()} == {n: a.shape for n, a in rows.items()}
    assert not np.array_equal(sent["convolution1.weight"], rows["convolution1.weight"])


def test_a_mask_of_another_network_is_refused(ask: Ask, phase_content: Content) -> None:
    mask = array_record({"convolution9": np.array([1], np.int32)})
    assert "convolution9" in ask(0, "train.recover", phase_content(**{MASK: mask})).error.reason


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"method": "no-such"}, "no method called 'no-such'"),
        ({"phase": 9}, "same version of the method"),
        ({"phase": -1}, "same version of the method"),
        ({"phase": "0"}, "whole number 'phase'"),
        ({"seed": 0.5}, "whole number 'seed'"),
        ({"settings": '{"ratio": 3}'}, "ratio"),
    ],
)
def test_a_message_that_makes_no_sense_gets_a_sentence(
    ask: Ask, phase_content: Content, change: dict, sentence: str
) -> None:
    content = phase_content()
    content[CONFIG] = ConfigRecord({**content.config_records[CONFIG], **change})
    reason = ask(0, "train.recover", content).error.reason
    assert sentence in reason and "Traceback" not in reason


def test_the_audit_tells_the_parts_of_the_forget_set_apart(run_config: dict, ask: Ask, site_of: SiteOf) -> None:
    planted = FederationSettings(
        task="digits", clients=3, partition="iid", backdoor="client=0,share=0.5,target=0,size=2,margin=0"
    )
    run_config.update(run_config_of(planted))
    site = site_of(0)
    request = file_request(site.folder, site.holding)
    state = {name: tensor.numpy() for name, tensor in site.blank.state_dict().items()}
    config = {"base": digest_state(state), "requests": [request.id], "retained": True}
    content = RecordDict({CONFIG: ConfigRecord(config), BASE: array_record(state)})
    found = ask(0, "evaluate.audit", content).content.metric_records[METRICS]
    counted = {part: sum(found[f"forget.{part}.total"]) for part in ("all", "triggered", "untriggered")}  # type: ignore[arg-type]
    positions = site.forget_positions([request.id])
    assert counted["all"] == counted["triggered"] + counted["untriggered"] == len(positions)
    assert counted["triggered"] == int((site.holding.parts[positions] == "triggered").sum()) > 0
    assert not any(name.startswith(("retain", "forget.canaries")) for name in found)
    other = ask(1, "evaluate.audit", content).content.metric_records[METRICS]
    assert sum(other["retain.total"]) == len(site_of(1).training_samples())  # type: ignore[arg-type]
    assert not any(name.startswith("forget") for name in other)


def test_small_groups_give_counts_alone(ask: Ask, site_of: SiteOf, model: dict) -> None:
    site = site_of(0)
    request = file_request(site.folder, site.holding, samples=site.holding.training_positions()[:5].tolist())
    config = {"base": digest_state(model), "requests": [request.id], "retained": False}
    content = RecordDict({CONFIG: ConfigRecord(config), BASE: array_record(model)})
    found = ask(0, "evaluate.audit", content).content.metric_records[METRICS]
    assert set(found) == {"num-examples", "forget.all.correct", "forget.all.total"}


@pytest.mark.parametrize(("few", "told"), [(5, False), (25, True)])
def test_what_a_small_part_withholds_does_not_follow_from_the_whole(
    run_config: dict, ask: Ask, site_of: SiteOf, few: int, told: bool
) -> None:
    planted = "client=0,share=0.5,target=0,size=2,margin=0"
    run_config.update(run_config_of(FederationSettings(task="digits", clients=3, partition="iid", backdoor=planted)))
    site = site_of(0)
    kinds = site.holding.parts
    trained = site.holding.training_positions()
    chosen = [*trained[kinds[trained] == "triggered"][:few], *trained[kinds[trained] == "ordinary"][:30]]
    request = file_request(site.folder, site.holding, samples=[int(one) for one in chosen])
    state = {name: tensor.numpy() for name, tensor in site.blank.state_dict().items()}
    config = {"base": digest_state(state), "requests": [request.id], "retained": False}
    content = RecordDict({CONFIG: ConfigRecord(config), BASE: array_record(state)})
    found = ask(0, "evaluate.audit", content).content.metric_records[METRICS]
    assert ("forget.triggered.loss-sum" in found) is told
    for what in ("loss-sum", "loss-samples", "histogram"):
        assert (f"forget.all.{what}" in found) is told and f"forget.untriggered.{what}" in found
    assert sum(found["forget.all.total"]) == few + 30  # type: ignore[arg-type]


def test_the_mean_loss_of_a_few_forgotten_samples_stays_here(site_of: SiteOf, ask: Ask, phase_content: Content) -> None:
    site = site_of(0)
    layout = site.layout
    mask = array_record(ChannelMask.full(layout).to_arrays())
    told = []
    for count in (5, 25):
        positions = site.holding.training_positions(site.inbox.forgotten_positions())[:count].tolist()
        request = file_request(site.folder, site.holding, samples=positions)
        content = phase_content("selective-channels", 2, [request.id], **{MASK: mask})
        settings = UnlearnSettings(rounds=1, options={"forget_step": "ascent"})
        content[CONFIG] = ConfigRecord({**content.config_records[CONFIG], "settings": settings.model_dump_json()})
        told.append(ask(0, "train.forget", content).content.metric_records[METRICS])
    assert [set(one) & {"loss", "num-examples"} for one in told] == [{"num-examples"}, {"loss", "num-examples"}]


def test_where_a_client_keeps_what_it_does_not_send(site_of: SiteOf) -> None:
    folder = site_of(0).folder
    assert kept_path(folder, "attribution", ["a", "b"]).name == "attribution-a+b.npz"
    many = [f"client-0-{number}" for number in range(100)]
    assert len(kept_path(folder, "attribution", many).name) < 255
    assert kept_path(folder, "attribution", many) != kept_path(folder, "attribution", many[1:])
    with pytest.raises(Exception, match="not a request id"):
        kept_path(folder, "attribution", ["../../other"])
