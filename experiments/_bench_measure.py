"""A case timed, forward and with its gradients, as a plain dictionary."""

import os
import platform
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from _bench_cases import Case, with_gradients
from _bench_turns import matmul_gflops, time_by_turns

PHASES = ("forward", "training")
ARGUMENTS = ("x", "w", "b")


def measure(
    case: Case,
    prepare: Callable[[Callable[..., Any], tuple], Callable[[int], None]],
    rounds: int,
    seconds: float,
) -> dict[str, Any]:
    """Milliseconds of each method, median and all turns, and its share of a matmul's GFLOP/s just before.

    "forward" alone and, for a case with gradients, "training": forward and backward together.

    Args:
        case: to be timed.
        prepare: `_bench_turns.call_by_call` or `_bench_turns.in_a_loop`.
        rounds: as those of `_bench_turns.time_by_turns`.
        seconds: as well.
    """
    arrays, peak = case.arrays(), matmul_gflops(rounds=3)

    def time(functions, arrays, flops):
        runs = {name: prepare(function, arrays) for name, function in functions.items()}
        turns = time_by_turns(runs, rounds, seconds)
        return {name: _summary(each, flops, peak) for name, each in turns.items()}

    result: dict[str, Any] = {"name": case.name, "matmul_gflops": peak}
    result["forward"] = time(case.methods, arrays, case.flops)
    if case.gradients:
        result["gradients"] = [ARGUMENTS[place] for place in case.gradients]
        shape = jax.eval_shape(next(iter(case.methods.values())), *arrays)
        cotangent = jax.random.normal(jax.random.key(1), shape.shape, shape.dtype)
        functions = {
            name: with_gradients(function, case.gradients)
            for name, function in case.methods.items()
        }
        # The gradients in x and in w take as many products each as the forward pass.
        passes = 1 + sum(name in "xw" for name in result["gradients"])
        result["training"] = time(functions, (cotangent, *arrays), passes * case.flops)
    return result


def medians(result: dict[str, Any], phase: str) -> dict[str, float]:
    """Milliseconds of each method."""
    return {name: summary["milliseconds"] for name, summary in result[phase].items()}


def machine() -> str:
    """What is measured on, in a few words."""
    device = jax.devices()[0]
    name = device.device_kind if device.platform != "cpu" else _processor()
    return f"{len(os.sched_getaffinity(0))} cores of {name}, jax {jax.__version__}"


def _processor():
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    names = [line.split(":", 1)[1] for line in text.splitlines() if line.startswith("model name")]
    return names[0].strip() if names else platform.processor() or platform.machine()


def _summary(turns, flops, peak):
    milliseconds = statistics.median(turns)
    summary = {"milliseconds": milliseconds, "turns": turns}
    if flops:
        summary["share_of_peak"] = flops / (1e6 * milliseconds) / peak
    return summary
