"""Time every method of convolution and pooling on the problems of the table that "auto" uses.

To measure another shape, add a line for it to fidle_jax/kernels/auto.tsv, with "xla=1" in the columns
"milliseconds" and "compile_seconds", and measure it with --write-table.
"""

import dataclasses
import datetime
import functools
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from timing import check_positive, machine, run, save, time_functions

from fidle_jax import kernels
from fidle_jax.errors import InputError
from fidle_jax.files import write_atomically
from fidle_jax.kernels import auto
from fidle_jax.kernels.auto import Problem, Row
from fidle_jax.kernels.geometry import format_sizes
from fidle_jax.train.run_dir import default_run_dir

TOLERANCE = 1.1  # "auto" should not select a method that takes this many times the best time
FFT_FROM = 25  # kernel elements; for smaller kernels FFT is slow and takes long to compile
FEW_CHANNELS = 3  # such a layer is the first of a network, and needs no input gradient


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    only: str = ""
    """Regular expression: measure only the problems whose line (see --list) matches."""
    rounds: int = 15
    """Maximum number of turns of each method on each problem."""
    seconds: float = 0.7
    """Approximate limit for all turns on one problem. Three rounds are always measured."""
    loop: bool = True
    """Time the calls in one compiled loop, as in training, instead of one by one. In a loop, backward
    passes of XLA's convolutions are up to 100 times slower."""
    output: Path | None = None
    """Directory for kernels.json (default: runs/bench_kernels/<UTC time>)."""
    write_table: bool = False
    """Write the measurements into the table that method "auto" uses, with --no-loop into its column
    "call_milliseconds"."""
    list: bool = False
    """Print one line per problem and measure nothing."""


def main(config: Config) -> None:
    """Measure the problems, write JSON, and print where "auto" is not the best."""
    check_positive(config, "rounds", "seconds")
    try:
        matches = re.compile(config.only).search
    except re.error as error:
        raise InputError(f"--only {config.only!r} is not a regular expression: {error}") from None
    rows = {row.problem: row for row in auto.table_rows()}
    problems = [problem for problem in rows if matches(describe(problem))]
    if not problems:
        raise InputError(f"--only {config.only!r} matches no problem; --list prints all of them")
    if config.list:
        print("\n".join(map(describe, problems)))
        return
    if config.write_table and jax.default_backend() != "cpu":
        raise InputError("--write-table needs JAX on a CPU; set JAX_PLATFORMS=cpu")
    calls = "in a compiled loop" if config.loop else "call by call"
    where = f"{machine(jax.devices()[0].device_kind)}, {calls}"
    print(where, flush=True)

    measured = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {machine()}"
    results = []
    for problem in problems:
        result = measure(problem, list(rows.values()), config)
        times, compile_seconds = (
            {name: each[key] for name, each in result["training"].items()}
            for key in ("milliseconds", "compile_seconds")
        )
        row = rows[problem]
        if config.loop:
            rows[problem] = Row(problem, times, row.call_milliseconds, compile_seconds, measured)
        else:
            rows[problem] = dataclasses.replace(row, call_milliseconds=times)
        results.append(result)
        print(format_result(result), flush=True)
    output = config.output or default_run_dir("bench_kernels")
    save(output / "kernels.json", {"machine": where, "results": results})
    if config.write_table:
        table = Path(auto.__file__).with_name(auto.TABLE)
        write_atomically(table, auto.write_rows(list(rows.values())))
        print(f"written: {table}, {len(problems)} of its {len(rows)} rows from this run")
    slow = [result for result in results if result["auto_over_best"] > TOLERANCE]
    print(f"auto is within 10 % of the best on {len(results) - len(slow)} of {len(results)}")
    for result in slow:
        print(f"  {result['auto_over_best']:.2f} x the best: {result['name']}")


def describe(problem: Problem) -> str:
    """Describe the problem on one line: ``conv 64x23x23x64 -> 128, 3x3, same``."""
    geometry, pool, groups = problem.geometry, problem.pool, problem.groups
    is_pool = problem.kind in ("max_pool", "avg_pool")
    image = format_sizes((problem.batch, *problem.spatial, problem.channels))
    features = "" if is_pool else f" -> {problem.features}"
    parts = {
        f"{problem.kind} {image}{features}": True,
        format_sizes(geometry.size): True,
        "same": any(map(any, geometry.padding)),
        f"stride {format_sizes(geometry.strides)}": set(geometry.strides) != {1},
        f"dilation {format_sizes(geometry.dilation)}": set(geometry.dilation) != {1},
        "depthwise": groups == problem.channels > 1 and not is_pool,
        f"{groups} groups": 1 < groups < problem.channels,
    }
    if pool:
        parts[f"pool {format_sizes(pool.size)}"] = True
        parts[f"pool stride {format_sizes(pool.strides)}"] = pool.strides != pool.size
    return ", ".join(part for part, is_shown in parts.items() if is_shown)


def measure(problem: Problem, rows: Sequence[Row], config: Config) -> dict[str, Any]:
    """Time each method of a layer, "forward" and "training": forward and backward.

    ``rows`` select the convolution in the method "separate" of `kernels.conv_pool`.
    """
    size, channels, features = problem.geometry.size, problem.channels, problem.features
    shapes = {
        "x": (problem.batch, *problem.spatial, channels),
        "w": (*size, channels // problem.groups, features),
        "b": (features,),
    }
    names = {"conv": "xw", "conv_pool": "xwb"}.get(problem.kind, "x")
    fixed = 1 if "w" in names and channels <= FEW_CHANNELS else 0
    random = np.random.default_rng(0)
    arrays = tuple(jnp.asarray(random.normal(size=shapes[name]), jnp.float32) for name in names)
    methods = _layer_methods(problem, rows)
    shape = jax.eval_shape(next(iter(methods.values())), *arrays)
    cotangent = jax.random.normal(jax.random.key(1), shape.shape, shape.dtype)
    gradients = {
        name: functools.partial(_value_and_gradients, function, fixed)
        for name, function in methods.items()
    }
    settings = config.rounds, config.seconds, config.loop
    training = time_functions(gradients, (cotangent, *arrays), *settings)
    times = {name: each["milliseconds"] for name, each in training.items()}
    selected = auto.choose(problem)
    return {
        "name": describe(problem),
        "problem": dataclasses.asdict(problem),
        "gradients": tuple(names[fixed:]),
        "forward": time_functions(methods, arrays, *settings),
        "training": training,
        "auto": selected,
        "auto_over_best": times[selected] / min(times.values()),
    }


def _layer_methods(problem, rows) -> dict[str, Callable[..., Any]]:
    """Return the layer as a function of its arrays, by method."""
    geometry, pool = problem.geometry, problem.pool
    arguments = {"strides": geometry.strides, "padding": geometry.padding}
    if problem.kind in ("max_pool", "avg_pool"):
        methods = {"xla": "xla", "slices": "slices"}
        arguments["window"] = geometry.size
    else:
        arguments |= {"dilation": geometry.dilation, "groups": problem.groups}
        methods = {
            name: name
            for name, method in kernels.conv_methods().items()
            if name not in ("reference", "pallas")
            and method.supports(geometry.size, geometry.strides, geometry.dilation)
            and (name != "fft" or math.prod(geometry.size) >= FFT_FROM)
        }
    if pool:
        arguments |= {"window": pool.size, "pool_strides": pool.strides}
        # Winograd's method takes as long to compile alone as with the pooling, so it is not compared.
        conv_alone = auto.cheapest(rows, dataclasses.replace(problem, kind="conv", pool=None))
        separate = "forward" if conv_alone == "winograd" else conv_alone
        methods = {"xla": "xla", "separate": separate} | {
            name: name
            for name, method in kernels.conv_pool_methods().items()
            if method.supports(geometry, pool)
        }
    function = getattr(kernels, problem.kind)
    return {
        name: functools.partial(function, **arguments, method=method)
        for name, method in methods.items()
    }


def _value_and_gradients(function, fixed, cotangent, *arrays):
    value, pullback = jax.vjp(functools.partial(function, *arrays[:fixed]), *arrays[fixed:])
    return value, pullback(cotangent)


def format_result(result: dict[str, Any]) -> str:
    """Format a line for the problem and a line per phase: milliseconds of each method, fastest first."""
    lines = [f"{result['name']}   (gradients: {', '.join(result['gradients'])})"]
    for phase in ("forward", "training"):
        times = {method: each["milliseconds"] for method, each in result[phase].items()}
        cells = [f"{method} {times[method]:.4g} ms" for method in sorted(times, key=times.get)]
        lines.append(f"  {phase:9}{'   '.join(cells)}")
    chosen = f"auto: {result['auto']} ({result['auto_over_best']:.2f} x best)"
    return "\n".join([*lines[:-1], f"{lines[-1]}   {chosen}"])


if __name__ == "__main__":
    run(main, Config(), __doc__)
