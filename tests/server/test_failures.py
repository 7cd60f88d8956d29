from __future__ import annotations

import pytest

from fedunlearn.errors import RequestError
from fedunlearn.federation import Federation
from fedunlearn.server.failures import FAILED, recorded


def test_what_failed_is_in_the_ledger(federation: Federation) -> None:
    with pytest.raises(RequestError, match="there is no open request"):
        federation.unlearn()
    [event] = federation._session().ledger.events(FAILED)
    assert event.detail["doing"] == "unlearn" and "there is no open request" in event.detail["why"]
    assert federation.verify_ledger().problems == ()


def test_what_works_leaves_no_failure(federation: Federation) -> None:
    with recorded(federation._session(), "nothing"):
        pass
    assert federation._session().ledger.events(FAILED) == []


def test_where_the_ledger_fails_its_own_error_is_told(federation: Federation) -> None:
    session = federation._session()
    with pytest.raises(RequestError, match="the first"), recorded(session, "anything"):
        session.ledger.close()
        session.folder.ledger.unlink()
        session.folder.ledger.write_bytes(b"no database")
        raise RequestError("the first")
