"""The flags of an experiment: its config, and where its processes run."""

import dataclasses

from fidle_jax.errors import InputError, check_name
from fidle_jax.train.config import Config, check

LEAST_MINUTES = 5
LAUNCH = ("here", "local", "slurm")


@dataclasses.dataclass(frozen=True)
class Flags(Config):
    """A run, and the processes that make it."""

    distributed: bool = False
    """Be one of several processes: which, Slurm, Open MPI or the cloud say, or the next three flags."""
    coordinator: str | None = None
    """HOST:PORT, as the others reach it, at which the first process is to answer."""
    processes: int | None = None
    """How many processes there are."""
    process_index: int | None = None
    """Which of them this one is, from 0."""
    connect_seconds: float = 60.0
    """Wait so long for the other processes to appear."""
    launch: str = "here"
    """here: run now; local: in processes that submitit starts here; slurm: as a job that it submits."""
    nodes: int = 1
    """Machines of a job that is launched."""
    tasks_per_node: int = 1
    """Its processes on each machine; with GPUs, one for each of them."""
    gpus_per_node: int = 0
    """Its GPUs on each machine; 0: it runs on the CPU."""
    cpus_per_task: int | None = None
    """Its CPU cores for each process (default: the cluster's own)."""
    minutes: int | None = None
    """Its time limit (default: 60 on slurm, none here); a run that needs more saves and queues again."""
    slurm: tuple[str, ...] | None = None
    """What else the cluster wants to know: NAME=VALUE of sbatch, as in partition=gpu account=me."""

    def config(self) -> Config:
        """The run alone."""
        fields = dataclasses.fields(Config)
        return Config(**{field.name: getattr(self, field.name) for field in fields})


def check_flags(flags: Flags) -> None:
    """Raises InputError where a value alone, or with another, is wrong."""
    check(flags)
    check_name("value of --launch", flags.launch, LAUNCH)
    for name in ("processes", "nodes", "tasks_per_node", "cpus_per_task", "minutes"):
        _check_at_least(flags, name, 1)
    for name in ("process_index", "gpus_per_node", "connect_seconds"):
        _check_at_least(flags, name, 0)
    if wrong := [text for text in flags.slurm or () if not text.partition("=")[2]]:
        raise InputError(f"--slurm {wrong[0]}: expected NAME=VALUE, as in partition=gpu")
    by_hand = flags.coordinator, flags.processes, flags.process_index
    if by_hand != (None, None, None):
        _check_by_hand(flags)
    _check_launch(flags)


def _check_launch(flags: Flags) -> None:
    if flags.launch == "here":
        for name in (
            "nodes",
            "tasks_per_node",
            "gpus_per_node",
            "cpus_per_task",
            "minutes",
            "slurm",
        ):
            if getattr(flags, name) != getattr(Flags, name):
                flag = f"--{name.replace('_', '-')}"
                raise InputError(
                    f"{flag} is for a job; give --launch local or slurm, or leave it out"
                )
        return
    if flags.distributed:
        raise InputError("--launch starts the processes itself; leave --distributed out")
    if flags.launch == "local" and (flags.slurm or flags.nodes > 1):
        raise InputError(
            "--launch local has one machine and no --slurm; leave --nodes and --slurm out"
        )
    several = flags.nodes * flags.tasks_per_node > 1
    if several and flags.gpus_per_node not in (0, flags.tasks_per_node):
        raise InputError(
            f"--gpus-per-node is {flags.gpus_per_node} and --tasks-per-node {flags.tasks_per_node}; "
            "expected as many: each process has a GPU of its own"
        )
    if flags.launch == "slurm" and flags.minutes is not None and flags.minutes < LEAST_MINUTES:
        raise InputError(
            f"--minutes is {flags.minutes}; expected {LEAST_MINUTES} or more, as a job on Slurm is told "
            "to save two to three minutes before its end"
        )


def _check_at_least(flags: Flags, name: str, least: int) -> None:
    value = getattr(flags, name)
    if value is not None and not value >= least:
        raise InputError(f"--{name.replace('_', '-')} is {value}; expected {least} or more")


def _check_by_hand(flags: Flags) -> None:
    needed = ("--distributed", "--coordinator", "--processes", "--process-index")
    given = flags.distributed, flags.coordinator, flags.processes, flags.process_index
    missing = [
        name for name, value in zip(needed, given, strict=True) if value is None or value is False
    ]
    if missing:
        raise InputError(f"{' '.join(needed)} go together; give {' and '.join(missing)} too")
    if flags.process_index >= flags.processes:
        raise InputError(
            f"--process-index is {flags.process_index}; expected 0 to {flags.processes - 1}, "
            f"as there are {flags.processes} processes"
        )
    host, _, port = flags.coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(f"--coordinator is {flags.coordinator}; expected HOST:PORT")
