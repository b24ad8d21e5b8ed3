"""What it costs to spread the MNIST CNN's training step over devices: jit, pmap, and a plain step.

On a CPU the devices are simulated, and share its cores: more of them show the cost of the machinery,
never a speed-up. Each way in a process of its own, turn by turn.
"""

import dataclasses
import json
import os
import platform
import sys
from pathlib import Path

import tyro
from bench_training import make_case
from peers.turns import time_steps
from peers.worker import Framework, Worker, WorkerFailed


@dataclasses.dataclass(frozen=True)
class Config:
    """What to time, how long."""

    devices: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of devices; simulated ones on a CPU, elsewhere all there are and no other number."""
    batch_size: int = 512
    """Images a step, over all devices."""
    rounds: int = 9
    """Turns of each."""
    seconds: float = 1.0
    """Least length of a turn."""
    output: Path = Path("runs/bench_parallel/bench_parallel.json")
    """File for the numbers."""


def main(config: Config) -> None:
    """Times, prints a table, writes the numbers."""
    if min(config.devices, default=0) < 1 or config.rounds < 1 or config.batch_size < 1:
        print(
            "error: --devices, --rounds and --batch-size are numbers of 1 or more", file=sys.stderr
        )
        sys.exit(2)
    workers = [_worker("plain step", "prepare_plain", 1)]
    for devices in config.devices:
        of = f"{devices} device{'s' * (devices > 1)}"
        workers += [_worker(f"jit, {of}", "prepare", devices)]
        workers += [_worker(f"pmap, {of}", "prepare_pmap", devices)]
    try:
        case = make_case("mnist", config.batch_size)
        result = time_steps(case, workers, config.rounds, config.seconds)
        config.output.parent.mkdir(parents=True, exist_ok=True)
        described = {"machine": f"{platform.platform()}, {os.cpu_count()} CPUs", **result}
        config.output.write_text(json.dumps(described, indent=1) + "\n")
    except (OSError, WorkerFailed) as error:
        sys.exit(f"error: {error}")
    print(f"{'':<20}{'ms a step':>10}{'images/s':>10}{'times plain':>13}")
    for row in result["rows"]:
        rate = 1e3 * config.batch_size / row["median"]
        print(
            f"{row['framework']:<20}{row['median']:>10.2f}{rate:>10,.0f}{row['times_ours']:>13.2f}"
        )
    print(f"written: {config.output}")


def _worker(title, prepare, devices):
    # A process's devices are counted when its JAX starts.
    os.environ["JAX_NUM_CPU_DEVICES"] = str(devices)
    return Worker(Framework(title, "peers.fidle", prepare))


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
