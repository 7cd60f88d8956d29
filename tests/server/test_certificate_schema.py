from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from fedunlearn.server.certificate_schema import SCHEMA

DOCUMENT = Path(__file__).parents[2] / "docs" / "certificate.schema.json"


def test_the_documented_schema_is_the_one_that_is_used() -> None:
    assert json.loads(DOCUMENT.read_text(encoding="utf-8")) == SCHEMA


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("whole", [{}, {"certificate": {}, "signature": {}}, [], None, {"certificate": {}, "extra": 1}])
def test_what_is_no_certificate_does_not_fit(whole: object) -> None:
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(whole)


def test_everything_says_what_it_is() -> None:
    def undescribed(schema: dict, where: str) -> list[str]:
        found = [where] if schema.get("type") == "object" and "description" not in schema else []
        for name, inner in schema.get("properties", {}).items():
            found += undescribed(inner, f"{where}.{name}")
        return found + (undescribed(schema["items"], f"{where}[]") if "items" in schema else [])

    assert undescribed(SCHEMA, "certificate.json") == []
