"""`map_jobs`: one function over independent jobs, whole federations for example, in the worker processes."""

from __future__ import annotations

import logging
import select
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from fedunlearn.engines.channel import ChannelClosed
from fedunlearn.engines.jobs import run_job
from fedunlearn.engines.sources import SCRIPT
from fedunlearn.engines.worker_pool import WorkerPool, cores, lent_pool
from fedunlearn.engines.worker_process import WorkerProcess, in_worker
from fedunlearn.errors import FedunlearnError, SettingsError

Job = dict[str, Any]
OnDone = Callable[[int, Any], None]

_ATTEMPTS = 2
_LONGEST_NAME = 120

job_log = logging.getLogger("fedunlearn.jobs")
# The sentence reaches the caller; the traceback is for those who configure logging.
job_log.addHandler(logging.NullHandler())


def map_jobs(
    function: str,
    jobs: Sequence[Job],
    workers: int | None = None,
    on_done: OnDone | None = None,
    imports: Sequence[str] = (),
) -> list[Any]:
    """Call a function with each job, in worker processes, and return the results in the order of the jobs.

    A worker computes with one torch thread, and lasts: what the function's module caches is there for its next job. A
    job whose worker was killed is run once more. A job may run a federation: it then runs inline.

    Args:
        function: "package.module:function"; takes a job, returns what JSON can carry.
        jobs: what JSON can carry.
        workers: processes (>= 0); 0: all jobs in this process, None: one a core. Never more than jobs.
        on_done: called in this thread with a job's index and its result, as each is done.
        imports: modules that a worker imports first, such as those that register something. "__main__" stands for
            what no worker can import: all jobs are then done in this process.

    Raises:
        SettingsError: `workers` is below 0.
        FedunlearnError: jobs raised or lost their worker twice; the others were finished first.
    """
    if workers is not None and workers < 0:
        raise SettingsError(f"workers is {workers}: give 0 or more, or None for one a core")
    several = min(cores() if workers is None else workers, len(jobs))
    results: dict[int, dict[str, Any]] = {}

    def done(index: int, frame: dict[str, Any]) -> None:
        results[index] = frame
        if frame["kind"] == "result" and on_done is not None:
            on_done(index, frame["result"])

    # A worker has no workers: its parent has given a job to every core already.
    if several == 0 or in_worker() or SCRIPT in imports:
        for index, job in enumerate(jobs):
            done(index, run_job(function, job))
    else:
        with lent_pool() as pool:
            _Mapping(pool, function, jobs, several, done, imports).run()
    raised = [index for index in range(len(jobs)) if results[index]["kind"] == "raised"]
    for index in raised:
        job_log.error("%s %s\n%s", function, _name(jobs[index]), results[index]["details"])
    if raised:
        first = raised[0]
        raise FedunlearnError(
            f"{len(raised)} of {len(jobs)} jobs of {function} did not work; job {first} ({_name(jobs[first])}): "
            f"{results[first]['sentence']}"
        )
    return [results[index]["result"] for index in range(len(jobs))]


class _Mapping:
    """One call of `map_jobs`: who has which job, and which jobs are still to be given out."""

    def __init__(
        self,
        pool: WorkerPool,
        function: str,
        jobs: Sequence[Job],
        several: int,
        done: Callable[[int, dict[str, Any]], None],
        imports: Sequence[str],
    ) -> None:
        self._pool, self._jobs, self._done = pool, jobs, done
        self._frame = {"kind": "job", "function": function, "imports": list(imports)}
        self._workers = pool.at_least(several)
        self._waiting = deque(range(len(jobs)))
        self._attempts = [0] * len(jobs)
        self._busy: dict[WorkerProcess, int] = {}

    def run(self) -> None:
        try:
            for worker in list(self._workers):
                self._give(worker)
            while self._busy:
                for worker in self._that_spoke():
                    self._hear(worker)
        finally:
            self._pool.end(self._busy)

    def _give(self, worker: WorkerProcess) -> None:
        if not self._waiting:
            return
        index = self._waiting.popleft()
        self._busy[worker] = index
        self._attempts[index] += 1
        try:
            worker.post.send({**self._frame, "job": self._jobs[index]})
        except ChannelClosed:
            self._lost(worker)

    def _that_spoke(self) -> list[WorkerProcess]:
        poll = select.poll()
        by_number = {worker.post.channel.fileno(): worker for worker in self._busy}
        for number in by_number:
            poll.register(number, select.POLLIN)
        return [by_number[number] for number, _ in poll.poll()]

    def _hear(self, worker: WorkerProcess) -> None:
        try:
            while (arrival := worker.post.poll()) is not None:
                message, _ = arrival
                if message["kind"] == "interrupted":
                    raise KeyboardInterrupt
                if message["kind"] in ("result", "raised"):
                    self._done(self._busy.pop(worker), message)
                    self._give(worker)
        except ChannelClosed:
            self._lost(worker)

    def _lost(self, worker: WorkerProcess) -> None:
        """Put another worker in place of one that is gone, and give its job out again unless it had its chance."""
        index = self._busy.pop(worker)
        if self._attempts[index] < _ATTEMPTS:
            self._waiting.appendleft(index)
        else:
            sentence = "its worker process died twice (too little memory?); give fewer workers."
            self._done(index, {"kind": "raised", "sentence": sentence, "details": sentence})
        self._give(self._pool.replace(worker))


def _name(job: Job) -> str:
    text = str(job)
    return text if len(text) <= _LONGEST_NAME else text[:_LONGEST_NAME] + "…"
