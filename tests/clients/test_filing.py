from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fedunlearn.clients.filing import file_request
from fedunlearn.clients.inbox import FiledRequest
from fedunlearn.clients.site import Site
from fedunlearn.errors import RequestError, SettingsError

SiteOf = Callable[[int], Site]


def file(site: Site, **what: object) -> FiledRequest:
    return file_request(site.folder, site.holding, **what)  # type: ignore[arg-type]


def trained(site: Site, count: int) -> list[int]:
    """Some samples that are trained on."""
    return site.holding.training_positions()[:count].tolist()


def test_a_client_a_class_and_samples(site_of: SiteOf) -> None:
    site = site_of(0)
    of_samples = file(site, samples=trained(site, 3))
    of_classes = file(site, classes=[4])
    whole = file(site)
    assert [r.scope for r in (of_samples, of_classes, whole)] == ["samples", "classes", "client"]
    assert [r.id for r in (of_samples, of_classes, whole)] == ["client-0-1", "client-0-2", "client-0-3"]
    assert of_classes.classes == (4,) and whole.classes is None
    assert (site.holding.samples.labels[list(of_classes.positions)] == 4).all()
    assert len(whole.positions) == len(site.holding)


def test_what_is_filed_is_out_at_once(site_of: SiteOf) -> None:
    site = site_of(1)
    before = len(site.training_samples())
    request = file(site, samples=trained(site, 5))
    assert len(site.training_samples()) == before - 5
    assert site.forget_positions([request.id]).tolist() == list(request.positions)


def test_the_same_again_files_nothing_twice(site_of: SiteOf) -> None:
    site = site_of(0)
    first = file(site, samples=trained(site, 2))
    assert file(site, samples=trained(site, 2)) == first
    assert len(site.inbox.all()) == 1


def test_a_part_of_what_was_asked_before_is_refused(site_of: SiteOf) -> None:
    site = site_of(0)
    file(site, samples=trained(site, 4))
    with pytest.raises(RequestError, match="already asked"):
        file(site, samples=trained(site, 3))


def test_classes_or_samples_but_not_both(site_of: SiteOf) -> None:
    with pytest.raises(SettingsError, match="not both"):
        file(site_of(2), classes=[1], samples=[1])


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ({"classes": []}, "no sample"),
        ({"samples": []}, "no sample"),
        ({"classes": [11]}, "no sample of class 11; classes there: 0, 1, 2"),
        ({"samples": [-1]}, "no sample -1"),
        ({"samples": [10**6]}, "its samples are 0 to"),
        ({"classes": list(range(10))}, "without a sample to train on"),
    ],
)
def test_what_cannot_be_asked(site_of: SiteOf, what: dict, sentence: str) -> None:
    site = site_of(2)
    with pytest.raises(RequestError, match=sentence):
        file(site, **what)
    assert site.inbox.all() == []


def test_samples_that_were_never_trained_on_leave_nothing_to_forget(site_of: SiteOf) -> None:
    site = site_of(2)
    with pytest.raises(RequestError, match="was ever trained on"):
        file(site, samples=site.holding.held_out[:3].tolist())
    mixed = [*site.holding.held_out[:1].tolist(), *trained(site, 1)]
    request = file(site, samples=mixed)
    assert site.forget_positions([request.id]).tolist() == trained(site, 1)


def test_everywhere_shares_an_id_and_may_empty_a_client(site_of: SiteOf) -> None:
    site = site_of(1)
    request = file(site, classes=list(range(10)), everywhere="class-0")
    assert (request.id, request.scope) == ("class-0", "class-everywhere")
    assert len(site.training_samples()) == 0
    assert np.array_equal(request.positions, np.arange(len(site.holding)))
