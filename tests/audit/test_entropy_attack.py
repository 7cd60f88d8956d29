from __future__ import annotations

import pytest
import torch
from scipy.stats import entropy

from fedunlearn.audit.entropy_attack import combine, entropies, measure
from fedunlearn.audit.metric import Gathered, Sizes
from fedunlearn.audit.subject import Subject


def test_entropy_is_scipys() -> None:
    logits = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)) * 4
    assert entropies(logits).numpy() == pytest.approx(entropy(logits.double().softmax(dim=1).numpy(), axis=1))
    assert entropies(torch.tensor([[900.0, 0.0]])).item() == 0.0


def test_values_of_a_real_model(target: Subject, server: Subject) -> None:
    generator = torch.Generator().manual_seed(0)
    gathered = Gathered(target.sizes, {0: measure(target, generator)}, server=measure(server, generator))
    values = combine(gathered)
    assert values["entropy_attack"].value is not None and 0.5 < values["entropy_attack"].value < 1
    assert values == combine(gathered)
    few = Gathered(Sizes(10), {0: {"members": [25] + [0] * 300, "total": [25] + [0] * 9, "outside": [19] + [0] * 300}})
    assert "to train its regression on" in combine(few)["entropy_attack"].refused
    assert "ordinary samples" in combine(Gathered(Sizes(10), {0: {}}))["entropy_attack"].refused
