from __future__ import annotations

import torch

from fedunlearn.audit.places import Place
from fedunlearn.server.audited import Audited, Pool


def state(value: float) -> dict:
    return {"weight": torch.full((2,), value)}


def test_a_message_holds_every_model_once() -> None:
    one, two, three = state(1), state(2), state(3)
    pool, needs = Pool(), {"references", "before"}
    first = Audited(one, references=[two, three], before=one, retrained=two, shadows=[three])
    assert pool.place(first, needs) == Place(0, references=(1, 2), before=0)
    # Equal by value, another object.
    second = Audited(state(2), references=[state(3), state(4)], updates=[one])
    assert pool.place(second, needs | {"updates"}) == Place(1, references=(2, 3), updates=(0,))
    assert [float(model["weight"][0]) for model in pool.models] == [1, 2, 3, 4]
    assert len(pool.digests) == len(set(pool.digests)) == 4


def test_models_beside_it_are_counted_by_kind() -> None:
    given = Audited(state(1), references=[state(2)], before=state(3), updates=[state(4)] * 3).given
    assert given == {"references": 1, "before": 1, "retrained": 0, "updates": 3, "shadows": 0}
    assert Audited(state(1)).given["updates"] == 0
