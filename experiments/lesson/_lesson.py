"""What the lessons share: their flags, what they print, and the directory that they write."""

import dataclasses
import importlib
import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).parents[1]))  # what all experiments share

from fidle_jax.cli.terminal import (
    FAILED,
    enable_compilation_cache,
    exit_with,
    fail,
    parse_flags,
    set_up_output,
)
from fidle_jax.errors import InputError
from fidle_jax.files import write_atomically, write_json
from fidle_jax.train import run_dir as run_dirs
from fidle_jax.train.signals import Stop

if TYPE_CHECKING:
    from fidle_jax.report.lesson import Section


@dataclasses.dataclass(frozen=True)
class Flags:
    """What every lesson takes."""

    run_dir: Path | None = None
    """Where the page, its figures and numbers are written (default: runs/lesson/NAME/UTC time)."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What a lesson has to say.

    Attributes:
        title: of its page.
        summary: what it shows, in a few sentences.
        facts: the numbers to remember, by name, as text.
        sections: of its page.
        numbers: what result.json is to hold.
    """

    title: str
    summary: str
    facts: dict[str, str]
    sections: "list[Section]"
    numbers: dict[str, Any]


def main(name: str, description: str, defaults: Flags, teach: Callable[[Any], Lesson]) -> None:
    """Has ``teach`` make the lesson that sys.argv asks for, writes and prints it, and exits.

    Args:
        name: of the lesson, and its folder.
        description: for --help.
        defaults: its flags, of a class of its own.
        teach: the flags to the lesson. It imports JAX and Matplotlib itself, so that --help is there at
            once, and raises InputError where a flag is wrong.
    """

    def body(stop: Stop) -> int:
        flags = parse_flags(description, defaults)
        run_dir = flags.run_dir or run_dirs.default_run_dir(f"lesson/{name}")
        run_dirs.check_new(run_dir)
        set_up_output()
        enable_compilation_cache()
        started = time.perf_counter()
        # An interrupt that rises within an import may be swallowed there, or end the process.
        with stop.defer():
            importlib.import_module("fidle_jax.report.lesson")
            importlib.import_module("jax")
        stop.check()
        lesson = teach(flags)
        try:
            with run_dirs.hold(run_dir):
                _write(run_dir, name, flags, lesson, started)
        except OSError as error:
            return fail(error, FAILED)
        _print(lesson)
        print(f"{lesson.title}; page: {run_dir / 'report.html'}")
        return 0

    exit_with(body, "interrupted; nothing was written")


def _write(run_dir: Path, name: str, flags: Flags, lesson: Lesson, started: float) -> None:
    from fidle_jax.report.lesson import Slides, Table, render_lesson

    command = shlex.join(["python", *sys.argv])
    described = json.loads(json.dumps(vars(flags), default=str))
    described |= {"experiment": f"lesson/{name}", "command": command}
    write_json(run_dir / "config.json", described)
    (run_dir / "figures").mkdir(exist_ok=True)
    for shown in (each for section in lesson.sections for each in section.shown):
        if isinstance(shown, Slides):
            write_atomically(run_dir / "figures" / f"{shown.name}.gif", shown.gif())
        elif not isinstance(shown, Table):
            write_atomically(run_dir / "figures" / f"{shown.name}.png", shown.png)
    page = render_lesson(lesson.title, lesson.summary, lesson.facts, lesson.sections, command)
    seconds = time.perf_counter() - started
    said = {"title": lesson.title, "summary": lesson.summary, "seconds": seconds}
    numbers = {"experiment": f"lesson/{name}"} | said | lesson.numbers
    write_json(run_dir / "result.json", numbers)
    write_atomically(run_dir / "report.html", page)


def _print(lesson: Lesson) -> None:
    from fidle_jax.report.lesson import Table, text_table

    for section in lesson.sections:
        for table in section.shown:
            if isinstance(table, Table):
                print(f"{section.title}\n\n{text_table(table)}\n")
    width = max(map(len, lesson.facts), default=0)
    for what, value in lesson.facts.items():
        print(f"{what.ljust(width)}  {value}")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raises InputError where the flag ``name`` is outside of the range, both ends of which are in it."""
    if not low <= value <= high:
        raise InputError(f"--{name} is {value}; expected a number from {low:g} to {high:g}")
