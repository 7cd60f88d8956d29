"""What every contender shares: reading the job, timing rounds, printing the answer. Needs nothing but numpy.

A contender is run as `python contenders/NAME.py JOB`, with JOB a JSON object: the fields of `jobs.Job`, the
contender's options, and `data_file`, an .npz of inputs-C, labels-C for each client C of a training job. It prints one
JSON object as its last line: `{"rounds": [seconds, ...], "start_up": seconds, "digest": ...}`.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

ARRAYS = 10
LEARNING_RATE, MOMENTUM, BATCH = 0.02, 0.9, 32


def read_job() -> dict[str, Any]:
    """The job of this process."""
    return json.loads(sys.argv[1])


def model_arrays(job: dict[str, Any]) -> list[np.ndarray]:
    """The model of a no-op job: ten float32 arrays of equal size."""
    length = int(job["megabytes"] * 1e6 / 4 / ARRAYS)
    generator = np.random.default_rng(0)
    return [generator.standard_normal(length, dtype=np.float32) for _ in range(ARRAYS)]


def client_data(job: dict[str, Any], client: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (float32, 0 to 1) and labels of one client of a training job."""
    with np.load(job["data_file"], allow_pickle=False) as stored:
        inputs, labels = stored[f"inputs-{client}"], stored[f"labels-{client}"]
    return inputs.astype(np.float32) / 255.0, labels


def sampled(job: dict[str, Any], number: int) -> list[int]:
    """The clients of a round: all, or a seeded sample."""
    if job["sampled"] == job["clients"]:
        return list(range(job["clients"]))
    generator = np.random.default_rng(number)
    return sorted(generator.choice(job["clients"], job["sampled"], replace=False).tolist())


def digest(arrays: Sequence[np.ndarray]) -> str:
    """A short hash of the model, to see that something was computed."""
    hashed = hashlib.sha256()
    for array in arrays:
        hashed.update(np.ascontiguousarray(array).tobytes())
    return hashed.hexdigest()[:12]


def run_rounds(job: dict[str, Any], one_round: Callable[[int], object], started: float) -> None:
    """Run one round that is not measured and `rounds` that are, and print the answer.

    Args:
        started: `time.perf_counter()` after the imports and before anything was set up.
    """
    one_round(0)
    start_up = time.perf_counter() - started
    seconds = []
    for number in range(1, job["rounds"] + 1):
        before = time.perf_counter()
        one_round(number)
        seconds.append(time.perf_counter() - before)
    answer(seconds, start_up)


def answer(rounds: Sequence[float], start_up: float) -> None:
    """Print the answer, as the last line."""
    print(json.dumps({"rounds": list(rounds), "start_up": start_up}), flush=True)
