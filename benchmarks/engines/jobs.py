"""The jobs that engines are compared on, and who takes part."""

from __future__ import annotations

from dataclasses import dataclass

QUICK, FULL = "quick", "full"


@dataclass(frozen=True)
class Job:
    """One piece of work that every contender does in the same way.

    Attributes:
        name: its key in the results.
        kind: "no-op" (a client returns the arrays that it was sent) or "train" (one local epoch of SGD).
        clients: clients of the federation.
        sampled: clients that take part in a round.
        megabytes: size of the model of a no-op job, in ten equal float32 arrays.
        network, data: of a training job.
        rounds: rounds that are measured in one process, after one that is not.
        profiles: where the job belongs to.
    """

    name: str
    kind: str
    clients: int
    sampled: int
    megabytes: float = 0.0
    network: str = ""
    data: str = ""
    rounds: int = 3
    profiles: tuple[str, ...] = (FULL,)


def no_op(clients: int, megabytes: float, rounds: int, *profiles: str, sampled: int | None = None) -> Job:
    """A no-op job."""
    size = f"{megabytes:g} MB" if megabytes >= 1 else f"{megabytes * 1000:g} kB"
    many = f"{sampled} of {clients}" if sampled else f"{clients}"
    return Job(
        f"no-op, {many} x {size}",
        "no-op",
        clients,
        sampled or clients,
        megabytes,
        rounds=rounds,
        profiles=(*profiles, FULL),
    )


JOBS = (
    no_op(10, 0.1, 20, QUICK),
    no_op(100, 0.1, 10, QUICK),
    no_op(1_000, 0.1, 3),
    no_op(10_000, 0.1, 2),
    no_op(10, 1, 10),
    no_op(100, 1, 5),
    no_op(1_000, 1, 2),
    no_op(10, 10, 5, QUICK),
    no_op(100, 10, 2),
    no_op(1_000, 10, 2, sampled=100),
    Job("LeNet on mnist5k, 100 clients", "train", 100, 100, network="lenet", data="mnist5k", profiles=(QUICK, FULL)),
    Job("ResNet-20 on CIFAR-10 folders, 20 clients", "train", 20, 20, network="resnet20", data="cifar10", rounds=1),
)


@dataclass(frozen=True)
class Contender:
    """One program that does the jobs.

    Attributes:
        name: as the tables call it.
        script: file under contenders/.
        python: key of the interpreter that it needs: "own", or a peer's name.
        options: what the script is told besides the job.
        kinds: the kinds of jobs that it does.
        limit: whether it is a hand-written limit rather than a framework.
        most: (clients in a round) x (megabytes) that it still does in reasonable time; None: everything.
        most_clients: clients in a round above which it is left out; None: everything.
        why_not: the word for a job above these.
    """

    name: str
    script: str
    python: str = "own"
    options: tuple[tuple[str, int | str], ...] = ()
    kinds: tuple[str, ...] = ("no-op", "train")
    limit: bool = False
    most: float | None = None
    most_clients: int | None = None
    why_not: str = ""

    def leaves_out(self, job: Job) -> str | None:
        """Why the contender does not do the job, or None."""
        if job.kind not in self.kinds:
            return f"has no {job.kind} job"
        if self.most is not None and job.sampled * job.megabytes > self.most:
            return self.why_not
        if self.most_clients is not None and job.sampled > self.most_clients:
            return self.why_not
        return None


CONTENDERS = (
    Contender("fedunlearn, inline", "fedunlearn_engine.py", options=(("workers", 0),)),
    Contender("fedunlearn, 2 workers", "fedunlearn_engine.py", options=(("workers", 2),)),
    Contender(
        "fedunlearn, 2 workers, bfloat16",
        "fedunlearn_engine.py",
        options=(("workers", 2), ("precision", "bfloat16")),
        kinds=("train",),
    ),
    Contender("limit: numpy streaming sum", "numpy_sum.py", kinds=("no-op",), limit=True),
    Contender("limit: shared-memory pool by hand, 2 processes", "shared_memory_pool.py", kinds=("no-op",), limit=True),
    Contender("limit: plain PyTorch loop, 2 processes", "plain_torch.py", kinds=("train",), limit=True),
    Contender(
        "Flower on Ray",
        "flower_ray.py",
        most=500.0,
        most_clients=1_000,
        why_not="its replies of a round, all kept, and minutes a round did not fit",
    ),
    Contender("BlazeFL, threads", "blazefl_trainers.py", "blazefl", (("pool", "threads"),)),
    Contender(
        "BlazeFL, processes",
        "blazefl_trainers.py",
        "blazefl",
        (("pool", "processes"),),
        most=1_000.0,
        most_clients=1_000,
        why_not="one shared buffer a client: too many open files",
    ),
    Contender("pfl-research", "pfl_research.py", "pfl"),
    Contender("FedLab", "fedlab_serial.py", "fedlab"),
)
