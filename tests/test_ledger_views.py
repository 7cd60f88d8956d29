from __future__ import annotations

from pathlib import Path

import pytest

from fedunlearn.errors import RequestError, RunFolderError
from fedunlearn.federation import Federation
from fedunlearn.ledger_views import export_ledger, lineage_view, read_certificate, shown_entries


def test_the_last_entries(audited: Federation) -> None:
    every = shown_entries(audited.folder)
    assert [one.document["number"] for one in every] == list(range(1, len(every) + 1))
    assert shown_entries(audited.folder, last=3) == every[-3:]
    assert shown_entries(audited.folder, last=0) == [] and shown_entries(audited.folder, last=10**6) == every
    assert all(len(one.row["what"]) <= 101 for one in every)


def test_an_entry_begins_with_what_it_is_about(audited: Federation) -> None:
    what = {one.document["kind"]: one.row["what"] for one in shown_entries(audited.folder)}
    assert what["round"].startswith("branch ") and ", number " in what["round"]
    assert what["request"].startswith("id client-0-1, scope ")
    assert what["event"].startswith("kind audited, request id client-0-1, ")


def test_what_was_erased_is_shown_as_such(audited: Federation) -> None:
    assert {model["where"] for model in lineage_view(audited.folder)["models"]} == {"stored"}
    audited.erase("client-0-1", dry_run=False)
    found = lineage_view(audited.folder)["models"]
    assert {model["where"] for model in found if model["descends_from"]} == {"erased"}
    assert {model["where"] for model in found if not model["descends_from"]} == {"stored"}
    with pytest.raises(RequestError):
        lineage_view(audited.folder, "none")


def test_a_copy_needs_an_empty_folder_and_heads_that_can_be_read(audited: Federation, tmp_path: Path) -> None:
    (audited.folder / "clients" / "0" / "heads.json").write_text("[]")
    with pytest.raises(RunFolderError, match="the heads of client 0 cannot be read"):
        export_ledger(audited.folder, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    with pytest.raises(RunFolderError, match="is not empty"):
        export_ledger(audited.folder, audited.folder)


@pytest.mark.parametrize("content", ["[]", "{}", '{"certificate": 3}'])
def test_what_is_no_certificate(tmp_path: Path, content: str) -> None:
    (tmp_path / "certificate.json").write_text(content)
    with pytest.raises(RunFolderError, match="is no certificate"):
        read_certificate(tmp_path)
