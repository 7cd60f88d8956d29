"""Several clients of equal models, trained as one computation: on a plain processor bit for bit as one by one.

There the clients lie side by side in one batch (`side_by_side`), because `torch.func.vmap` costs more than it saves.
Before a number of clients is trained so, two of their batches are computed both ways: another bit anywhere, and they
are trained one by one. `vmap` also judges whether a model can be stacked at all, and elsewhere (on a GPU; in bfloat16
or compiled, where a number of clients is asked for) it does the computing.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from fedunlearn.data.dataset import Samples
from fedunlearn.errors import DataError
from fedunlearn.tasks.cohort_choice import BATCHES_FOR_TRIAL, LARGEST, Choice, Choices, Size
from fedunlearn.tasks.device import THIS_PROCESSOR, Device, Upload
from fedunlearn.tasks.local_training import LocalTraining, alike
from fedunlearn.tasks.selected_parameters import SelectedParameters
from fedunlearn.tasks.side_by_side import SideBySide
from fedunlearn.tasks.stacked_parameters import StackedParameters
from fedunlearn.tasks.stacking import LossOfModel, first_line, not_stackable
from fedunlearn.tasks.training import TrainingResult, modes_kept, train_locally

logger = logging.getLogger("fedunlearn.clients")


def train_cohort(
    trainings: Sequence[LocalTraining],
    size: Size = "auto",
    choices: Choices | None = None,
    device: Device = THIS_PROCESSOR,
    exact: bool = True,
) -> list[TrainingResult]:
    """Do what `train_locally` does for each of several clients, in place, with as many at a time as is of use.

    Every client sees its own batches, in its own order; batches that are not full are computed one by one.

    Args:
        trainings: of different models of one architecture, of one task, recipe and portion.
        size: clients at a time at most, or "auto": as many as a short measurement finds faster. On a plain processor
            the result is the same, bit for bit, whatever the size.
        choices: what is known from earlier calls, and is added to.
        device: where and how to compute.
        exact: leave clients of a partly frozen model alone, because there `train_locally` takes short cuts that add up
            in another order; otherwise they are trained together, and agree with it to about 1e-6. Of no meaning on
            another device, where nothing is exact.

    Raises:
        DataError: a client has no samples.
        SettingsError: the portion selects no parameter.
    """
    if any(len(one.samples) == 0 for one in trainings):
        raise DataError("there is nothing to train on: no sample is left outside what is held out.")
    known = _known(trainings[0], choices or Choices(), device, exact)
    if known.refused is not None and size != "auto":
        logger.info("clients are trained one by one: %s", known.refused)
    most = LARGEST if size == "auto" else size
    if known.refused is not None or not alike(trainings) or one_by_one(size, device):
        return [train_one(one, device) for one in trainings]
    results: list[TrainingResult] = []
    parts = [trainings[start : start + most] for start in range(0, len(trainings), most)]
    uploads = _uploads(parts, device)
    for part in parts:
        results += _Cohort(part, known, size, device, next(uploads)).train()
    return results


def one_by_one(size: Size, device: Device) -> bool:
    """Whether no cohort is to be made of any clients.

    On a processor in bfloat16 or compiled, none is unless a number asks for it: `vmap` gives other bits there, and
    which clients meet, or what a measurement finds, would show in a digest.
    """
    return size == 1 or (size == "auto" and not device.plain and not device.cuda)


def could_gain(training: LocalTraining, choices: Choices, device: Device) -> bool:
    """Whether, for all that is known, a cohort of trainings such as this one may be of use."""
    return _known(training, choices, device, exact=True).refused is None


def train_one(training: LocalTraining, device: Device) -> TrainingResult:
    """`train_locally` where the device says."""
    if not device.cuda:
        return train_locally(*training, device=device)
    if not_stackable(training.task, training.model, training.samples) is None:
        return _Cohort([training], Choice(), 1, device, next(_uploads([[training]], device))).train()[0]
    inputs, labels = device.upload(training.samples.inputs, training.samples.labels).wait()
    try:
        moved = training._replace(model=training.model.to(device.torch_device), samples=Samples(inputs, labels))
        return train_locally(*moved, device=device)
    finally:
        training.model.to("cpu")


class _Cohort:
    """Some clients on their way through their batches."""

    def __init__(
        self, trainings: Sequence[LocalTraining], choice: Choice, size: Size, device: Device, upload: Upload
    ) -> None:
        first = trainings[0]
        settings = first.settings
        batches = [one.batches() for one in trainings]
        # Those with most full batches in front: whoever still has one is among the first so many.
        self._order = sorted(range(len(trainings)), key=lambda i: -_full(batches[i], settings.batch_size))
        self._trainings = [trainings[i] for i in self._order]
        self._batches = [batches[i] for i in self._order]
        self._full_left = [_full(one, settings.batch_size) for one in self._batches]
        self._done = [0] * len(trainings)
        self._losses: list[list[Tensor]] = [[] for _ in trainings]
        self._choice, self._size, self._device = choice, size, device
        self._task, self._model, self._batch_size = first.task, first.model, settings.batch_size
        self._parameters = StackedParameters(
            [one.model for one in self._trainings], first.portion, settings, device.torch_device
        )
        self._loss = LossOfModel(first.task, first.model)
        starts = [0]
        for one in trainings:
            starts.append(starts[-1] + len(one.samples))
        self._starts = [starts[i] for i in self._order]
        self._upload = upload
        self._each = device.compiled(vmap(self._loss_of, randomness="error"))

    def train(self) -> list[TrainingResult]:
        """Train everybody to the end; the results are in the order in which the trainings came."""
        self._inputs, self._labels = self._upload.wait()
        with modes_kept(self._model), _gradients_only_of(self._model, self._parameters.trained):
            self._model.train()
            step = self._tick if self._device.plain else self._tick_on_device()
            while any(self._done[i] < len(own) for i, own in enumerate(self._batches)):
                step()
        self._parameters.write_back(one.model for one in self._trainings)
        results = [self._result(i) for i in range(len(self._trainings))]
        return [results[self._order.index(i)] for i in range(len(results))]

    def _tick(self) -> None:
        """One full batch of everybody who has one; other batches that come before it, one by one."""
        active = self._clear_odd_batches(self._alone)
        if not active:
            return
        if self._size == "auto" and self._choice.alone == math.inf:
            self._measure_overhead()
        start = 0
        lasting = sum(left >= BATCHES_FOR_TRIAL for left in self._full_left)
        trial = self._choice.next_trial(active, self._size, lasting)
        if trial is not None:
            self._try(slice(0, trial))
            start = trial
        for width in self._choice.widths(active - start, self._size):
            self._take(slice(start, start + width), self._side_by_side(slice(start, start + width)))
            start += width
        for client in range(start, active):
            self._take(slice(client, client + 1), self._alone(client))

    def _tick_on_device(self) -> Callable[[], None]:
        """As `_tick`, with as many at a time as fit, and nothing to compare with."""
        fitting = self._device.clients_that_fit(lambda: self._forgotten(lambda: self._stacked(slice(0, 1))))
        most = len(self._trainings) if fitting is None else fitting

        def tick() -> None:
            active = self._clear_odd_batches(lambda client: self._stacked(slice(client, client + 1)))
            for start in range(0, active, most):
                clients = slice(start, min(start + most, active))
                self._take(clients, self._stacked(clients))

        return tick

    def _clear_odd_batches(self, compute: Callable[[int], list[Tensor]]) -> int:
        """Do what is not a full batch and comes next, client by client; how many then have a full one."""
        for client, own in enumerate(self._batches):
            while self._done[client] < len(own) and len(own[self._done[client]]) != self._batch_size:
                self._take(slice(client, client + 1), compute(client), full=False)
        return sum(done < len(own) for done, own in zip(self._done, self._batches, strict=True))

    def _take(self, clients: slice, losses: list[Tensor], full: bool = True) -> None:
        """The step of some clients counts: they go on to their next batch."""
        for client, loss in zip(range(clients.start, clients.stop), losses, strict=True):
            self._losses[client].append(loss)
            self._done[client] += 1
            self._full_left[client] -= full

    def _alone(self, client: int, samples: int | None = None) -> list[Tensor]:
        """One client's step the ordinary way, on its next batch (or the first so many samples of it)."""
        self._parameters.load(client, self._model)
        self._model.zero_grad()
        batch = self._next_batch(client)[:samples]
        losses = self._task.loss(self._model, self._task.inputs(self._inputs[batch]), self._labels[batch])
        losses.mean().backward()
        gradients = {name: _as_stack(parameter.grad) for name, parameter in self._model.named_parameters()}
        self._parameters.step(slice(client, client + 1), gradients)
        return [losses.detach().sum()]

    def _side_by_side(self, clients: slice) -> list[Tensor]:
        """The step of some clients that all have a full batch, rows of the clients in turn."""
        positions = torch.stack([self._next_batch(i) for i in range(clients.start, clients.stop)], dim=1)
        values = self._parameters.values(clients)
        with SideBySide():
            losses = self._loss_of(values, self._inputs[positions.flatten()], self._labels[positions.flatten()])
        losses = losses.view(positions.shape)
        losses.mean(dim=0).sum().backward()
        self._parameters.step(clients, {name: value.grad for name, value in values.items()})
        return _row_sums(losses.t())

    def _stacked(self, clients: slice) -> list[Tensor]:
        """The step of some clients whose next batches are of one size, as `vmap` does it."""
        positions = torch.stack([self._next_batch(i) for i in range(clients.start, clients.stop)])
        values = self._parameters.values(clients)
        with self._device.autocast():
            losses = self._each(values, self._inputs[positions], self._labels[positions])
            total = losses.mean(dim=1).sum()
        total.backward()
        self._parameters.step(clients, {name: value.grad for name, value in values.items()})
        return _row_sums(losses)

    def _loss_of(self, values: dict[str, Tensor], raw: Tensor, labels: Tensor) -> Tensor:
        losses: Tensor = functional_call(self._loss, {f"model.{n}": v for n, v in values.items()}, (raw, labels))
        return losses

    def _measure_overhead(self) -> None:
        """Time a step on a full batch and on a single sample of it."""

        def least(samples: int | None) -> float:
            return min(_timed(lambda: self._forgotten(lambda: self._alone(0, samples)))[0] for _ in range(3))

        self._choice.alone = least(None)
        self._choice.overhead_found(self._choice.alone, least(1))

    def _try(self, clients: slice) -> None:
        """Compute a batch of some clients both ways, and note the times and whether every bit agrees."""
        width = clients.stop - clients.start
        before = self._parameters.snapshot(clients)
        try:
            together, losses = _timed(lambda: self._side_by_side(clients))
        except Exception as error:  # whatever a model of the user's raises
            self._choice.refused = f"its layers cannot be put side by side ({first_line(error)})"
            logger.info("clients are trained one by one: %s", self._choice.refused)
            self._parameters.restore(clients, before)
            together, losses = math.inf, []
        after = self._parameters.snapshot(clients)
        self._parameters.restore(clients, before)
        alone, expected = _timed(lambda: [self._alone(i)[0] for i in range(clients.start, clients.stop)])
        same = after.equals(self._parameters.snapshot(clients)) and _same_numbers(losses, expected)
        self._take(clients, expected)
        self._choice.alone = min(self._choice.alone, alone / width)
        self._choice.trials.setdefault(width, []).append(together / width if same else math.inf)
        if not same:
            logger.info("%d clients together do not give the bits of single ones", width)

    def _forgotten(self, compute: Callable[[], Any]) -> Any:
        """What `compute` returns, its changes to the first client taken back."""
        clients = slice(0, 1)
        before = self._parameters.snapshot(clients)
        result = compute()
        self._parameters.restore(clients, before)
        return result

    def _next_batch(self, client: int) -> Tensor:
        """Positions of a client's next batch in the samples of all."""
        return self._batches[client][self._done[client]] + self._starts[client]

    def _result(self, client: int) -> TrainingResult:
        training, total = self._trainings[client], torch.zeros((), dtype=torch.float64)
        for loss in self._losses[client]:
            total += loss.cpu()
        seen = len(training.samples) * training.settings.local_epochs
        return TrainingResult(float(total) / seen, len(self._losses[client]), len(training.samples))


def _full(batches: Sequence[Tensor], size: int) -> int:
    return sum(len(batch) == size for batch in batches)


def _uploads(parts: Sequence[Sequence[LocalTraining]], device: Device) -> Iterator[Upload]:
    """The samples of each part, the next one's already on their way while one is trained on."""

    def start(part: Sequence[LocalTraining]) -> Upload:
        samples = Samples.concat([one.samples for one in part])
        return device.upload(samples.inputs, samples.labels)

    if device.plain:
        # Nothing is gained by being early here, and memory is lost.
        yield from (start(part) for part in parts)
        return
    following = start(parts[0])
    for number in range(len(parts)):
        present = following
        if number + 1 < len(parts):
            following = start(parts[number + 1])
        yield present


def _known(training: LocalTraining, choices: Choices, device: Device, exact: bool) -> Choice:
    """What is known of trainings such as this one, looked at if it is the first."""
    known = choices.of((exact, *training.key(device)))
    if not known.begun:
        known.begun = True
        known.refused = not_stackable(training.task, training.model, training.samples)
        if exact and device.plain and _is_partly_frozen(training):
            known.refused = "part of the model is frozen, which training one by one makes use of"
    return known


def _is_partly_frozen(training: LocalTraining) -> bool:
    with SelectedParameters(training.model, training.portion) as selected:
        return selected.some_are_frozen


@contextmanager
def _gradients_only_of(model: nn.Module, trained: frozenset[str]) -> Iterator[None]:
    """Inside, only these parameters of `model` are differentiated."""
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trained)
        yield
    finally:
        for parameter, wanted in before.items():
            parameter.requires_grad_(wanted)
            parameter.grad = None


def _as_stack(gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else gradient[None]


def _same_numbers(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and torch.equal(torch.stack(one), torch.stack(other))


def _row_sums(losses: Tensor) -> list[Tensor]:
    # Row by row: a sum over one dimension of several adds up in another order.
    return [row.sum() for row in losses.detach().contiguous()]


def _timed(compute: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of this thread, which other processes do not disturb much, and the result."""
    started = time.thread_time()
    result = compute()
    return time.thread_time() - started, result
