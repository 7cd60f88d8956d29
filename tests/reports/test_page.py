from __future__ import annotations

import copy
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedunlearn.reports.page import page
from fedunlearn.reports.plots import Picture
from fedunlearn.reports.table import comparison_table, csv_text, markdown

VOID = {"meta", "img", "br", "hr", "link", "input"}
PICTURE = Picture("cost", "What did it <cost>?", "Shorter is cheaper.", b"\x89PNG")


class Reader(HTMLParser):
    """Checks that tags nest, and collects the text and everything that could be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.fetched += [text or "" for name, text in attributes if name in ("src", "href", "srcset", "action")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def test_needs_nothing_from_outside(document: dict[str, Any]) -> None:
    html = page(document, [PICTURE])
    reader = read(html)
    assert reader.fetched and all(source.startswith("data:image/png;base64,") for source in reader.fetched)
    assert not re.search(r"https?://|@import|url\(", html)


def test_the_answer_is_the_first_thing_after_the_request(document: dict[str, Any]) -> None:
    words = [text.strip() for text in read(page(document, [])).text if text.strip()]
    place = words.index("Mostly forgotten.")
    assert place <= 2
    assert words[place - 1].startswith("Was it forgotten? The request: forget everything that client 0")


def test_shows_and_explains_every_model_and_number(document: dict[str, Any]) -> None:
    text = " ".join(read(page(document, [])).text)
    for part in (
        "Back-door success",
        "88.4%",
        "A secret trigger",
        "Trigger scrubbing",
        "Gap left",
        "not a certificate",
    ):
        assert part in text
    assert "Canary exposure" not in text


def test_sentences_stand_one_after_the_other(document: dict[str, Any]) -> None:
    document["method"] = {"remarks": ["A bound.", "No claim."], "selected": ["one", "two"]}
    text = read(page(document, [])).text
    assert "A bound. No claim." in text and "one, two" in text


def test_what_comes_from_outside_cannot_become_markup(document: dict[str, Any]) -> None:
    evil = "<script>alert('x')</script>\"&"
    document["models"][evil] = copy.deepcopy(document["models"]["unlearned"])
    document["models"]["unlearned"]["test_accuracy_by_class"] = {evil: 0.5}
    document["run"][evil] = evil
    document["request"] |= {"scope": "classes", "classes": [evil], "clients": [evil]}
    assert page(document, [PICTURE]).count("<script>") == 1
    document["void"] = evil
    assert page(document, [PICTURE]).count("<script>") == 1


@pytest.mark.parametrize("document", [{}, {"models": {}}, {"models": None, "rounds": None, "request": None}])
def test_nothing_at_all_is_still_a_page(document: dict[str, Any]) -> None:
    assert "There is no answer yet." in " ".join(read(page(document, [])).text)


def places(item: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of the document that could be empty."""
    inner = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
    return [path, *(deeper for key, entry in inner for deeper in places(entry, (*path, key)))]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_value_may_be_null_or_missing(data: st.DataObject) -> None:
    from fedunlearn.reports.plots import FIGURES

    document = data.draw(st.sampled_from(SAMPLES).map(copy.deepcopy))
    for path in data.draw(st.lists(st.sampled_from(places(document)[1:]), max_size=6)):
        inside: Any = document
        for key in path[:-1]:
            inside = inside[key] if isinstance(inside, dict) and key in inside else None
        if isinstance(inside, dict) and data.draw(st.booleans()):
            inside.pop(path[-1], None)
        elif isinstance(inside, dict):
            inside[path[-1]] = None
    read(page(document, []))
    comparison_table(document)
    markdown(document)
    csv_text(document)
    data.draw(st.sampled_from(FIGURES))(document)


SAMPLES: list[dict[str, Any]] = []


@pytest.fixture(scope="module", autouse=True)
def _samples(comparison: dict[str, Any]) -> None:
    SAMPLES[:] = [comparison]
