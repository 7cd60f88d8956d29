"""A limit: two worker processes, the model and one slot a worker in shared memory, one message a client."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection, wait
from multiprocessing.shared_memory import SharedMemory

import numpy as np
from contender import ARRAYS, model_arrays, read_job, run_rounds, sampled

WORKERS = 2


def views(memory: SharedMemory, slot: int, length: int) -> list[np.ndarray]:
    """The arrays in one slot of the shared memory."""
    start = slot * ARRAYS * length * 4
    flat = np.ndarray((ARRAYS, length), np.float32, memory.buf, start)
    return list(flat)


def work(name: str, slot: int, length: int, pipe: Connection) -> None:
    """Answer each client's message by copying the model into this worker's slot."""
    memory = SharedMemory(name)
    model, own = views(memory, 0, length), views(memory, slot, length)
    while pipe.recv() is not None:
        for mine, theirs in zip(own, model, strict=True):
            np.copyto(mine, theirs)
        pipe.send(True)
    del model, own
    memory.close()


def main() -> None:
    """Run the job."""
    job = read_job()
    started = time.perf_counter()
    arrays = model_arrays(job)
    length = len(arrays[0])
    memory = SharedMemory(create=True, size=(WORKERS + 1) * ARRAYS * length * 4)
    context = multiprocessing.get_context("spawn")
    pipes, slots = [], {}
    for slot in range(1, WORKERS + 1):
        own, theirs = context.Pipe()
        context.Process(target=work, args=(memory.name, slot, length, theirs), daemon=True).start()
        pipes.append(own)
        slots[own] = views(memory, slot, length)
    scratch = [np.empty_like(array) for array in arrays]

    def one_round(number: int) -> list[np.ndarray]:
        waiting = sampled(job, number)
        weight = np.float32(1 / len(waiting))
        for mine, theirs in zip(views(memory, 0, length), arrays, strict=True):
            np.copyto(mine, theirs)
        sums = [np.zeros_like(array) for array in arrays]
        busy = []
        for pipe in pipes:
            if waiting:
                pipe.send(waiting.pop())
                busy.append(pipe)
        while busy:
            for pipe in wait(busy):
                pipe.recv()
                for array, total, buffer in zip(slots[pipe], sums, scratch, strict=True):
                    np.multiply(array, weight, out=buffer)
                    np.add(total, buffer, out=total)
                if waiting:
                    pipe.send(waiting.pop())
                else:
                    busy.remove(pipe)
        return sums

    run_rounds(job, one_round, started)
    for pipe in pipes:
        pipe.send(None)
    slots.clear()
    memory.unlink()


if __name__ == "__main__":
    main()
