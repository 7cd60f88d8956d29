from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedunlearn.clients.inbox import Inbox
from fedunlearn.errors import RequestError, SettingsError
from fedunlearn.federation import Federation
from fedunlearn.requesting import check_known

TINY = {"clients": 3, "partition": "iid", "rounds": 2, "local_epochs": 1, "learning_rate": 0.1}
FINE_TUNE = {"method": "fine-tune", "rounds": 1}


def test_a_class_everywhere_of_which_one_holder_has_left(federation: Federation) -> None:
    federation.request_deletion(client=0)
    federation.request_deletion(client=1, classes=[3])
    request = federation.request_deletion(classes=[3])
    assert request.clients == (2,)
    assert federation.request_deletion(classes=[3]) == request
    federation.unlearn(**FINE_TUNE)
    with pytest.raises(RequestError, match="already asked"):
        federation.request_deletion(
            client=2, samples=[int(Inbox(federation.folder / "clients" / "2").get(request.id).positions[0])]
        )


def test_a_holder_that_never_trained_on_a_class_is_not_asked_to_forget_it(tmp_path: Path) -> None:
    settings = {**TINY, "partition": "dirichlet:0.2", "held_out": 0.5, "rounds": 1}
    federation = Federation.simulate("digits", out=tmp_path / "run", **settings)
    last = federation._holding(2)
    assert np.isin(last.select(classes=[3]), last.held_out).all()
    assert federation.request_deletion(classes=[3]).clients == (0, 1)


def test_the_classes_of_a_request_are_those_of_all_its_targets(tmp_path: Path) -> None:
    settings = {**TINY, "partition": "pathological:5", "rounds": 1}
    federation = Federation.simulate("digits", out=tmp_path / "run", **settings)
    held = [set(federation._holding(client).classes_held()) for client in range(3)]
    one = next(iter(held[0] - held[1] or held[0] - held[2]))
    two = next(iter((held[1] | held[2]) - held[0]))
    federation.train()
    request = federation.request_deletion(classes=[one, two])
    assert request.classes == tuple(sorted((one, two)))
    assert federation.requests()[0].classes == request.classes
    federation.unlearn(**FINE_TUNE)
    [row] = federation._session().ledger.requests()
    assert (row.classes, row.count) == (request.classes, request.count)
    assert set(row.targets) == set(request.clients)


@pytest.mark.parametrize("some", [np.array([5, 3]), torch.tensor([5, 3]), {3, 5}, range(3, 6, 2)])
def test_samples_may_come_in_an_array(federation: Federation, some: Any) -> None:
    request = federation.request_deletion(client=np.int64(1), samples=some)
    assert (request.clients, Inbox(federation.folder / "clients" / "1").get(request.id).positions) == ((1,), (3, 5))


@pytest.mark.parametrize("what", [{"client": "0"}, {"client": 0, "classes": 3}, {"client": 0, "samples": [1.5]}])
def test_what_is_no_number_is_refused(federation: Federation, what: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"expected whole numbers, such as \[3, 4\]\."):
        federation.request_deletion(**what)
    assert federation.requests() == []


def test_a_request_is_known_by_ledger_or_inbox(federation: Federation) -> None:
    session = federation._session()
    with pytest.raises(RequestError, match=r"no request 'client-1-1'; there are: none\."):
        check_known(session, ["client-1-1"])
    request = federation.request_deletion(client=1, classes=[3])
    path = federation.folder / "clients" / "1" / "inbox" / f"{request.id}.json"
    path.write_text("{")  # a damaged one is there all the same, and is told of by whoever needs what is in it
    check_known(session, [request.id])
    with pytest.raises(RequestError, match=r"no request 'client-2-1'; there are: client-1-1\."):
        check_known(session, [request.id, "client-2-1"])
    check_known(session, [])


def test_asking_what_there_is_makes_nothing(federation: Federation) -> None:
    before = sorted(federation.folder.rglob("inbox"))
    assert federation.requests() == []
    assert sorted(federation.folder.rglob("inbox")) == before
