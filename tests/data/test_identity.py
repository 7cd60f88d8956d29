from __future__ import annotations

from fedunlearn.data.identity import ByIdentity, hashable


def test_what_has_a_hash_is_its_own_key() -> None:
    assert hashable("digits") == "digits"
    assert hashable(len) is len


def test_what_has_none_is_known_by_identity() -> None:
    one, equal = [1], [1]
    assert hashable(one) == hashable(one) == ByIdentity(one)
    assert hash(hashable(one)) == hash(hashable(one))
    assert hashable(one) != hashable(equal)
    assert {hashable(one): "one", hashable(equal): "equal"}[hashable(one)] == "one"
    one.append(2)
    assert hashable(one).item == [1, 2]  # type: ignore[union-attr]
