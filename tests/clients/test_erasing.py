from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Message, RecordDict

from fedunlearn.clients.erasing import kept_files
from fedunlearn.clients.filing import file_request
from fedunlearn.clients.handlers import kept_path
from fedunlearn.clients.preparing import prepared_path
from fedunlearn.clients.site import Site
from fedunlearn.errors import RequestError
from fedunlearn.strategies.content import CONFIG, METRICS

Ask = Callable[..., Message]


@pytest.fixture
def kept(site_of: Callable[[int], Site]) -> tuple[Site, list[str]]:
    """Client 1 with two models and what it keeps of three jobs; the models' digests."""
    site = site_of(1)
    digests = [site.base_models.put({"weight": torch.tensor([float(number)])}) for number in range(2)]
    for requests in (["a"], ["b"], ["a", "b"]):
        np.savez(kept_path(site.folder, "attribution", requests), x=np.zeros(1))
    return site, digests


def content(keep: list[str], served: list[str], dry_run: bool) -> RecordDict:
    return RecordDict({CONFIG: ConfigRecord({"keep": keep, "served": served, "dry-run": dry_run})})


def counts(reply: Message) -> dict:
    return dict(reply.content.metric_records[METRICS])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.npz")}


def test_only_what_the_server_names_as_clean_stays(ask: Ask, kept: tuple[Site, list[str]]) -> None:
    site, (first, second) = kept
    asked = [second], ["a", "a+b"]
    assert counts(ask(1, "query.erase", content(*asked, True))) == {"models": 1, "files": 2}
    assert site.base_models.has(first) and len(names(site.folder)) == 3
    assert counts(ask(1, "query.erase", content(*asked, False))) == {"models": 1, "files": 2}
    assert not site.base_models.has(first) and site.base_models.has(second)
    assert names(site.folder) == {"attribution-b.npz"}
    assert counts(ask(1, "query.erase", content(*asked, False))) == {"models": 0, "files": 0}


@pytest.mark.parametrize("config", [{}, {"keep": []}, {"keep": "all", "served": []}, {"keep": [], "served": "a"}])
def test_a_message_that_does_not_say_what_to_keep_erases_nothing(
    ask: Ask, kept: tuple[Site, list[str]], config: dict
) -> None:
    site, digests = kept
    reply = ask(1, "query.erase", RecordDict({CONFIG: ConfigRecord(config)}))
    assert reply.has_error() and "does not say what to keep" in reply.error.reason
    assert all(site.base_models.has(digest) for digest in digests)


def test_no_name_leads_out_of_the_clients_folder(kept: tuple[Site, list[str]]) -> None:
    site, _ = kept
    with pytest.raises(RequestError):
        kept_files(site.folder, ["../../other"])


def test_unless_told_otherwise_it_only_counts(ask: Ask, kept: tuple[Site, list[str]]) -> None:
    site, digests = kept
    config = ConfigRecord({"keep": [], "served": []})
    assert counts(ask(1, "query.erase", RecordDict({CONFIG: config}))) == {"models": 2, "files": 0}
    assert all(site.base_models.has(digest) for digest in digests)


def test_what_was_prepared_goes_where_the_erased_request_was_filed_and_stays_elsewhere(
    ask: Ask, site_of: Callable[[int], Site]
) -> None:
    paths = {}
    for client in (0, 1):
        site = site_of(client)
        paths[client] = prepared_path(site.folder, "fine-tune")
        paths[client].parent.mkdir(parents=True, exist_ok=True)
        paths[client].write_bytes(b"x")
    filed = file_request(site_of(1).folder, site_of(1).holding, samples=list(range(20)))
    asked = content([], [filed.id, f"{filed.id}+other"], True)
    assert counts(ask(1, "query.erase", asked))["files"] == 1 and paths[1].is_file()
    # A request that was served together with the erased one is not the erased one.
    assert counts(ask(1, "query.erase", content([], ["other", f"{filed.id}+other"], False)))["files"] == 0
    for client in (0, 1):
        ask(client, "query.erase", content([], [filed.id, f"{filed.id}+other"], False))
    assert paths[0].is_file() and not paths[1].exists()
