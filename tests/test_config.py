from __future__ import annotations

import pytest

from fedunlearn.config import FederationSettings, make_settings
from fedunlearn.errors import SettingsError
from fedunlearn.experiment import Cell


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"device": "tpu"}, "device = 'tpu': expected cpu, cuda or cuda:N."),
        ({"device": "cuda:1\n"}, "device = 'cuda:1\\n': expected cpu, cuda or cuda:N."),
        ({"prepare_for": "federaser,"}, "prepare-for = 'federaser,': expected names of methods joined by commas."),
    ],
)
def test_a_text_of_another_form_is_told_in_words_and_not_as_a_pattern(values: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError) as told:
        make_settings(FederationSettings, values)
    assert str(told.value) == sentence


def test_the_name_of_a_cell_is_told_what_it_may_hold() -> None:
    with pytest.raises(SettingsError, match=r"name = 'a/b': expected letters a to z, digits and \. _ = , \+ - alone"):
        make_settings(Cell, {"name": "a/b"})
    assert make_settings(Cell, {"name": "A=1,b+c-d_e.f"}).name == "A=1,b+c-d_e.f"


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0", "cuda:12"])
def test_devices_that_can_be_named(device: str) -> None:
    assert make_settings(FederationSettings, {"device": device}).device == device
