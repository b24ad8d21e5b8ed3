"""The flags of an experiment: the config of its run, and the processes that run it."""

import dataclasses
from typing import Annotated, Any, Literal

from fidle_jax.cli.parse import check_ranges
from fidle_jax.errors import InputError, Range
from fidle_jax.train.config import Config, check, described

# Flags without effect if no job is submitted.
JOB_FLAGS = ("nodes", "tasks_per_node", "gpus_per_node", "cpus_per_task", "minutes", "slurm")
# A job on Slurm is asked to save its state two to three minutes before its end.
LEAST_MINUTES = 5


@dataclasses.dataclass(frozen=True)
class Job:
    """A job on this machine or a cluster."""

    launch: Literal["here", "local", "slurm"] = "here"
    """here: run in this process; local: start processes on this machine; slurm: submit a Slurm job."""
    gpus_per_node: Annotated[int, Range(0)] = 0
    """GPUs on each machine, for --launch local or slurm; 0: run on the CPU."""
    cpus_per_task: Annotated[int | None, Range(1), described("set by the cluster")] = None
    """Number of CPU cores of each process."""
    minutes: Annotated[int | None, Range(1), described("60 with slurm, no limit with local")] = None
    """Time limit of the job. A run that needs more time saves a checkpoint and is requeued."""
    slurm: Annotated[tuple[str, ...] | None, described("none")] = None
    """Other options of sbatch, as NAME=VALUE: partition=gpu account=me."""

    def parameters(self) -> dict[str, Any]:
        """Return the parameters for `fidle_jax.train.launch.make_executor`."""
        slurm = dict(text.split("=", 1) for text in self.slurm or ())
        limits = {"cpus_per_task": self.cpus_per_task, "timeout_min": self.minutes}
        given = {name: value for name, value in limits.items() if value is not None}
        return {"slurm": slurm, "gpus_per_node": self.gpus_per_node} | given

    def check(self, *needed: str) -> None:
        """Raise InputError if a value is wrong, or has no effect because --launch is not ``needed``."""
        if wrong := [text for text in self.slurm or () if not text.partition("=")[2]]:
            raise InputError(f"--slurm has {wrong[0]}; it must be NAME=VALUE, as in partition=gpu")
        for name in (field.name for field in dataclasses.fields(self)):
            given = name in JOB_FLAGS and getattr(self, name) != getattr(type(self), name)
            if given and self.launch not in needed:
                flag, ways = f"--{name.replace('_', '-')}", " or ".join(needed)
                raise InputError(f"{flag} has no effect; add --launch {ways}, or remove {flag}")
        if self.launch == "slurm" and (self.minutes or LEAST_MINUTES) < LEAST_MINUTES:
            raise InputError(
                f"--minutes is {self.minutes}; it must be at least {LEAST_MINUTES}, because a job saves "
                "its state two to three minutes before its end"
            )


@dataclasses.dataclass(frozen=True)
class Cluster(Job):
    """Several processes, and jobs on this machine or a cluster."""

    nodes: Annotated[int, Range(1)] = 1
    """Number of machines of the job."""
    tasks_per_node: Annotated[int, Range(1)] = 1
    """Number of processes on each machine. If several use GPUs, it must equal --gpus-per-node."""
    distributed: bool = False
    """Run as one of several processes. Slurm, Open MPI or the next three flags set the index
    of this process."""
    coordinator: Annotated[str | None, described("none")] = None
    """Address of process 0, reachable from all processes: HOST:PORT."""
    processes: Annotated[int | None, Range(1), described("found by JAX")] = None
    """Number of processes."""
    process_index: Annotated[int | None, Range(0), described("found by JAX")] = None
    """Index of this process, starting at 0."""
    connect_seconds: Annotated[float, Range(0)] = 60.0
    """Time to wait for the other processes."""


@dataclasses.dataclass(frozen=True)
class Flags(Config):
    """The config of a run, and its processes."""

    cluster: Cluster = Cluster()

    def config(self) -> Config:
        """Return the config of the run alone."""
        return Config(
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(Config)}
        )


def check_flags(flags: Flags) -> None:
    """Raise InputError if a value is wrong, or two flags exclude each other."""
    check(flags)
    check_ranges(flags.cluster)
    flags.cluster.check("local", "slurm")
    _check_coordinator(flags.cluster)
    if flags.cluster.launch != "here":
        _check_launch(flags.cluster)


def _check_coordinator(cluster: Cluster) -> None:
    values = (cluster.coordinator, cluster.processes, cluster.process_index)
    if values == (None, None, None):
        return
    needed = ("--distributed", "--coordinator", "--processes", "--process-index")
    given = (cluster.distributed or None, *values)
    if missing := [name for name, value in zip(needed, given, strict=True) if value is None]:
        raise InputError(f"{' '.join(needed)} go together; give {' and '.join(missing)} too")
    coordinator = cluster.coordinator or ""
    processes, index = cluster.processes or 0, cluster.process_index or 0
    if index >= processes:
        raise InputError(
            f"--process-index is {index}; it must be at most {processes - 1}, because there are "
            f"{processes} processes"
        )
    host, _, port = coordinator.rpartition(":")
    digits = port.isascii() and port.isdecimal() and len(port) <= len("65535")
    if not host or not digits or not 0 < int(port) < 65536:
        raise InputError(f"--coordinator is {coordinator}; it must be HOST:PORT")


def _check_launch(cluster: Cluster) -> None:
    if cluster.distributed:
        raise InputError("--launch starts the processes itself; leave --distributed out")
    if cluster.launch == "local" and (cluster.slurm or cluster.nodes > 1):
        raise InputError("--launch local uses one machine; leave --nodes and --slurm out")
    several = cluster.nodes * cluster.tasks_per_node > 1
    if several and cluster.gpus_per_node not in (0, cluster.tasks_per_node):
        raise InputError(
            f"--gpus-per-node is {cluster.gpus_per_node}; it must be 0 or equal to "
            f"--tasks-per-node ({cluster.tasks_per_node}), because each process uses one GPU"
        )
