from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedunlearn import auditing
from fedunlearn.audit.verdict_document import deviations
from fedunlearn.auditing import Audit, settled
from fedunlearn.errors import FedunlearnError, RequestError, SettingsError
from fedunlearn.federation import Federation
from fedunlearn.reporting import audit_trail
from fedunlearn.reports.page_audit import requests_section
from fedunlearn.server.band import RECORDED
from fedunlearn.server.branches import RESTORED, SERVED, served_digest
from fedunlearn.server.certificate_check import check_bundle


@pytest.fixture(scope="module")
def audited_run(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One request, served by far more training than the federation had, and a band of eight.

    Copied by tests, never changed.
    """
    folder = shutil.copytree(trained_run, tmp_path_factory.mktemp("audited") / "run")
    federation = Federation.open(folder)
    request = federation.request_deletion(client=0)
    federation.unlearn(request, method="fine-tune", rounds=6)
    federation.audit(request, band=8, processes=0, restore=False)
    return folder


@pytest.fixture
def audited(audited_run: Path, tmp_path: Path) -> Federation:
    return Federation.open(shutil.copytree(audited_run, tmp_path / "run"))


@pytest.fixture
def undescribed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is described beside the verdict takes most of the time, and is looked at once."""
    monkeypatch.setattr(auditing, "describe", lambda *_: {})


@pytest.fixture
def no_retraining(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    asked: list[Any] = []

    def refuse(function: str, jobs: list[Any], *_: Any) -> list[Any]:
        asked.extend(jobs)
        raise FedunlearnError("nothing may be retrained here.")

    monkeypatch.setattr(auditing, "map_jobs", refuse)
    yield asked


def document_of(federation: Federation, request: str = "client-0-1") -> dict[str, Any]:
    written: dict[str, Any] = json.loads((federation.folder / "audit" / f"audit-{request}.json").read_text())
    return written


def test_the_document_says_everything_that_the_verdict_follows_from(audited: Federation) -> None:
    document = document_of(audited)
    assert deviations(document) == []
    assert (document["request"], document["scope"], document["tier"]) == ("client-0-1", "client", "standard")
    band = document["band"]
    assert band["size"] == len(set(band["seeds"])) == len(set(band["digests"])) == 8
    assert audited.settings.seed not in band["seeds"] and band["without"] == ["client-0-1"]
    assert [(entry["metric"], entry["kind"]) for entry in document["primary"]] == [
        ("forget_loss", "removal"),
        ("test_accuracy", "utility"),
    ]
    assert all(len(entry["retrained"]) == 8 for entry in document["primary"])
    session = audited._session()
    assert document["original"] == session.ledger.events(SERVED)[0].detail["from"]
    assert document["unlearned"] == served_digest(session)
    described = document["described"]["membership_auc"]
    assert len(described["retrained"]) == 8 and described["unlearned"] is not None
    assert document["accuracy"]["lost"] == document["accuracy"]["before"] - document["accuracy"]["unlearned"]


def test_the_ledger_knows_the_audit_and_the_band(audited: Federation) -> None:
    session = audited._session()
    (event,) = session.ledger.events("audited")
    data = (audited.folder / "audit" / event.detail["name"]).read_bytes()
    assert event.detail["sha256"] == hashlib.sha256(data).hexdigest()
    members = session.ledger.events(RECORDED)
    assert [one.detail["number"] for one in members] == list(range(1, 9))
    assert [one.detail["digest"] for one in members] == document_of(audited)["band"]["digests"]
    assert all(session.models.has(one.detail["digest"]) for one in members)
    assert not audited.verify_ledger().problems


def test_a_band_serves_every_later_audit_of_every_method(
    audited: Federation, no_retraining: list[Any], undescribed: None
) -> None:
    before = document_of(audited)["band"]
    for options in ({"band": 8}, {"tier": "quick"}, {"tier": "standard"}):
        audit = audited.audit(restore=False, **options)  # type: ignore[arg-type]
        assert audit.document["band"] == before
    audited.unlearn("client-0-1", method="retrain", rounds=1)
    other = audited.audit("client-0-1", restore=False)
    assert other.document["band"] == before and other.document["method"]["method"] == "retrain"
    assert len(audited._session().ledger.events(RECORDED)) == 8
    with pytest.raises(FedunlearnError):
        audited.audit(band=9, restore=False)
    assert [job["number"] for job in no_retraining] == [9]


def test_a_member_that_is_lost_is_made_again_and_is_the_same(audited: Federation, undescribed: None) -> None:
    band = document_of(audited)["band"]
    files = sorted((audited.folder / "audit").glob("band-*.json"))
    assert len(files) == 8
    files[2].unlink()
    files[4].write_text("{")
    (audited.folder / "models" / f"{band['digests'][6]}.safetensors").unlink()
    again = audited.audit(band=8, processes=0, restore=False).document["band"]
    assert (again["digests"], again["seeds"]) == (band["digests"], band["seeds"])


def test_quick_retrains_nothing(federation: Federation, no_retraining: list[Any]) -> None:
    request = federation.request_deletion(client=0)
    with pytest.raises(RequestError, match="has not been served yet"):
        federation.audit(request, tier="quick")
    federation.unlearn(request, method="fine-tune", rounds=1)
    audit = federation.audit(tier="quick")
    assert audit.verdict == "inconclusive" and "no retrained model" in audit.document["why"]
    assert audit.document["band"]["size"] == 0 and deviations(audit.document) == []


def test_what_was_filed_later_does_not_make_a_finished_band_useless(
    audited: Federation, no_retraining: list[Any], undescribed: None
) -> None:
    before = document_of(audited)["band"]
    audited.request_deletion(client=1, classes=[1])
    assert audited.audit("client-0-1", band=8, restore=False).document["band"] == before


def test_a_model_that_fails_is_served_no_longer_and_its_data_stays_out(
    audited: Federation, no_retraining: list[Any], undescribed: None
) -> None:
    session = audited._session()
    before, spoilt = document_of(audited)["original"], served_digest(session)
    failed = audited.audit()
    assert failed.verdict == "fail" and "test_accuracy" in failed.document["why"]
    assert (failed.document["restored"]["from"], failed.document["restored"]["to"]) == (spoilt, before)
    assert served_digest(session) == before and "is served again" in _shown(failed)
    (event,) = session.ledger.events(RESTORED)
    assert (event.detail["from"], event.detail["to"]) == (spoilt, before)
    # Said once: auditing again finds nothing more to take back.
    again = audited.audit().document
    assert again["restored"] is None and not again["in_use"]
    # The client goes on leaving its samples out; the next method that serves the request is served.
    assert [one.state for one in audited.requests()] == ["done"]
    (served,) = audited.unlearn("client-0-1", method="fine-tune", rounds=1)
    assert served_digest(session) == served.digest != before
    again = audited.audit(restore=False).document
    assert (again["original"], again["unlearned"]) == (before, served.digest)
    assert not audited.verify_ledger().problems


def test_a_model_that_fails_may_stay(audited: Federation, no_retraining: list[Any], undescribed: None) -> None:
    spoilt = served_digest(audited._session())
    kept = audited.audit(restore=False)
    assert kept.verdict == "fail" and kept.document["restored"] is None
    assert served_digest(audited._session()) == spoilt


def test_what_others_were_made_out_of_is_not_taken_back(audited: Federation, undescribed: None) -> None:
    second = audited.request_deletion(client=1, classes=[1])
    audited.unlearn(second, method="fine-tune", rounds=1)
    now = served_digest(audited._session())
    failed = audited.audit("client-0-1")
    assert failed.verdict == "fail" and failed.document["restored"]["to"] is None
    assert served_digest(audited._session()) == now and "it stays" in failed.document["restored"]["why"]


def test_a_process_that_is_killed_while_it_records_leaves_all_in_agreement(
    audited: Federation, undescribed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    before = document_of(audited)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("fedunlearn.server.audit_record.os", SimpleNamespace(replace=killed))
        audited.audit(tier="quick", restore=False)
    assert document_of(audited) == before
    assert not audited.verify_ledger().problems
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("fedunlearn.server.audit_record._record", killed)
        audited.audit(tier="quick", restore=False)
    # The document that was recorded is in its place by now, and the one that was not is gone.
    recorded = document_of(audited)
    assert recorded["created"] > before["created"]
    assert not audited.verify_ledger().problems
    audited.audit(tier="quick", restore=False)
    assert not list((audited.folder / "audit").glob("*-next.json"))
    assert not audited.verify_ledger().problems


def test_earlier_requests_are_judged_again_on_the_model_as_it_is_now(audited: Federation, undescribed: None) -> None:
    second = audited.request_deletion(client=1, classes=[1])
    audited.unlearn(second, method="fine-tune", rounds=1)
    document = audited.audit(second, band=4, processes=0, restore=False).document
    assert document["band"]["without"] == ["client-0-1", "client-1-1"]
    (earlier,) = document["earlier"]
    assert (earlier["request"], earlier["unlearned"]) == ("client-0-1", document["unlearned"])
    assert earlier["original"] == document_of(audited)["original"] != document["original"]
    assert deviations(document) == []
    first = document_of(audited)["accuracy"]
    assert document["accuracy"]["before"] == first["before"]
    assert "Earlier request client-0-1" in " ".join(_shown(Audit(document)).split())


def _shown(audit: Audit) -> str:
    from rich.console import Console

    console = Console(width=100, record=True, file=io.StringIO())
    console.print(audit.table())
    return console.export_text()


def test_of_several_methods_the_last_is_judged_or_the_one_that_is_named(
    federation: Federation, undescribed: None
) -> None:
    request = federation.request_deletion(client=0, classes=[1])
    served, beside = (federation.unlearn(request, method=name, rounds=1)[0] for name in ("fine-tune", "retrain"))
    last = federation.audit(request, "quick").document
    assert (last["unlearned"], last["in_use"]) == (beside.digest, False)
    named = federation.audit(request, "quick", method="fine-tune").document
    assert (named["unlearned"], named["in_use"], named["method"]["method"]) == (served.digest, True, "fine-tune")
    certificate = federation.certify(request)
    assert check_bundle(certificate.bundle).holds
    with pytest.raises(RequestError, match="was not unlearned by 'scrub', but by fine-tune, retrain"):
        federation.audit(request, "quick", method="scrub")


def test_the_table_shows_every_metric_and_the_verdict(audited: Federation) -> None:
    document = document_of(audited)
    shown = " ".join(_shown(Audit(document)).split())
    assert document["verdict"].capitalize() in shown and "against 8 retrained models" in shown
    assert all(entry["metric"] in shown for entry in document["primary"])


@pytest.mark.parametrize(
    ("tier", "band", "expected"),
    [
        (None, None, ("standard", 8)),
        (None, 20, ("full", 20)),
        (None, 12, ("standard", 12)),
        ("quick", None, ("quick", 0)),
        ("full", 30, ("full", 30)),
    ],
)
def test_which_audit_is_meant(tier: str | None, band: int | None, expected: tuple[str, int]) -> None:
    assert settled(tier, band) == expected


@pytest.mark.parametrize(("tier", "band"), [("slow", None), ("quick", 3), (None, 0), ("full", -1)])
def test_an_audit_that_does_not_exist_is_refused(tier: str | None, band: int | None) -> None:
    with pytest.raises(SettingsError, match=r"expected|makes no band"):
        settled(tier, band)


def test_after_each_of_four_requests_all_earlier_ones_are_judged_again(
    federation: Federation, undescribed: None
) -> None:
    asked: list[str] = []
    for client, label in ((0, 1), (1, 2), (2, 3), (0, 4)):
        request = federation.request_deletion(client=client, classes=[label])
        federation.unlearn(request, method="fine-tune", rounds=1)
        document = federation.audit(request, "quick", restore=False).document
        assert [one["request"] for one in document["earlier"]] == asked
        assert {one["unlearned"] for one in document["earlier"]} <= {document["unlearned"]}
        asked.append(request.id)
    trail = audit_trail(federation._session())
    assert [one.own["request"] for one in trail.standings()] == asked
    # The last audit is the latest judgement of each; accuracy is counted from before the first.
    assert {one.by["request"] for one in trail.standings()} == {asked[-1]}
    section = requests_section(trail)
    assert "4 requests were audited" in section and all(id in section for id in asked)
    before = {one.own["accuracy"]["before"] for one in trail.standings()}
    assert len(before) == 1 and document["accuracy"]["lost"] == before.pop() - document["accuracy"]["unlearned"]
