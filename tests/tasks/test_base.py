from __future__ import annotations

from fedunlearn.tasks.base import ImageToImageTask, LogitsTask, LossFromLogits, Task


class Plain:
    name = "plain"
    networks = ("lenet",)
    default_network = "lenet"

    def dataset(self, seed: int) -> None: ...

    def build(self, network: object, seed: int, dataset: object) -> None: ...

    def inputs(self, raw: object) -> None: ...

    def loss(self, model: object, inputs: object, labels: object) -> None: ...


class Classifying(Plain):
    def predict(self, model: object, inputs: object) -> None: ...


def test_a_task_needs_its_members_and_no_base_class() -> None:
    assert isinstance(Plain(), Task)
    assert not isinstance(Plain(), LogitsTask) and not isinstance(Plain(), ImageToImageTask)
    assert isinstance(Classifying(), LogitsTask) and not isinstance(Classifying(), LossFromLogits)
    assert not isinstance(object(), Task)
