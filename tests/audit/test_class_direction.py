from __future__ import annotations

import pytest
import torch

from fedunlearn.audit.class_direction import class_direction
from fedunlearn.errors import DataError

LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


def test_by_hand() -> None:
    """Two other classes at (0, 0) and (4, 0): their line is the first axis, the asked class lies 3 above it."""
    features = torch.tensor([[-1.0, 0], [1, 0], [3, 0], [5, 0], [7, 3], [9, 3]])
    # Each class has two samples 2 apart: a variance of 2.
    assert class_direction(features, LABELS, [2]) == pytest.approx(9 / 2)


def test_a_class_between_the_others_has_no_direction() -> None:
    features = torch.tensor([[-1.0, 0, 0], [1, 0, 0], [3, 0, 0], [5, 0, 0], [1, 0, 0], [3, 0, 0]])
    assert class_direction(features, LABELS, [2]) == pytest.approx(0.0, abs=1e-12)


def test_one_other_class_is_a_point() -> None:
    features = torch.tensor([[-1.0, 0], [1, 0], [2, 2], [4, 2]])
    assert class_direction(features, torch.tensor([0, 0, 1, 1]), [1]) == pytest.approx((9 + 4) / 2)


def test_scale_place_and_rotation_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 8, generator=generator, dtype=torch.float64)
    labels = torch.arange(60) % 5
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64))[0]
    found = class_direction(features, labels, [1, 3])
    assert found is not None and found > 0
    assert class_direction(7.0 * features @ rotation + 3.0, labels, [1, 3]) == pytest.approx(found)
    each = [
        class_direction(features[labels != other], labels[labels != other], [own]) for own, other in ((1, 3), (3, 1))
    ]
    assert found == pytest.approx(sum(one for one in each if one is not None) / 2, rel=0.2)


def test_where_nothing_can_be_told() -> None:
    assert class_direction(torch.randn(6, 1), LABELS, [2]) is None
    assert class_direction(torch.zeros(6, 4), LABELS, [2]) is None


@pytest.mark.parametrize(("labels", "classes"), [(LABELS, [3]), (LABELS, []), (torch.tensor([0, 0, 0, 0, 0, 1]), [1])])
def test_a_class_without_samples_is_refused(labels: torch.Tensor, classes: list[int]) -> None:
    with pytest.raises(DataError, match="two samples"):
        class_direction(torch.randn(6, 4), labels, classes)
    with pytest.raises(DataError, match="two samples"):
        class_direction(torch.randn(6, 4), torch.zeros(6, dtype=torch.int64), [0])
