"""The command line of the lessons: run one lesson, or all of them, and write their pages."""

import dataclasses
import json
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from fidle_jax.cli.parse import parse_flags
from fidle_jax.cli.terminal import FAILED, command_text, exit_with, fail, start
from fidle_jax.errors import InputError
from fidle_jax.files import write_atomically
from fidle_jax.lessons.flags import LESSONS, All, Budget, Flags
from fidle_jax.train import run_dir as run_dirs
from fidle_jax.train.signals import Stop

if TYPE_CHECKING:
    from fidle_jax.report.lesson import Card, Page


def main(name: str, words: list[str] | None = None) -> NoReturn:
    """Run one lesson, or the lesson "all", and exit.

    Args:
        name: Name of the lesson in `fidle_jax.lessons.flags.LESSONS`, or "all".
        words: Command-line arguments (default: those of this process).
    """

    def body(stop: Stop) -> int:
        flags: Flags = parse_flags(defaults.__doc__ or "", defaults, words)
        flags.check()
        run_dir = flags.run_dir or run_dirs.default_run_dir(f"lesson/{name}")
        run_dirs.check_new(run_dir)
        start(stop, "jax", "fidle_jax.lessons.page")
        if isinstance(flags, All):
            return _run_all(flags, run_dir, command, stop)
        card = _run(name, flags, run_dir, command)
        print(f"{card.title}; page: {run_dir / 'report.html'}")
        return 0

    command = command_text(f"lesson/{name}", words)
    defaults = All() if name == "all" else LESSONS[name]()
    finished = "the pages of the finished lessons are complete"
    exit_with(body, f"interrupted; {finished if name == 'all' else 'nothing was written'}")


def _run(name: str, flags: Flags, run_dir: Path, command: str) -> "Card":
    """Run a lesson, write its files, print its tables and return its card for the index page."""
    from fidle_jax.lessons.page import teach
    from fidle_jax.report.lesson import Card, thumbnail, write_page

    started = time.perf_counter()
    lesson, page = teach(name, flags)
    seconds = time.perf_counter() - started
    config = json.loads(json.dumps(dataclasses.asdict(flags), default=str))
    config |= {"experiment": f"lesson/{name}", "command": command}
    about = {"experiment": f"lesson/{name}", "title": page.title, "summary": page.summary}
    # The numbers of a lesson may contain arrays.
    numbers = json.loads(json.dumps(lesson.numbers, default=lambda each: each.tolist()))
    result = {**about, "seconds": seconds, **numbers}
    write_page(run_dir, page, command, {"config.json": config, "result.json": result})
    _print(page)
    small = thumbnail(page.pictures[lesson.cover].png)
    return Card(name, "", page.title, page.summary, seconds, small)


def _print(page: "Page") -> None:
    from fidle_jax.report.lesson import text_section

    for section in page.sections:
        if text := text_section(section):
            print(text)
    width = max(map(len, page.facts))
    for name, value in page.facts.items():
        print(f"{name.ljust(width)}  {value}")


def _run_all(flags: All, run_dir: Path, command: str, stop: Stop) -> int:
    """Run every lesson. If one fails, run the others and return 1."""
    from fidle_jax.report.lesson import Card, render_index

    cards = {name: Card(name, failure="It has not run yet.") for name in LESSONS}
    failed = []
    with run_dirs.hold(run_dir):
        for name, kind in LESSONS.items():
            print(f"\n{name}\n{'=' * len(name)}")
            own, words = kind(run_dir=run_dir / name), ["--run-dir", str(run_dir / name)]
            if isinstance(own, Budget) and flags.quick:
                own, words = dataclasses.replace(own, quick=True), [*words, "--quick"]
            try:
                cards[name] = _run(name, own, run_dir / name, command_text(f"lesson/{name}", words))
            except Exception as error:
                if not isinstance(error, InputError | OSError):
                    traceback.print_exception(error)
                fail(error, FAILED)
                failed.append(name)
                cards[name] = Card(name, failure="It failed; the terminal shows the error.")
            # The page can be read while the other lessons run.
            page = render_index(list(cards.values()), flags.quick, command)
            write_atomically(run_dir / "report.html", page)
            stop.check()
    count, total = len(LESSONS) - len(failed), len(LESSONS)
    print(f"{count} of {total} lessons; page: {run_dir / 'report.html'}")
    if failed:
        print(f"error: {', '.join(failed)} failed; the errors are above", file=sys.stderr)
    return FAILED if failed else 0
