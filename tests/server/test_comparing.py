from __future__ import annotations

import pytest

from fedunlearn.errors import RequestError
from fedunlearn.federation import Federation
from fedunlearn.reports.answer import answer
from fedunlearn.server.branches import mask_of, unlearned_branch
from fedunlearn.server.comparing import void_because


@pytest.mark.parametrize(
    ("backdoor", "canaries", "named"),
    [
        (None, None, None),
        (0.8, None, None),
        (0.79, None, "back-door success is 0.790"),
        (None, 0.5, "canary exposure is 0.500"),
        (0.95, 0.2, "canary exposure is 0.200"),
    ],
)
def test_an_experiment_whose_plant_did_not_take_is_void(backdoor, canaries, named) -> None:
    why = void_because({"backdoor_success": backdoor, "canary_exposure": canaries})
    assert why is None if named is None else (named in why and "void" in why)


def test_a_back_door_makes_no_request_of_others_void() -> None:
    # It did not take, or went with an earlier request: the canaries of this one tell all the same.
    assert void_because({"backdoor_success": 0.0, "canary_exposure": 0.9}, with_backdoor=False) is None
    assert "canary exposure" in (void_because({"backdoor_success": 0.0, "canary_exposure": 0.1}, False) or "")


def test_the_last_unlearned_branch_and_its_mask(federation: Federation) -> None:
    request = federation.request_deletion(client=0, classes=[1])
    session = federation._session()
    with pytest.raises(RequestError, match="has not been served yet"):
        federation.compare(request)
    federation.unlearn(request, rounds=1, ratio=0.25)
    masked = unlearned_branch(session, [request.id])
    mask = mask_of(session, masked)
    assert mask is not None and {len(rows) for rows in mask.selected.values()} == {4, 8, 16}
    federation.unlearn(request, method="fine-tune", rounds=1)
    last = unlearned_branch(session, [request.id])
    assert last.settings["method"] == "fine-tune" and mask_of(session, last) is None
    document = federation.compare(request, retrain=False).document
    assert document["method"]["name"] == "fine-tune" and document["attribution"] is None


def test_a_comparison_shows_cost_rounds_and_attribution(federation: Federation) -> None:
    request = federation.request_deletion(client=0, classes=[1])
    federation.unlearn(request, rounds=1, ratio=0.25)
    document = federation.compare(request).document
    whole = sum(t.numel() * 4 for t in federation._session().blank.state_dict().values())
    models = document["models"]
    assert models["original"]["cost"]["rounds"] == 2 == len(document["rounds"]["original"])
    assert models["retrained"]["cost"]["client_epochs"] == 2.0 == models["original"]["cost"]["client_epochs"]
    assert models["retrained"]["cost"]["bytes_up"] == 2 * 3 * (whole + 3 * 8)
    assert models["unlearned"]["cost"]["bytes_up"] < models["fine-tuned"]["cost"]["bytes_up"] * 2
    assert models["unlearned"]["cost"]["attribution_seconds"] > 0
    assert document["method"]["selected"] == {"convolution1": "4/16", "convolution2": "8/32", "hidden": "16/64"}
    shown = document["attribution"]["hidden"]
    assert len(shown["forget"]) == len(shown["reference"]) == 64 and len(shown["selected"]) == 16
    assert document["void"] is None and document["after"] is None
    # Ten local passes of three clients, less what client 0 forgot, over samples of the same price.
    cost = {kind: model["cost"] for kind, model in models.items()}
    assert cost["original"]["active_clients"] == cost["unlearned"]["active_clients"] == 3
    assert 0 < cost["retrained"]["client_flops"] < cost["original"]["client_flops"]
    flops = cost["original"]["client_flops"] / cost["original"]["samples_processed"]
    assert cost["unlearned"]["client_flops"] == flops * cost["unlearned"]["samples_processed"]
    # The model before, one for the round, and the mask and reference attribution beside it.
    assert whole < cost["unlearned"]["stored_bytes"] < 4 * whole
    assert cost["unlearned"]["server_flops"] < cost["retrained"]["server_flops"] / 2
    assert document["peak_memory_bytes"] > 1e8


def test_what_further_rounds_bring_back_is_told_beside_retraining(federation: Federation) -> None:
    request = federation.request_deletion(client=0, classes=[1])
    federation.unlearn(request, rounds=1, ratio=0.25)
    after = federation.compare(request, rounds_after=1).document
    shown, models, later = after["after"]["resurfacing"], after["models"], after["after"]["models"]
    for kind in ("unlearned", "retrained"):
        change = later[kind]["forget"]["all"]["accuracy"] - models[kind]["forget"]["all"]["accuracy"]
        assert shown["all_accuracy"][kind] == pytest.approx(change)
    told = shown["forgotten_classes_accuracy"]
    assert told["excess"] == pytest.approx(told["unlearned"] - told["retrained"])
    assert "canary_exposure" not in shown


def test_a_retrained_model_that_lacks_later_requests_too_is_told(federation: Federation) -> None:
    first = federation.request_deletion(client=0, classes=[1])
    federation.unlearn(first, method="fine-tune", rounds=1)
    assert "retrained_without" not in federation.compare(first).document
    second = federation.request_deletion(client=1, classes=[2])
    federation.unlearn(second, method="fine-tune", rounds=1)
    # The one that was made in time is the reference still; the second request's own lacks nothing that is not its own.
    assert "retrained_without" not in federation.compare(first).document
    assert "retrained_without" not in federation.compare(second).document
    third = federation.request_deletion(client=2, classes=[3])
    federation.unlearn(third, method="fine-tune", rounds=1)
    federation.request_deletion(client=0, classes=[4])
    document = federation.compare(third).document
    assert document["retrained_without"] == ["client-0-2"]
    assert any("also lacks what client-0-2 asked for later" in one for one in answer(document).sentences)
