"""Time the methods of convolution and pooling against XLA's on the problems of the table that "auto" uses.

The forward pass, the gradients ("vjp") and both are timed in alternating turns, called from Python and in a
compiled loop. Results are compared with XLA's before and after. This writes kernels.json and roofline.png.
The peak of the memory bandwidth is that of a large copy. Small arrays stay in the caches, so their share
can exceed 100 %.

    python experiments/bench/kernels.py --load mine.py --methods mine --only "^conv 64x"
    python experiments/bench/kernels.py --tune mnist v2 resnet_18

To measure another shape for "auto", add a line for it to fidle_jax/kernels/auto.tsv, with "xla=1" in the
columns "milliseconds" and "compile_seconds", and measure it with --phases both --write-table.
"""

import dataclasses
import functools
import itertools
import re
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
from timing import check_positive, run, save

from fidle_jax import kernels
from fidle_jax.errors import InputError
from fidle_jax.files import write_atomically
from fidle_jax.kernels import auto
from fidle_jax.kernels.auto import default_device
from fidle_jax.kernels.rows import Problem, write_rows
from fidle_jax.kernels.timing import PHASES, Peaks, Timing, format_timings, measure_peaks
from fidle_jax.kernels.tuning import measure, methods_of, row_of
from fidle_jax.kernels.turns import machine
from fidle_jax.train.run_dir import default_run_dir

TOLERANCE = 1.1  # "auto" should not select a method that takes this many times the best time
# Programs to tune: the course's networks, and others of `bench_accelerate`.
PROGRAMS = ("mnist", "v1", "v2", "resnet_18", "resnet_50", "unet", "mobilenet")


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    methods: tuple[str, ...] = ()
    """Methods to compare with XLA's (default: those that "auto" may select)."""
    load: Path | None = None
    """Python file that registers methods."""
    only: str = ""
    """Regular expression: measure only the problems whose line (see --list) matches."""
    phases: tuple[Literal[PHASES], ...] = PHASES
    """forward, vjp (the gradients), or both in one program."""
    rounds: int = 15
    """Maximum number of turns of each method on each problem."""
    seconds: float = 0.7
    """Approximate limit for all turns of one comparison. Three rounds are always measured."""
    output: Path | None = None
    """Directory of the results (default: runs/bench_kernels/<UTC time>)."""
    write_table: bool = False
    """Write the measurements of the phase "both" into the table that method "auto" uses."""
    tune: tuple[Literal[PROGRAMS], ...] = ()
    """Instead, tune the gradients of these networks. Print and write their tables."""
    list: bool = False
    """Print one line per problem and measure nothing."""


def main(config: Config) -> None:
    """Measure the problems, write the results, and print where "auto" is not the best."""
    check_positive(config, "rounds", "seconds")
    output = config.output or default_run_dir("bench_kernels")
    if config.load:
        load(config.load)
    if config.tune:
        tune(config, output)
        return
    problems = find_problems(config)
    if config.list:
        print("\n".join(map(str, problems)))
        return
    if config.write_table and (default_device().platform != "cpu" or "both" not in config.phases):
        raise InputError(
            "--write-table needs JAX on a CPU and the phase both; set JAX_PLATFORMS=cpu"
        )
    where, peaks = machine(default_device().device_kind), measure_peaks()
    print(f"{where}: {peaks.flops / 1e9:.4g} GFLOP/s, {peaks.bandwidth / 1e9:.3g} GB/s", flush=True)

    rows = {row.problem: row for row in auto.table_rows()}
    failures: list[str] = []
    timings: list[Timing] = []
    slow = []
    for problem in problems:
        by_phase = {}
        for phase in config.phases:
            how = config.methods, phase, config.rounds, config.seconds, failures.append
            by_phase[phase] = measure(problem, list(rows.values()), *how)
        jax.clear_caches()  # programs map memory, and Linux limits a process to 65,530 maps
        timings += (new := list(itertools.chain(*by_phase.values())))
        print(format_timings(new, peaks), flush=True)
        if "both" in by_phase and not config.methods:
            rows[problem] = row_of(problem, by_phase["both"])
            times = rows[problem].milliseconds
            selected = auto.choose(problem)
            slow.append((times.get(selected, times["xla"]) / min(times.values()), problem))
            print(f"auto: {selected} ({slow[-1][0]:.2f} x best)\n", flush=True)
    content = {"machine": where, "peaks": dataclasses.asdict(peaks)}
    save(output / "kernels.json", {**content, "timings": list(map(dataclasses.asdict, timings))})
    plot(timings, peaks, output / "roofline.png")
    if config.write_table:
        table = Path(auto.__file__).with_name(auto.table_name())
        write_atomically(table, write_rows(list(rows.values())))
        print(f"written: {table}, {len(problems)} of its {len(rows)} rows from this run")
    behind = [(ratio, problem) for ratio, problem in slow if ratio > TOLERANCE]
    if slow:
        print(f"auto is within 10 % of the best on {len(slow) - len(behind)} of {len(slow)}")
    for ratio, problem in behind:
        print(f"  {ratio:.2f} x the best: {problem}")
    if failures:
        raise RuntimeError(f"{len(failures)} comparisons failed, the first one:{failures[0]}")


def load(path: Path) -> None:
    """Run a Python file that registers methods."""
    try:
        runpy.run_path(str(path))
    except Exception as error:
        line = next(iter(str(error).splitlines()), "")
        raise InputError(f"--load {path} failed: {type(error).__name__}: {line}") from error


def find_problems(config: Config) -> list[Problem]:
    """Return the problems of the table that match --only and that a method of --methods supports."""
    known = {*kernels.conv_methods(), *kernels.conv_pool_methods(), *kernels.POOLS["max_pool"]}
    for name in config.methods:
        if name not in {"separate", *known}:
            names = ", ".join(sorted(known))
            raise InputError(f"--methods {name} is unknown; expected names from {names}, or --load")
    try:
        matches = re.compile(config.only).search
    except re.error as error:
        raise InputError(f"--only {config.only!r} is not a regular expression: {error}") from None
    problems = [
        row.problem
        for row in auto.table_rows()
        if matches(str(row.problem))
        and (not config.methods or len(methods_of(row.problem, (), config.methods)) > 1)
    ]
    if not problems:
        raise InputError(f"--only {config.only!r} matches no problem; --list prints all of them")
    return problems


def tune(config: Config, output: Path) -> None:
    """Tune programs, print their tables and write them to files."""
    output.mkdir(parents=True, exist_ok=True)
    for name in config.tune:
        function, arguments = make_program(name)
        report = functools.partial(print, flush=True)
        table = kernels.tune(
            function, *arguments, seconds=config.seconds, rounds=config.rounds, report=report
        )
        print(table)
        table.save(output / f"{name}.txt")
        print(f"written: {output / name}.txt; use it with FIDLE_JAX_TUNING={output / name}.txt")


def make_program(name: str) -> tuple[Any, tuple[Any, ...]]:
    """Return the gradients of a network's loss, and arguments of the usual batch size."""
    import bench_accelerate
    from frameworks import NETWORKS

    from fidle_jax.nn import MODELS

    if name not in NETWORKS:
        return bench_accelerate.PROGRAMS[name]()
    _, model, shape, batch, classes = NETWORKS[name]
    network, (x, labels) = (
        MODELS[model].clone(classes=classes),
        bench_accelerate.images(batch, *shape),
    )
    params = jax.jit(network.init)(jax.random.key(0), x[:1])["params"]

    def logits(params, x):
        return network.apply({"params": params}, x)

    return bench_accelerate.gradients(logits, params, x, labels)


def plot(timings: Sequence[Timing], peaks: Peaks, path: Path) -> None:
    """Plot the speed of each method over the operations per byte, in a loop and called from Python."""
    import numpy as np
    from matplotlib.figure import Figure

    phases = list(dict.fromkeys(timing.phase for timing in timings))
    methods = list(dict.fromkeys(timing.method for timing in timings))
    figure = Figure(figsize=(3.6 * len(phases) + 1.5, 6.4), layout="constrained")
    axes = figure.subplots(2, len(phases), sharex=True, sharey=True, squeeze=False)
    titles = {"forward": "forward", "vjp": "gradients", "both": "forward and gradients"}
    intensity = [timing.flops / timing.traffic_bytes for timing in timings if timing.flops]
    x = np.geomspace(min(intensity, default=1) / 2, max(intensity, default=1) * 2)
    for (row, column), axis in np.ndenumerate(axes):
        phase, in_loop = phases[column], row == 0
        limit = np.minimum(peaks.flops, x * peaks.bandwidth) / 1e9
        axis.plot(x, limit, color="black", label="measured peaks")
        for number, method in enumerate(methods):
            points = [
                (each.flops / each.traffic_bytes, each.flops / each.milliseconds / 1e6)
                for each in timings
                if (each.phase, each.in_loop, each.method) == (phase, in_loop, method)
                and each.flops
            ]
            marker = "osv^D<>pP*X"[number % 11]
            style = {"marker": marker, "s": 18, "alpha": 0.7, "linewidths": 0}
            axis.scatter(*np.reshape(points, (-1, 2)).T, label=method, **style)
        axis.set(xscale="log", yscale="log")
        axis.set_title(
            f"{titles[phase]}, {'in a loop' if in_loop else 'called from Python'}", size=9
        )
        axis.grid(alpha=0.3)
    figure.supxlabel(
        "FLOPs of XLA's method per byte of arguments and results\n"
        "(small arrays stay in the caches and can exceed the peak)",
        size=9,
    )
    figure.supylabel("GFLOP/s", size=9)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=150)
    print(f"written: {path}")


if __name__ == "__main__":
    run(main, Config(), __doc__)
