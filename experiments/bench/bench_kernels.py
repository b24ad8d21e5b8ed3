"""Time every method of convolution and pooling on the problems of the table that "auto" uses.

To measure another shape, add a line for it to fidle_jax/kernels/auto.tsv, with "xla=1" in the column
"milliseconds", and measure it with --write-table.
"""

import dataclasses
import datetime
import re
import statistics
from pathlib import Path

import jax
from cases import describe, layer_case, measure, other_cases
from figures import draw_kernels
from timing import check_positive, machine, run, save

from fidle_jax.errors import InputError
from fidle_jax.files import write_atomically
from fidle_jax.kernels import auto
from fidle_jax.train.run_dir import default_run_dir

TOLERANCE = 1.1  # "auto" should not select a method that takes this many times the best time


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
    passes of XLA's convolutions are up to 45 times slower."""
    output: Path | None = None
    """Directory for kernels.json and kernels.png (default: runs/bench_kernels/<UTC time>)."""
    write_table: bool = False
    """Write the measurements into the table that method "auto" uses."""
    list: bool = False
    """Print one line per problem and measure nothing."""


def main(config: Config) -> None:
    """Measure the problems, write JSON and a figure, and print where "auto" is not the best."""
    check_positive(config, "rounds", "seconds")
    try:
        matches = re.compile(config.only).search
    except re.error as error:
        raise InputError(f"--only {config.only!r} is not a regular expression: {error}") from None
    rows = {row.problem: row for row in auto.table_rows()}
    problems = [problem for problem in rows if matches(describe(problem))]
    others = [case for case in other_cases() if matches(case.name)]
    if config.list:
        print("\n".join([*map(describe, problems), *(case.name for case in others)]))
        return
    if not problems and not others:
        raise InputError(f"--only {config.only!r} matches no problem; --list prints all of them")
    if config.write_table and jax.default_backend() != "cpu":
        raise InputError("--write-table needs JAX on a CPU; set JAX_PLATFORMS=cpu")
    calls = "in a compiled loop" if config.loop else "call by call"
    where = f"{machine(jax.devices()[0].device_kind)}, {calls}"
    print(f"{where}; percentages of the rate of a float32 matrix product, 2048 x 2048", flush=True)

    settings = config.loop, config.rounds, config.seconds
    today = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    results = []
    for problem in problems:
        result = measure(layer_case(problem, list(rows.values())), *settings)
        times = {name: each["milliseconds"] for name, each in result["training"].items()}
        selected = auto.choose(problem)
        result["problem"] = dataclasses.asdict(problem)
        result |= {"auto": selected, "auto_over_best": times[selected] / min(times.values())}
        rows[problem] = auto.Row(problem, times, f"{today}, {where}")
        results.append(result)
        print(format_result(result), flush=True)
    for case in others:
        results.append(measure(case, *settings))
        print(format_result(results[-1]), flush=True)
    output = config.output or default_run_dir("bench_kernels")
    peak = statistics.median(result["matmul_gflops"] for result in results)
    print(f"median rate of the matrix product: {peak:.0f} GFLOP/s")
    save(output / "kernels.json", {"machine": where, "matmul_gflops": peak, "results": results})
    write_atomically(output / "kernels.png", draw_kernels(results, where))
    if config.write_table:
        table = Path(auto.__file__).with_name(auto.TABLE)
        write_atomically(table, auto.write_rows(list(rows.values())))
        print(f"written: {table}, {len(problems)} of its {len(rows)} rows from this run")
    judged = [result for result in results if "auto" in result]
    slow = [result for result in judged if result["auto_over_best"] > TOLERANCE]
    print(f"auto is within 10 % of the best on {len(judged) - len(slow)} of {len(judged)}")
    for result in slow:
        print(f"  {result['auto_over_best']:.2f} x the best: {result['name']}")


def format_result(result: dict) -> str:
    """Format a line for the problem and a line per phase: milliseconds of each method, fastest first."""
    gradients = f"   (gradients: {', '.join(result['gradients'])})" if "gradients" in result else ""
    lines = [result["name"] + gradients]
    for phase in filter(result.__contains__, ("forward", "training")):
        cells = []
        for method, each in sorted(result[phase].items(), key=lambda item: item[1]["milliseconds"]):
            share = f" ({each['share_of_peak']:.1%})" if "share_of_peak" in each else ""
            cells.append(f"{method} {each['milliseconds']:.4g} ms{share}")
        lines.append(f"  {phase:9}{'   '.join(cells)}")
    if "auto" in result:
        lines[-1] += f"   auto: {result['auto']} ({result['auto_over_best']:.2f} x best)"
    return "\n".join(lines)


if __name__ == "__main__":
    run(main, Config(), __doc__)
