from __future__ import annotations

import pytest

from fedunlearn.catalogue import KINDS, catalogue
from fedunlearn.errors import SettingsError


@pytest.mark.parametrize("kind", KINDS)
def test_every_item_has_a_name_and_something_to_say(kind: str) -> None:
    known = catalogue(kind)
    names = [item["name"] for item in known]
    assert names == sorted(set(names)) and names
    assert all(item["name"] and len(item) > 1 and all(value != "" for value in item.values()) for item in known)


def test_what_the_documentation_names_is_known() -> None:
    assert {"mnist5k", "digits", "cifar10", "cifar100", "fashion-mnist", "svhn", "images:PATH"} <= names("tasks")
    assert {"selective-channels", "fine-tune", "retrain"} <= names("methods")
    assert {"test_accuracy", "backdoor_success", "membership_auc", "cost"} <= names("metrics")


def test_a_method_says_what_it_does_and_which_options_it_has() -> None:
    known = {item["name"]: item for item in catalogue("methods")}
    assert len({item["what"] for item in known.values()}) == len(known)
    assert known["zero-output-unit"]["options"] == ["unit"]


def names(kind: str) -> set[str]:
    return {item["name"] for item in catalogue(kind)}


def test_another_kind_is_refused() -> None:
    with pytest.raises(SettingsError, match="expected one of: tasks, methods, metrics"):
        catalogue("networks")
