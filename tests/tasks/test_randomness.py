from __future__ import annotations

import pytest
import torch

from fedunlearn.tasks.randomness import isolated_seed, seeded_generator


def test_inside_the_seed_rules_and_outside_nothing_changed() -> None:
    torch.manual_seed(5)
    undisturbed = torch.rand(3)
    torch.manual_seed(5)
    with isolated_seed(1):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), undisturbed)
    with isolated_seed(1):
        assert torch.equal(torch.rand(3), first)
    with isolated_seed(2):
        assert not torch.equal(torch.rand(3), first)


def test_an_error_inside_leaves_the_generator_too() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), isolated_seed(1):
        torch.rand(1)
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before)


def test_generators_follow_their_parts() -> None:
    draws = [torch.rand(2, generator=seeded_generator(*parts)).tolist() for parts in (("a", 1), ("a", 1), ("a", 2))]
    assert draws[0] == draws[1] != draws[2]
