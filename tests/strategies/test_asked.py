from __future__ import annotations

import pytest

from fedunlearn.config import FederationSettings
from fedunlearn.errors import SettingsError, UnknownName
from fedunlearn.strategies.asked import AUTO, check_prepare_for, settings_beside, unlearn_settings

RECIPE = FederationSettings(rounds=9, local_epochs=4)


def test_retraining_takes_the_whole_recipe_and_others_their_own() -> None:
    retrain = unlearn_settings("retrain", recipe=RECIPE)
    assert (retrain.rounds, retrain.local_epochs) == (9, 4)
    shorter = unlearn_settings("retrain", rounds=2, recipe=RECIPE)
    assert (shorter.rounds, shorter.local_epochs) == (2, 4)
    selective = unlearn_settings("selective-channels", recipe=RECIPE)
    assert (selective.rounds, selective.local_epochs) == (3, 2)
    once = unlearn_settings("selective-channels", local_epochs=1, recipe=RECIPE)
    assert (once.rounds, once.local_epochs) == (3, 1)
    assert unlearn_settings("selective-channels").local_epochs == 1
    assert unlearn_settings(AUTO, recipe=RECIPE).local_epochs == 2


def test_what_values_leave_open_is_taken_from_the_recipe() -> None:
    assert settings_beside(RECIPE, {}) == unlearn_settings("selective-channels", recipe=RECIPE)
    assert settings_beside(RECIPE, {"method": "retrain"}) == unlearn_settings("retrain", recipe=RECIPE)
    given = settings_beside(RECIPE, {"method": "retrain", "local_epochs": 1, "learning_rate": 0.5})
    assert (given.rounds, given.local_epochs, given.learning_rate) == (9, 1, 0.5)
    with pytest.raises(SettingsError, match="there is no such setting; known: learning_rate"):
        settings_beside(RECIPE, {"epochs": 1})


def test_what_is_wrong_is_told() -> None:
    with pytest.raises(UnknownName, match="retrain"):
        unlearn_settings("retrian")
    with pytest.raises(SettingsError, match="ratio"):
        unlearn_settings("selective-channels", ratio=1.5)
    for method in ("selective-channels", "retrain", AUTO):
        with pytest.raises(SettingsError, match="rounds = 0: it should be greater than or equal to 1"):
            unlearn_settings(method, rounds=0, recipe=RECIPE)
        with pytest.raises(SettingsError, match="local-epochs = 0: it should be greater than or equal to 1"):
            unlearn_settings(method, local_epochs=0, recipe=RECIPE)


def test_auto_takes_what_every_method_has_and_no_option_of_one() -> None:
    settings = unlearn_settings(AUTO, 0.2, 5, 2, {"learning_rate": 0.5}, RECIPE)
    assert (settings.method, settings.ratio, settings.rounds, settings.local_epochs) == ("auto", 0.2, 5, 2)
    assert settings.learning_rate == 0.5 and settings.options == {}
    with pytest.raises(
        SettingsError, match="option 'forget_step' belongs to a single method, and 'auto' stands for any"
    ):
        unlearn_settings(AUTO, options={"forget_step": "reset"})
    with pytest.raises(SettingsError, match="rounds"):
        unlearn_settings(AUTO, rounds=0)


def test_only_methods_that_act_in_training_are_prepared_for() -> None:
    check_prepare_for([])
    check_prepare_for(["federaser", "conda"])
    with pytest.raises(UnknownName, match="federaser"):
        check_prepare_for(["federasr"])
    with pytest.raises(
        SettingsError, match=r"method 'retrain' needs nothing done in training; those that do: .*federaser"
    ):
        check_prepare_for(["conda", "retrain"])
