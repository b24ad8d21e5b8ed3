"""Every method of convolution and pooling timed over a grid of shapes, and how "auto" chooses among them."""

import dataclasses
import datetime
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import tyro
from _bench_cases import Case, case_of, other_cases
from _bench_measure import machine, measure, medians
from _bench_output import figure_of, lines
from _bench_problems import describe, grid
from _bench_turns import call_by_call, in_a_loop

from fidle_jax.files import write_atomically, write_json
from fidle_jax.kernels import measured
from fidle_jax.kernels.choice import choose
from fidle_jax.kernels.measured import Problem, Row
from fidle_jax.report.style import png
from fidle_jax.train.run_dir import default_run_dir

TOLERATED = 1.1  # times the best: more than that, "auto" may not take


@dataclasses.dataclass(frozen=True)
class Config:
    """What to measure, how often, and where the figures go."""

    only: str = ""
    """Regular expression: measure only the problems in whose line (see --list) it is found."""
    rounds: int = 15
    """Turns of each method on each problem, at most."""
    seconds: float = 0.7
    """That all turns on one problem may take, roughly; but three rounds there are."""
    loop: bool = True
    """Time the calls in one compiled loop, as this project trains (where XLA's convolutions have
    backward passes up to 45 times slower), instead of one by one."""
    output: Path | None = None
    """Folder of kernels.json and kernels.png (default: runs/bench_kernels/<UTC time>)."""
    write_table: bool = False
    """Write what was measured into the table that method "auto" goes by."""
    list: bool = False
    """Print the problems, a line each, and measure nothing."""


def main(config: Config) -> None:
    """Measures problem by problem; then writes JSON and a figure, and says where "auto" is not the best."""
    if config.rounds < 1:
        _fail(f"--rounds {config.rounds}; expected 1 or more")
    problems, others = _selected(config.only)
    if config.list:
        print("\n".join([*map(describe, problems), *(case.name for case in others)]))
        return
    if config.write_table and jax.default_backend() != "cpu":
        _fail(
            "--write-table, and JAX runs on no CPU; expected JAX_PLATFORMS=cpu before the command"
        )
    where = f"{machine()}, {'in a compiled loop' if config.loop else 'call by call'}"
    print(f"{where}; shares are of a float32 matmul's rate, 2048 x 2048", flush=True)
    results, rows = _measure_all(config, problems, others, where)
    _write(config.output or default_run_dir("bench_kernels"), where, results)
    if config.write_table:
        _write_table(rows, len(problems))
    else:
        print(_verdict([result for result in results if "auto" in result]))


def _selected(pattern: str) -> tuple[list[Problem], list[Case]]:
    try:
        found = re.compile(pattern).search
    except re.error as error:
        _fail(f"--only {pattern!r} is no regular expression ({error}); expected one")
    problems = [problem for problem in grid() if found(describe(problem))]
    others = [case for case in other_cases() if found(case.name)]
    if not problems and not others:
        _fail(f"--only {pattern!r} is found in no problem's line; --list prints them")
    return problems, others


def _measure_all(
    config: Config, problems: Sequence[Problem], others: Sequence[Case], where: str
) -> tuple[list[dict[str, Any]], dict[Problem, Row]]:
    """The results, and the table's rows with those measured here in their places."""

    def timed(case):
        # A batch is gathered from images that stay the same: nothing to go round in a loop with.
        prepare = in_a_loop if config.loop and case.gradients else call_by_call
        return measure(case, prepare, config.rounds, config.seconds)

    rows = {row.problem: row for row in measured.kept_rows()}
    today = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    results = []
    for problem in problems:
        result = timed(case_of(problem, rows.values()))
        times, auto = medians(result, "training"), choose(problem)
        result["problem"] = dataclasses.asdict(problem)
        result |= {"auto": auto, "auto_over_best": times[auto] / min(times.values())}
        results.append(result)
        rows[problem] = Row(problem, times, f"{today}, {where}")
        print(lines(results[-1]), flush=True)
    for case in others:
        results.append(timed(case))
        print(lines(results[-1]), flush=True)
    return results, rows


def _write(output: Path, where: str, results: Sequence[dict[str, Any]]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    figures, picture = output / "kernels.json", output / "kernels.png"
    peak = statistics.median(result["matmul_gflops"] for result in results)
    write_json(figures, {"machine": where, "matmul_gflops": peak, "results": results})
    write_atomically(picture, png(figure_of(results, where)))
    print(f"the matmul's rate: {peak:.0f} GFLOP/s, the median\nwritten: {figures}, {picture}")


def _write_table(rows: dict[Problem, Row], new: int) -> None:
    table = Path(measured.__file__).with_name(measured.TABLE)
    kept = [rows[problem] for problem in grid() if problem in rows]
    write_atomically(table, measured.write_rows(kept))
    print(f"written: {table}, {new} of its {len(kept)} rows from this run")


def _verdict(results: Sequence[dict[str, Any]]) -> str:
    slow = [result for result in results if result["auto_over_best"] > TOLERATED]
    verdict = f"auto is within 10 % of the best on {len(results) - len(slow)} of {len(results)}"
    return "\n".join(
        [verdict, *(f"  {r['auto_over_best']:.2f} x the best: {r['name']}" for r in slow)]
    )


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
