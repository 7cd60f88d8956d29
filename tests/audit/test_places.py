from __future__ import annotations

import pytest

from fedunlearn.audit.places import Place, from_text, to_text
from fedunlearn.errors import DataError

PLACES = (Place(0, references=(1, 2), before=3), Place(1, retrained=0, updates=(2, 3), shadows=(4, 4)))


def test_survive_the_message() -> None:
    assert from_text(to_text(PLACES), 5) == PLACES


@pytest.mark.parametrize("models", [0, 4])
def test_a_model_that_was_not_sent_is_refused(models: int) -> None:
    with pytest.raises(DataError, match=f"{models} were sent"):
        from_text(to_text(PLACES), models)


@pytest.mark.parametrize(
    "text", ["", "{", "7", "[7]", '[{"model": "0"}]', '[{"model": 0.5}]', '[{"model": true}]', '[{"model": 0, "x": 1}]']
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        from_text(text, 5)


def test_a_position_before_the_first_is_refused() -> None:
    with pytest.raises(DataError, match="names model -1"):
        from_text('[{"model": -1}]', 5)
