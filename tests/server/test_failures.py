from __future__ import annotations

import pytest

from fedunlearn.errors import CorruptModel, FedunlearnError, RequestError, SettingsError, UnknownName
from fedunlearn.federation import Federation
from fedunlearn.server.failures import FAILED, recorded


def test_what_failed_is_in_the_ledger(federation: Federation) -> None:
    model = federation.folder / "models" / f"{federation.train().digest}.safetensors"
    whole = model.read_bytes()
    model.write_bytes(b"no model")
    with pytest.raises(CorruptModel):
        federation.train(3)
    model.write_bytes(whole)
    [event] = federation._session().ledger.events(FAILED)
    assert event.detail["doing"] == "train" and model.stem[:8] in event.detail["why"]
    assert str(federation.folder) not in event.detail["why"]
    assert federation.verify_ledger().problems == ()


@pytest.mark.parametrize("error", [RequestError, SettingsError, UnknownName])
def test_what_was_asked_for_and_cannot_be_is_no_failure(federation: Federation, error: type[FedunlearnError]) -> None:
    with pytest.raises(error, match="a slip of the hand"), recorded(federation._session(), "anything"):
        raise error("a slip of the hand")
    with pytest.raises(RequestError, match="there is no open request"):
        federation.unlearn()
    assert federation._session().ledger.events(FAILED) == []


def test_what_works_leaves_no_failure(federation: Federation) -> None:
    with recorded(federation._session(), "nothing"):
        pass
    assert federation._session().ledger.events(FAILED) == []


def test_where_the_ledger_fails_its_own_error_is_told(federation: Federation) -> None:
    session = federation._session()
    with pytest.raises(CorruptModel, match="the first"), recorded(session, "anything"):
        session.ledger.close()
        session.folder.ledger.unlink()
        session.folder.ledger.write_bytes(b"no database")
        raise CorruptModel("the first")
