"""Time the MNIST CNN's training step on several devices, by jit and by pmap.

On a CPU the devices are simulated and share its cores, so more of them show the overhead and no
speed-up. Each variant runs in its own process. The processes run alternately.
"""

import dataclasses
import functools
from pathlib import Path

from frameworks import make_case, train_fidle
from peers import Peer, Worker, time_steps
from timing import check_positive, machine, run, save


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    devices: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of devices, simulated on a CPU. On other platforms all devices are used."""
    batch_size: int = 512
    """Images per step, over all devices."""
    rounds: int = 9
    """Turns of each variant."""
    seconds: float = 1.0
    """Minimum length of a turn."""
    output: Path = Path("runs/bench_parallel/bench_parallel.json")
    """JSON file of the measurements."""


def main(config: Config) -> None:
    """Measure, print a table, and write the numbers."""
    check_positive(config, "devices", "batch_size", "rounds", "seconds")
    peers = []
    for devices in config.devices:
        for parallel in ("jit", "pmap"):
            title = f"{parallel}, {devices} device{'s' * (devices > 1)}"
            start = functools.partial(train_fidle, parallel=parallel)
            peers.append(Peer(title, start, (), {"JAX_NUM_CPU_DEVICES": str(devices)}))
    case = make_case("mnist", config.batch_size)
    result = time_steps(case, list(map(Worker, peers)), config.rounds, config.seconds)
    print(f"{'':<20}{'ms per step':>12}{'images/s':>10}{'times first':>13}")
    for row in result["rows"]:
        rate, cost = 1e3 * config.batch_size / row["median"], row["times_ours"]
        print(f"{row['framework']:<20}{row['median']:>12.2f}{rate:>10,.0f}{cost:>13.2f}")
    save(config.output, {"machine": machine(), **result})


if __name__ == "__main__":
    run(main, Config(), __doc__)
