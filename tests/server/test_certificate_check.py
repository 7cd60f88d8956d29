"""A bundle that was tampered with: what was done is found and named, offline."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedunlearn.canonical import canonical_bytes, tagged_bytes
from fedunlearn.errors import RunFolderError
from fedunlearn.federation import Federation
from fedunlearn.key_files import PrivateKey, read_key_file
from fedunlearn.ledger_head import SignedHead
from fedunlearn.server.certificate_check import check_bundle, read_key
from fedunlearn.server.certificate_schema import FORMAT
from fedunlearn.server.evidence import AUDIT, CERTIFICATE, HEADS, KEYS, LEDGER, MANIFEST, digest_of, manifest_of
from fedunlearn.server.ledger_chain import Entry


class Forger:
    """A bundle in the hands of somebody who makes everything fit that can be made to fit without the run's key."""

    def __init__(self, bundle: Path, key: PrivateKey | None) -> None:
        self.bundle = bundle
        self.key = key

    def read(self, name: str) -> Any:
        return json.loads((self.bundle / name).read_text())

    def entries(self) -> list[Entry]:
        return [Entry.of(json.loads(line)) for line in (self.bundle / LEDGER).read_text().splitlines()]

    def write(self, name: str, content: Any) -> None:
        data = content if isinstance(content, bytes) else canonical_bytes(content)
        (self.bundle / name).write_bytes(data)

    def write_entries(self, entries: list[Entry]) -> None:
        self.write(LEDGER, "".join(f"{entry.line()}\n" for entry in entries).encode())

    def fit(self, **changes: Any) -> None:
        """State the digests of the files as they are now, and sign anew if there is a key to sign with."""
        whole = self.read(CERTIFICATE)
        certificate = whole["certificate"] | changes
        certificate["evidence"] = {
            name: digest_of((self.bundle / name).read_bytes())
            for name in certificate["evidence"]
            if (self.bundle / name).exists()
        }
        signature = whole["signature"]
        if self.key is not None:
            value = self.key.sign(tagged_bytes(FORMAT, certificate))
            signature = {"algorithm": "Ed25519", "public_key": self.key.public_key, "value": value}
        self.write(CERTIFICATE, {"certificate": certificate, "signature": signature})
        names = [path.name for path in self.bundle.iterdir() if path.name != MANIFEST]
        self.write(MANIFEST, manifest_of({name: (self.bundle / name).read_bytes() for name in names}))


@pytest.fixture(scope="module")
def issued(audited_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PrivateKey]:
    """A bundle, and the key that signed it."""
    folder = tmp_path_factory.mktemp("issued") / "run"
    federation = Federation.open(shutil.copytree(audited_run, folder))
    return federation.certify().bundle, read_key_file(folder / "server-key.pem")


@pytest.fixture
def forger(issued: tuple[Path, PrivateKey], tmp_path: Path) -> Forger:
    """Somebody without the run's key, with a copy of the bundle."""
    return Forger(Path(shutil.copytree(issued[0], tmp_path / "bundle")), None)


@pytest.fixture
def operator(issued: tuple[Path, PrivateKey], tmp_path: Path) -> Forger:
    """Somebody who has the run's key and signs whatever he likes."""
    return Forger(Path(shutil.copytree(issued[0], tmp_path / "bundle")), issued[1])


def kinds(bundle: Path, **given: Any) -> set[str]:
    return {problem.kind for problem in check_bundle(bundle, **given).problems}


def test_an_untouched_bundle_holds_wherever_it_lies(forger: Forger) -> None:
    found = check_bundle(forger.bundle)
    assert found.problems == () and found.heads > 0
    assert "with --key" in found.notes[0]
    assert check_bundle(forger.bundle, key=found.first_key).notes == found.notes[1:]


def change_one_value(forger: Forger) -> None:
    whole = forger.read(CERTIFICATE)
    whole["certificate"]["asked"][0]["samples"] += 1
    forger.write(CERTIFICATE, whole)
    forger.fit()


def claim_a_pass(forger: Forger) -> None:
    forger.fit(verdict="pass", why="all is well.")


def swap_the_signature(forger: Forger) -> None:
    whole = forger.read(CERTIFICATE)
    value = forger.read(HEADS)["heads"]["client 0"][0]["signature"]
    forger.write(CERTIFICATE, {**whole, "signature": {**whole["signature"], "value": value}})
    forger.fit()


def sign_with_another_key(forger: Forger) -> None:
    forger.key = PrivateKey.generate()
    issuer = forger.read(CERTIFICATE)["certificate"]["issuer"]
    forger.fit(issuer={**issuer, "public_key": forger.key.public_key})


def edit_the_audit(forger: Forger) -> None:
    audit = forger.read(AUDIT)
    audit["primary"][0]["unlearned"] = audit["primary"][0]["original"]
    forger.write(AUDIT, audit)
    forger.fit()


def edit_an_entry(forger: Forger) -> None:
    entries = forger.entries()
    entries[5] = replace(entries[5], body=entries[5].body.replace("[0,1,2]", "[0,1]"), time="never")
    forger.write_entries(entries)
    forger.fit()


def delete_an_entry(forger: Forger) -> None:
    forger.write_entries([entry for entry in forger.entries() if entry.number != 6])
    forger.fit()


def exchange_two_entries(forger: Forger) -> None:
    entries = forger.entries()
    entries[4], entries[5] = replace(entries[5], number=5), replace(entries[4], number=6)
    forger.write_entries(entries)
    forger.fit()


def cut_the_end(forger: Forger) -> None:
    forger.write_entries(forger.entries()[:-2])
    forger.fit()


def forge_a_head(forger: Forger) -> None:
    heads = forger.read(HEADS)
    heads["heads"]["client 1"][0]["hash"] = "f" * 64
    forger.write(HEADS, heads)
    forger.fit()


def drop_a_file(forger: Forger) -> None:
    (forger.bundle / HEADS).unlink()
    forger.fit()


def drop_the_manifest(forger: Forger) -> None:
    (forger.bundle / MANIFEST).unlink()


def change_a_file_and_nothing_else(forger: Forger) -> None:
    forger.write(KEYS, forger.read(KEYS))


def add_a_file(forger: Forger) -> None:
    forger.write("notes.txt", b"also true")


def swap_a_clients_key(forger: Forger) -> None:
    keys = forger.read(KEYS)
    keys["clients"]["0"] = PrivateKey.generate().public_key
    forger.write(KEYS, keys)
    forger.fit()


def break_the_form(forger: Forger) -> None:
    whole = forger.read(CERTIFICATE)
    del whole["certificate"]["not_covered"]
    forger.write(CERTIFICATE, whole)
    forger.fit()


def say_a_thing_twice(forger: Forger) -> None:
    data = (forger.bundle / CERTIFICATE).read_bytes()
    forger.write(CERTIFICATE, data.replace(b'"verdict":', b'"verdict":"pass","verdict":', 1))


TAMPERING: Mapping[Callable[[Forger], None], tuple[str, str]] = {
    change_one_value: ("signature", "the certificate's signature fails"),
    claim_a_pass: ("verdict", "the certificate says 'pass', and what was measured gives 'inconclusive'"),
    swap_the_signature: ("signature", "the certificate's signature fails"),
    sign_with_another_key: ("key", "signed with a key that the ledger does not name"),
    edit_the_audit: ("audit", "audit.json is not an audit that the ledger tells of"),
    edit_an_entry: ("edited", "entry 6 ("),
    delete_an_entry: ("deleted", "entry 6 is missing"),
    exchange_two_entries: ("reordered", "entry 5 was written as entry 6"),
    cut_the_end: ("truncated", "the certificate was issued at entry"),
    forge_a_head: ("forged-head", "of client 1 is forged"),
    drop_a_file: ("missing-file", "heads.json is missing in the bundle"),
    drop_the_manifest: ("missing-file", "manifest.json is missing in the bundle"),
    change_a_file_and_nothing_else: ("changed-file", "keys.json is not the file whose digest the manifest states"),
    add_a_file: ("extra-file", "notes.txt does not belong to the bundle"),
    swap_a_clients_key: ("key", "keys.json: clients.0 is stated as"),
    break_the_form: ("schema", "'not_covered' is a required property"),
    say_a_thing_twice: ("changed-file", "certificate.json cannot be read as JSON (a name comes twice)"),
}


@pytest.mark.parametrize("tamper", TAMPERING, ids=lambda tamper: tamper.__name__)
def test_tampering_is_found_and_named(forger: Forger, tamper: Callable[[Forger], None]) -> None:
    kind, named = TAMPERING[tamper]
    tamper(forger)
    found = check_bundle(forger.bundle)
    assert not found.holds
    assert [one for one in found.problems if one.kind == kind and named in one.sentence], found.problems


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("asked.0.samples", 4000),
        ("asked.0.signatures", "not recorded"),
        ("done.method", "retrain"),
        ("done.participants", [0, 1, 2, 3]),
        ("done.original", "0" * 64),
        ("done.masks", ["0" * 64]),
        ("served.is_unlearned", False),
        ("audit.tier", "full"),
        ("metrics.0.unlearned", 0.5),
        ("metrics.0.margin", 9.0),
        ("verdict", "pass"),
        ("erased", {"client-0-1": True}),
        ("not_covered", ["Nothing."]),
        ("ledger.head", "0" * 64),
        ("issuer.run", "0" * 32),
    ],
)
def test_the_operator_cannot_certify_what_the_evidence_does_not_say(operator: Forger, path: str, value: Any) -> None:
    whole = operator.read(CERTIFICATE)
    place = whole["certificate"]
    *steps, last = path.split(".")
    for step in steps:
        place = place[int(step) if step.isdecimal() else step]
    place[last] = value
    operator.write(CERTIFICATE, whole)
    operator.fit()
    found = kinds(operator.bundle)
    assert found and "signature" not in found and found <= {"certificate", "verdict", "rewritten", "truncated"}


def test_what_the_operator_may_say_freely_is_little(operator: Forger) -> None:
    issuer = operator.read(CERTIFICATE)["certificate"]["issuer"]
    operator.fit(id="f" * 32, issued="2027-01-01T00:00:00+00:00", issuer={**issuer, "program": "another"})
    assert check_bundle(operator.bundle).problems == ()


def made_up(operator: Forger) -> PrivateKey:
    """The whole bundle anew, in a ledger of the forger's own: every participant of every round is another."""
    key = operator.key = PrivateKey.generate()
    entries: list[Entry] = []
    for entry in operator.entries():
        body = entry.body.replace('"participants":[0,1,2]', '"participants":[0,1]')
        if entry.kind == "server-key":
            body = json.dumps({"public_key": key.public_key})
        previous = entries[-1].hash if entries else entry.previous
        open_entry = replace(entry, body=body, previous=previous)
        entries.append(replace(open_entry, hash=open_entry.computed_hash()))
    operator.write_entries(entries)
    heads = operator.read(HEADS)
    for kept in heads["heads"].values():
        kept[:] = [
            replace(SignedHead.of(one), hash=entries[one["number"] - 1].hash).signed(key).document() for one in kept
        ]
    operator.write(HEADS, heads)
    keys = operator.read(KEYS)
    keys["server"][0]["public_key"] = key.public_key
    operator.write(KEYS, keys)
    certificate = operator.read(CERTIFICATE)["certificate"]
    operator.fit(
        issuer={**certificate["issuer"], "public_key": key.public_key},
        ledger={"entries": len(entries), "head": entries[-1].hash},
        done={**certificate["done"], "participants": [0, 1]},
    )
    return key


def test_a_bundle_that_was_made_up_as_a_whole_needs_something_from_elsewhere(
    operator: Forger, issued: tuple[Path, PrivateKey], tmp_path: Path
) -> None:
    true_heads = json.loads((issued[0] / HEADS).read_text())["heads"]["client 2"]
    key = made_up(operator)
    alone = check_bundle(operator.bundle)
    # By itself it fits; the notes say so, and how to look further.
    assert alone.problems == () and key.public_key in alone.notes[0] and "--heads" in alone.notes[1]
    assert kinds(operator.bundle, key=issued[1].public_key) == {"key"}
    file = tmp_path / "client-2.json"
    file.write_text(json.dumps({"heads": true_heads}))
    assert "rewritten" in kinds(operator.bundle, head_files=[file])
    assert check_bundle(issued[0], head_files=[file]).holds


def test_what_is_no_bundle_is_a_sentence(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(RunFolderError, match="is no evidence bundle"):
            check_bundle(path)


def test_a_key_is_read_as_text_or_from_a_file(issued: tuple[Path, PrivateKey], tmp_path: Path) -> None:
    public = issued[1].public_key
    (tmp_path / "key.txt").write_text(f"{public}\n")
    assert read_key(public) == read_key(str(tmp_path / "key.txt")) == read_key(str(issued[0] / KEYS)) == public
    for wrong in ("", "short", "x" * 44, str(issued[0] / HEADS)):
        with pytest.raises(RunFolderError, match="is no public key"):
            read_key(wrong)
