from __future__ import annotations

import pytest

from fedunlearn.channels.packing import digest_state
from fedunlearn.clients.app import client_app
from fedunlearn.config import run_config_of
from fedunlearn.engines.local import LocalGrid
from fedunlearn.errors import ClientError
from fedunlearn.federation import Federation
from fedunlearn.server.branches import served_digest
from fedunlearn.server.extra_round import updates_around
from fedunlearn.strategies.roster import Roster, call_roll


def test_a_round_around_the_model_keeps_the_updates_apart(federation: Federation) -> None:
    federation.request_deletion(client=0)
    session = federation._session()
    model = session.models.load(served_digest(session))
    run_config = {**run_config_of(federation.settings), "out": str(federation.folder)}
    with LocalGrid(client_app, 3, run_config) as grid:
        roster = call_roll(grid, 60.0)
        updates = updates_around(grid, roster, session, model, seed=5)
        again = updates_around(grid, roster, session, model, seed=5)
        with pytest.raises(ClientError, match="no client keeps samples"):
            updates_around(grid, Roster({}), session, model, seed=5)
    assert roster.retaining() == (1, 2) and len(updates) == 2
    assert len({digest_state(state) for state in (model, *updates)}) == 3
    assert [digest_state(one) for one in again] == [digest_state(one) for one in updates]
