from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedunlearn.errors import CorruptModel, RequestError
from fedunlearn.federation import Federation
from fedunlearn.server import erasing
from fedunlearn.server.lineage import lineage
from fedunlearn.server.tombstones import tombstones

ID = "client-0-1"


def everything(federation: Federation) -> dict[str, bytes]:
    """Every file that could remember, by name."""
    folder = federation.folder
    paths = [path for path in folder.rglob("*") if path.is_file() and "ledger.sqlite" not in path.name]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.name != "run.lock"}


def test_a_dry_run_says_what_would_go_and_touches_nothing(audited: Federation) -> None:
    before, entries = everything(audited), audited._session().ledger.entries()
    plan = audited.erase(ID)
    assert plan.dry_run and not plan.finished
    assert everything(audited) == before and audited._session().ledger.entries() == entries
    assert {one.what for one in plan.models} >= {"round 1 of main", "round 2 of main"}
    assert "audit/comparison-client-0-1.json" in [one.name for one in plan.files]
    assert plan.bytes > 0 and any("no certificate was issued" in note for note in plan.notes)
    assert all(counts["models"] >= 1 for counts in plan.clients.values()) and len(plan.clients) == 3


def test_what_descends_from_the_data_goes_and_the_rest_stays(audited: Federation) -> None:
    audited.report()
    session = audited._session()
    line = lineage(session.ledger.entries())
    tainted = {state.digest for state in line.descendants(ID)}
    clean = set(line.states) - tainted
    served = session.ledger.branch("main").head  # type: ignore[union-attr]
    done = audited.erase(ID, dry_run=False)
    assert done.finished and done.served == served
    left = set(session.models.digests())
    assert not left & tainted and served in left and left == {d for d in clean if d in left} and len(left) >= 3
    assert {one.name for one in done.models} <= tainted
    for client in range(3):
        kept = {path.stem for path in (audited.folder / "clients" / str(client) / "base").glob("*.safetensors")}
        assert kept <= clean
    assert not (audited.folder / "report.html").exists() and not list(audited.folder.glob("comparison.*"))
    assert not list((audited.folder / "figures").iterdir())
    assert [path.name for path in (audited.folder / "audit").iterdir()] == [f"audit-{ID}.json"]
    assert audited.verify_ledger().problems == ()
    gone = tombstones(session.ledger.entries())
    assert set(gone.models) == {one.name for one in done.models} and gone.finished == {ID}


def test_federations_beside_the_run_go_too(audited: Federation) -> None:
    """Two that each did without half of the samples show which are memorised; each half saw some of what goes."""
    beside = Federation.simulate(
        "digits", clients=3, partition="iid", rounds=1, out=audited._session().folder.halves / "0"
    )
    digest = beside.train().digest
    plan = audited.erase(ID)
    assert f"halves/0/models/{digest}.safetensors" in [one.name for one in plan.files]
    audited.erase(ID, dry_run=False)
    assert not [path for path in beside.folder.rglob("*") if path.is_file()]


def test_erasing_again_changes_nothing(audited: Federation) -> None:
    audited.erase(ID, dry_run=False)
    before, entries = everything(audited), audited._session().ledger.entries()
    again = audited.erase(ID, dry_run=False)
    assert again.finished and again.models == again.files == ()
    assert audited.erase(ID).finished
    after = everything(audited)
    heads = {name for name in before if name.endswith("heads.json")}
    assert {n: b for n, b in after.items() if n not in heads} == {n: b for n, b in before.items() if n not in heads}
    assert audited._session().ledger.entries() == entries


def test_training_and_requests_go_on_afterwards(audited: Federation) -> None:
    audited.erase(ID, dry_run=False)
    audited.train(rounds=3)
    audited.request_deletion(client=1, classes=[5])
    audited.unlearn(method="fine-tune", rounds=1)
    audited.erase("client-1-1", dry_run=False)
    assert audited.verify_ledger().problems == ()
    assert all(one.state == "done" for one in audited.requests())


def test_a_later_request_is_audited_without_what_was_erased(audited: Federation) -> None:
    audited.erase(ID, dry_run=False)
    audited.request_deletion(client=1, classes=[5])
    audited.unlearn(method="fine-tune", rounds=1)
    document = audited.audit("client-1-1", "quick").document
    assert document["earlier"] == [] and document["accuracy"]["lost"] is not None
    bundle = audited.certify("client-1-1").bundle
    said = json.loads((bundle / "certificate.json").read_text())["certificate"]["not_covered"]
    assert any(f"was erased: {ID}" in sentence for sentence in said)


def test_what_needs_an_erased_model_says_why_it_is_gone(audited: Federation) -> None:
    audited.erase(ID, dry_run=False)
    with pytest.raises(CorruptModel, match=f"was erased with request {ID}"):
        audited.compare(ID, retrain=False)


def test_only_what_is_done_can_be_erased(federation: Federation) -> None:
    federation.request_deletion(client=0, classes=[1])
    with pytest.raises(RequestError, match="the ledger has no request"):
        federation.erase(ID)
    session = federation._session()
    session.ledger.add_request(
        id=ID, scope="client", targets=[0], classes=None, count=1, commitment="c", signature="s", arrived_round=2
    )
    with pytest.raises(RequestError, match=f"request {ID} is pending: .* once it is done"):
        federation.erase(ID)


def test_a_served_model_that_descends_from_the_data_is_not_left_standing(audited: Federation) -> None:
    session = audited._session()
    [served] = session.ledger.events("unlearned-model-served")
    session.ledger.move_head("main", served.detail["from"], "rolled-back")
    with pytest.raises(RequestError, match="the served model itself still descends from the data"):
        audited.erase(ID)
    assert session.models.has(served.detail["from"])


def test_a_model_that_no_entry_tells_of_goes_too(audited: Federation) -> None:
    session = audited._session()
    model = session.fresh(12345)
    digest = session.models.save(model)
    [found] = [one for one in audited.erase(ID, dry_run=False).models if one.name == digest]
    assert "no entry tells of it" in found.what and not session.models.has(digest)
    assert audited.verify_ledger().problems == ()


@pytest.mark.parametrize("step", ["models", "files", "clients", "finish"])
def test_an_erasure_that_is_cut_off_is_carried_through(
    audited: Federation, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Killed(BaseException):
        pass

    calls = 0

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        if step == "models":
            real = audited._session().models.__class__.remove

            def remove(store: object, digest: str) -> None:
                nonlocal calls
                calls += 1
                if calls == 3:
                    raise Killed
                real(store, digest)  # type: ignore[arg-type]

            patch.setattr(audited._session().models.__class__, "remove", remove)
        elif step == "files":
            patch.setattr(erasing, "told_as_sentence", die)
        elif step == "clients":
            patch.setattr(erasing, "_ask_clients", die)
        else:
            patch.setattr(erasing, "share_head", die)
        audited.erase(ID, dry_run=False)
    between = Federation.open(audited.folder).verify_ledger()
    assert between.problems == ()
    assert (step == "finish") != any("was cut off" in note for note in between.notes)
    again = Federation.open(audited.folder).erase(ID, dry_run=False)
    assert again.finished
    found = audited.verify_ledger()
    assert found.problems == () and found.notes == ()
    gone = tombstones(audited._session().ledger.entries())
    assert not any(audited._session().models.has(digest) for digest in gone.models)


def test_something_erased_that_is_there_again_is_found(audited: Federation) -> None:
    path = next(iter((audited.folder / "models").glob("*")))
    copies = {one.name: one.read_bytes() for one in path.parent.iterdir()}
    done = audited.erase(ID, dry_run=False)
    back = f"{done.models[0].name}.safetensors"
    (audited.folder / "models" / back).write_bytes(copies[back])
    [problem] = audited.verify_ledger().problems
    assert problem.kind == "erasure" and "is there again" in problem.sentence
    assert [one.name for one in audited.erase(ID, dry_run=False).models] == [done.models[0].name]
    assert audited.verify_ledger().problems == ()


def test_another_requests_comparison_stays(audited: Federation) -> None:
    audited.request_deletion(client=1, classes=[5])
    audited.unlearn(method="fine-tune", rounds=1)
    audited.compare("client-1-1", retrain=False).save(audited.folder)
    audited.erase(ID, dry_run=False)
    assert (audited.folder / "report.html").exists()
    assert (audited.folder / "audit" / "comparison-client-1-1.json").exists()
    assert json.loads((audited.folder / "comparison.json").read_text())["request"]["id"] == "client-1-1"


def test_a_client_that_is_away_leaves_the_erasure_open(audited: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    real = erasing.call_roll

    def without_one(*arguments: object) -> object:
        from dataclasses import replace

        roster = real(*arguments)  # type: ignore[arg-type]
        members = {client: member for client, member in roster.members.items() if client != 2}
        return replace(roster, members=members, absent=("client 2 is away.",))

    with monkeypatch.context() as patch:
        patch.setattr(erasing, "call_roll", without_one)
        partly = audited.erase(ID, dry_run=False)
    assert not partly.finished and partly.absent == ("client 2 is away.",)
    assert any("was cut off" in note for note in audited.verify_ledger().notes)
    rest = audited.erase(ID, dry_run=False)
    assert rest.finished and rest.clients["2"]["models"] > 0 and rest.clients["0"]["models"] == 0
    assert Path(audited.folder / "clients" / "2" / "inbox").is_dir()
