"""Where local training computes, in which precision, and whether compiled."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

import torch
from torch import Tensor

from fedunlearn.config import FederationSettings
from fedunlearn.errors import SettingsError

Precision = Literal["float32", "bfloat16"]
Function = TypeVar("Function", bound=Callable)

SHARE_OF_MEMORY = 0.8
"""Of a device's free memory that clients may fill; the rest is for what an allocator loses."""


@dataclass(frozen=True)
class Device:
    """Where and how local training computes.

    Args:
        name: "cpu", "cuda" or "cuda:N", as torch says it.
        precision: "bfloat16" computes layers in it where torch's autocast does so; parameters stay float32.
        compile: let torch.compile make code for the step, which takes it up to a minute once; on a processor no step
            was found quicker with it.
    """

    name: str = "cpu"
    precision: Precision = "float32"
    compile: bool = False

    @staticmethod
    def of(settings: FederationSettings) -> Device:
        """What a federation's settings ask for.

        Raises:
            SettingsError: this machine has no such device.
        """
        there = torch.cuda.device_count()
        wanted = torch.device(settings.device)
        if wanted.type == "cuda" and (wanted.index or 0) >= there:
            raise SettingsError(
                f"device = {settings.device!r}: torch finds {there} CUDA devices here; "
                "use cpu, or install torch with CUDA where there is one."
            )
        return Device(settings.device, settings.precision, settings.compile)

    @property
    def plain(self) -> bool:
        """Whether training gives the bits that every digest of this package stands for."""
        return self == THIS_PROCESSOR

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.torch_device.type == "cuda"

    @property
    def torch_device(self) -> torch.device:
        """The name as torch's own type."""
        return torch.device(self.name)

    def autocast(self) -> AbstractContextManager:
        """Inside, layers compute in the precision asked for."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.torch_device.type, dtype=torch.bfloat16)

    def compiled(self, function: Function) -> Function:
        """`function`, compiled if that is asked for."""
        return cast(Function, torch.compile(function)) if self.compile else function

    def upload(self, *tensors: Tensor) -> Upload:
        """Start copying tensors to the device while it goes on computing."""
        return Upload(tensors, self.torch_device)

    def clients_that_fit(self, try_one: Callable[[], object]) -> int | None:
        """How many clients' steps fit into the device's free memory at once; None: nothing limits them.

        Args:
            try_one: computes what one client needs; called only where memory can be asked for.
        """
        device = self.torch_device
        if device.type != "cuda":
            return None
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        try_one()
        torch.cuda.synchronize(device)
        needed = torch.cuda.max_memory_allocated(device) - before
        # What torch has reserved and does not use is as good as free.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return most_clients(torch.cuda.mem_get_info(device)[0] + unused, needed)


THIS_PROCESSOR = Device()
"""Where everything is computed unless something else is asked for."""


class Upload:
    """Tensors on their way to a device: through pinned memory, on a stream of their own."""

    def __init__(self, tensors: tuple[Tensor, ...], device: torch.device) -> None:
        self._stream: torch.cuda.Stream | None = None
        if device.type != "cuda":
            self._there = tuple(tensor.to(device) for tensor in tensors)
            return
        self._device = device
        self._stream = torch.cuda.Stream(device)
        # Kept until the copies are made: pinned memory that is given back could be overwritten meanwhile.
        self._pinned = [tensor.pin_memory() for tensor in tensors]
        with torch.cuda.stream(self._stream):
            self._there = tuple(tensor.to(device, non_blocking=True) for tensor in self._pinned)

    def wait(self) -> tuple[Tensor, ...]:
        """The tensors on the device; what is computed from now on comes after their arrival."""
        if self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            for tensor in self._there:
                tensor.record_stream(current)
        return self._there


def most_clients(free_bytes: int, bytes_each: int) -> int:
    """How many clients fit into `SHARE_OF_MEMORY` of the free bytes; one is always tried."""
    return max(1, int(SHARE_OF_MEMORY * free_bytes) // max(1, bytes_each))
