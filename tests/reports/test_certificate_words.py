from __future__ import annotations

from typing import Any

import pytest

from fedunlearn.reports.certificate_words import certificate_words

TIME = "2026-11-21T10:30:00.000000+00:00"


@pytest.fixture
def certificate() -> dict[str, Any]:
    metric = {
        "metric": "forget_loss",
        "kind": "removal",
        "samples": None,
        "original": 0.06,
        "unlearned": 0.166,
        "interval": [0.12, 0.18],
        "limit": 0.2,
        "margin": 0.25,
        "bound": 0.1,
        "informative": True,
        "outcome": "pass",
    }
    return {
        "id": "f" * 32,
        "issued": TIME,
        "issuer": {"program": "fedunlearn 0", "run": "a" * 32, "public_key": "KEY"},
        "asked": [
            {
                "request": "client-0-1",
                "scope": "classes",
                "clients": [0],
                "classes": [3, 4],
                "samples": 40,
                "commitments": [],
                "signatures": "hold",
                "recorded": TIME,
                "done": TIME,
            }
        ],
        "done": {
            "method": "selective-channels",
            "original": "0" * 64,
            "unlearned": "1" * 64,
            "rounds": 3,
            "participants": [0, 1, 2],
            "instead_of": None,
        },
        "served": {"since": TIME, "model": "1" * 64, "is_unlearned": True},
        "audit": {"band": {"size": 8}, "restored": None},
        "metrics": [metric],
        "verdict": "pass",
        "why": "it is like the retrained ones.",
        "rests_on": "band",
        "earlier": [],
        "not_covered": ["Copies elsewhere."],
        "ledger": {"entries": 40, "head": "2" * 64},
    }


def test_it_says_everything_in_words(certificate: dict[str, Any]) -> None:
    text = "\n".join(certificate_words(certificate))
    for said in (
        "forget client 0's samples of the classes 3 and 4 (40 samples), signed by who asked; recorded 2026-11-21 10:30",
        "The model 000000000000 was changed into 111111111111 by selective-channels (3 rounds, 3 clients took part)",
        "It has been served since 2026-11-21 10:30 UTC.",
        "Against 8 models that were retrained without the data.",
        "forget loss: before 0.06, after 0.166; without the data 0.12 to 0.18: near enough.",
        "PASS: the model cannot be told from models that never saw the data",
        "It is like the retrained ones.",
        "What this certificate does not cover\n- Copies elsewhere.",
        "Signed with the key KEY of run " + "a" * 32 + ", at entry 40 of its ledger.",
    ):
        assert said in text


def test_what_it_rests_on_and_what_went_otherwise_is_said(certificate: dict[str, Any]) -> None:
    certificate["rests_on"] = "canaries"
    certificate["verdict"] = "fail"
    certificate["done"]["instead_of"] = "nabla-tau"
    certificate["served"] = {"since": TIME, "model": "3" * 64, "is_unlearned": False}
    certificate["audit"]["restored"] = "the model from before is served again."
    certificate["earlier"] = [{"request": "client-1-1", "verdict": "pass", "why": "still so."}]
    certificate["asked"][0] |= {"scope": "client", "clients": [2], "classes": None, "signatures": "fail"}
    certificate["metrics"][0] |= {"interval": None, "original": None, "outcome": "uninformative"}
    text = "\n".join(certificate_words(certificate))
    for said in (
        "On planted canaries alone",
        "FAIL: the model can be told",
        "in place of nabla-tau",
        "the model in use is 333333333333 by now",
        "The model from before is served again.",
        "client-1-1: pass. Still so.",
        "everything that client 2 contributed",
        "NOT signed by who asked",
        "forget loss: before -, after 0.166: shows nothing.",
    ):
        assert said in text


@pytest.mark.parametrize("scope", ["client", "classes", "samples", "class-everywhere"])
@pytest.mark.parametrize("outcome", ["pass", "fail", "open", "inconclusive", "uninformative"])
def test_there_are_words_for_everything(certificate: dict[str, Any], scope: str, outcome: str) -> None:
    certificate["asked"][0]["scope"] = scope
    certificate["metrics"][0]["outcome"] = outcome
    assert len(certificate_words(certificate)) > 10
