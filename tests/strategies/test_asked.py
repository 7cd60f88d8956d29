from __future__ import annotations

import pytest

from fedunlearn.config import FederationSettings
from fedunlearn.errors import SettingsError, UnknownName
from fedunlearn.strategies.asked import unlearn_settings

RECIPE = FederationSettings(rounds=9, local_epochs=4)


def test_retraining_takes_the_whole_recipe_and_others_their_own() -> None:
    retrain = unlearn_settings("retrain", recipe=RECIPE)
    assert (retrain.rounds, retrain.local_epochs) == (9, 4)
    shorter = unlearn_settings("retrain", rounds=2, recipe=RECIPE)
    assert (shorter.rounds, shorter.local_epochs) == (2, 4)
    selective = unlearn_settings("selective-channels", recipe=RECIPE)
    assert (selective.rounds, selective.local_epochs) == (3, 1)


def test_what_is_wrong_is_told() -> None:
    with pytest.raises(UnknownName, match="retrain"):
        unlearn_settings("retrian")
    with pytest.raises(SettingsError, match="ratio"):
        unlearn_settings("selective-channels", ratio=1.5)
