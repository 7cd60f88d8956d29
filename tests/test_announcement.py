from __future__ import annotations

import base64
from dataclasses import fields, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedunlearn.announcement import Announcement, check_request_id, check_scope, signature_holds
from fedunlearn.errors import RequestError


def signed() -> Announcement:
    key = Ed25519PrivateKey.generate()
    public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    unsigned = Announcement("abc", 3, "classes", (1, 4), 20, "f" * 64, public)
    return replace(unsigned, signature=base64.b64encode(key.sign(unsigned.signed_bytes())).decode())


def test_what_is_signed_verifies() -> None:
    announcement = signed()
    announcement.verify(announcement.public_key)


OTHER = {
    "id": "abd",
    "client": 4,
    "scope": "client",
    "classes": (1,),
    "count": 21,
    "commitment": "e" * 64,
    "public_key": base64.b64encode(bytes(32)).decode(),
    "signature": base64.b64encode(bytes(64)).decode(),
    "holders": 2,
}


@pytest.mark.parametrize("name", [one.name for one in fields(Announcement)])
def test_any_change_after_signing_is_found(name: str) -> None:
    announcement = signed()
    changed = replace(announcement, **{name: OTHER[name]})
    with pytest.raises(RequestError, match="is not signed with the key that client"):
        changed.verify(announcement.public_key)


def test_another_clients_signature_does_not_count() -> None:
    with pytest.raises(RequestError, match="client 3 registered"):
        signed().verify(signed().public_key)


@pytest.mark.parametrize("key", ["", "not base64!", "AAAA"])
def test_malformed_keys_hold_nothing(key: str) -> None:
    assert not signature_holds(key, signed().signature, b"")


@pytest.mark.parametrize("id", ["", "a/b", "..", "a.json", "x" * 65, "é"])
def test_ids_that_are_no_file_names(id: str) -> None:
    with pytest.raises(RequestError, match="is not a request id"):
        check_request_id(id)


def test_unknown_scope_names_the_known_ones() -> None:
    with pytest.raises(RequestError, match="client, classes, samples, class-everywhere"):
        check_scope("everything")
