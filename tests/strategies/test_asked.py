from __future__ import annotations

import pytest

from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import SettingsError, UnknownName
from fedunlearn.strategies.asked import unlearn_settings


def test_what_is_not_said_is_the_default() -> None:
    assert unlearn_settings("selective-channels") == UnlearnSettings()


def test_words_become_settings_and_the_rest_the_method_s_options() -> None:
    options = {"learning_rate": 0.5, "attribution": "ablation"}
    made = unlearn_settings("selective-channels", {"hidden": 0.5}, 2, 4, options)
    assert (made.ratio, made.rounds, made.local_epochs, made.learning_rate) == ({"hidden": 0.5}, 2, 4, 0.5)
    assert made.options == {"attribution": "ablation"}
    assert options["learning_rate"] == 0.5


def test_what_is_wrong_is_found_at_once() -> None:
    with pytest.raises(UnknownName, match="did you mean 'retrain'"):
        unlearn_settings("retrian")
    with pytest.raises(SettingsError, match="guess"):
        unlearn_settings("selective-channels", options={"attribution": "guess"})
