from __future__ import annotations

import pytest

from fedunlearn.errors import RequestError
from fedunlearn.federation import Federation

NOTHING = "no request has been served yet"


def test_which_requests_a_call_is_about(federation: Federation) -> None:
    with pytest.raises(RequestError, match=NOTHING):
        federation._meant(None)
    one = federation.request_deletion(client=0, classes=[1])
    # The only one that there is, served or not: it may be retrained for.
    assert federation._meant(None) == federation._meant(one) == federation._named(one.id) == [one.id]
    other = federation.request_deletion(client=1, classes=[1])
    with pytest.raises(RequestError, match=NOTHING):
        federation._meant(None)
    both = [one.id, other.id]
    federation.unlearn([one, other.id], method="fine-tune", rounds=1, together=True)
    assert federation._meant(None) == federation._named([one, other]) == federation._named("+".join(both)) == both
    with pytest.raises(RequestError, match="there is no request 'client-2-1'"):
        federation._meant([one, "client-2-1"])
