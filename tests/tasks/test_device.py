from __future__ import annotations

import pytest
import torch

from fedunlearn.config import FederationSettings, make_settings
from fedunlearn.errors import SettingsError
from fedunlearn.tasks.device import SHARE_OF_MEMORY, THIS_PROCESSOR, Device, most_clients


def test_the_ordinary_settings_are_this_processor() -> None:
    assert Device.of(FederationSettings()) == THIS_PROCESSOR
    assert THIS_PROCESSOR.plain


@pytest.mark.parametrize("changed", [{"precision": "bfloat16"}, {"compile": True}])
def test_anything_else_has_digests_of_its_own(changed: dict) -> None:
    assert not Device.of(FederationSettings(**changed)).plain


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_device_that_is_not_there_gets_a_sentence(name: str) -> None:
    with pytest.raises(SettingsError, match=f"device = '{name}': torch finds 0 CUDA devices here"):
        Device.of(FederationSettings(device=name))


@pytest.mark.parametrize("wrong", [{"device": "gpu"}, {"precision": "float16"}, {"cohort": 0}, {"cohort": "some"}])
def test_settings_that_mean_nothing_are_refused(wrong: dict) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        make_settings(FederationSettings, wrong)


def test_layers_compute_in_the_precision_asked_for() -> None:
    layer = torch.nn.Linear(2, 2)
    with Device(precision="bfloat16").autocast():
        assert layer(torch.ones(1, 2)).dtype == torch.bfloat16
    with THIS_PROCESSOR.autocast():
        assert layer(torch.ones(1, 2)).dtype == torch.float32


def test_what_is_uploaded_arrives() -> None:
    first, second = THIS_PROCESSOR.upload(torch.arange(3), torch.ones(2)).wait()
    assert first.tolist() == [0, 1, 2] and second.tolist() == [1.0, 1.0]


def test_nothing_limits_clients_on_a_processor() -> None:
    assert THIS_PROCESSOR.clients_that_fit(lambda: pytest.fail("nothing is to be tried")) is None


def test_as_many_clients_as_fit_into_memory() -> None:
    assert most_clients(1000, 100) == int(10 * SHARE_OF_MEMORY)
    assert most_clients(1000, 5000) == most_clients(0, 1) == 1
    assert most_clients(1000, 0) == int(1000 * SHARE_OF_MEMORY)
