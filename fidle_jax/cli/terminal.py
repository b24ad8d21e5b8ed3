"""What every experiment does at the terminal: tyro's flags, one line for each error, an exit status."""

import contextlib
import io
import logging
import os
import re
import sys
import traceback
import types
import typing
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from fidle_jax.errors import InputError
from fidle_jax.train.signals import Stop, catch_stop

FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130

Flags = TypeVar("Flags")


def exit_with(body: Callable[[Stop], int], interruption: str) -> NoReturn:
    """Exits with the status that ``body`` gives, or that of the error or signal that ends it.

    Args:
        body: what to do; it may look for signals that were deferred.
        interruption: what to say where a signal ended it.
    """
    _shorten_warnings()
    with catch_stop() as stop:
        try:
            status = body(stop)
        except InputError as error:
            status = fail(error, WRONG_INPUT)
        except KeyboardInterrupt:
            print(interruption, file=sys.stderr)
            status = INTERRUPTED
    sys.exit(status)


def parse_flags(description: str, defaults: Flags, words: list[str] | None = None) -> Flags:
    """``defaults`` with what sys.argv, or ``words``, change of them; tyro's errors, boxes of many lines,
    become one."""
    rules = ConstructorRegistry()
    rules.primitive_rule(_optional)
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            return tyro.cli(
                type(defaults),
                description=description,
                default=defaults,
                registry=rules,
                args=words,
            )
    except SystemExit as leave:
        if leave.code in (0, None):
            raise
        text = " ".join(re.sub(r"[\u2500-\u257f]+", " ", output.getvalue()).split())
        message = re.split(r" (?:Argument helptext|For full helptext|-{5,})", text)[0]
        title = r"^(?:Value error|Unrecognized options|Missing argument) (?=Error|Unrec|Missing)"
        raise InputError(f"{re.sub(title, '', message)}; --help explains each flag") from None


def _optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """A flag that may be left open: shown and read as its type, without tyro's "{None}|"."""
    choices = typing.get_args(info.type)
    if types.NoneType not in choices:
        return None
    kinds = [kind for kind in choices if kind is not types.NoneType]
    several = typing.get_origin(kinds[0]) is tuple
    kind = typing.get_args(kinds[0])[0] if several else kinds[0]
    expected = {int: "a whole number", float: "a number"}.get(kind, "text")

    def read(words: list[str]):
        try:
            values = tuple(kind(word) for word in words)
        except ValueError:
            raise ValueError(f"expected {expected}, not {' '.join(words)!r}") from None
        return values if several else values[0]

    def show(value) -> list[str]:
        if value is None:
            return ["open"]
        return [str(item) for item in value] if several else [str(value)]

    metavar = "PATH" if kind is Path else kind.__name__.upper()
    return PrimitiveConstructorSpec(
        nargs="*" if several else 1,
        metavar=f"{metavar} ..." if several else metavar,
        instance_from_str=read,
        is_instance=lambda value: True,
        str_from_instance=show,
    )


def set_up_output() -> None:
    """Has each line appear at once on stdout, and the project's warnings on stderr, one line each."""
    sys.stdout.reconfigure(line_buffering=True)  # a log file is read while the run goes on
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    logger = logging.getLogger("fidle_jax")
    logger.addHandler(handler)
    logger.propagate = False


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {' '.join(record.getMessage().split())}"


def _shorten_warnings() -> None:
    """Show the project's own Python warnings as one line on stderr. Show others as Python does."""
    show_others = warnings.showwarning

    def show(message, category, *place, **options):
        if category.__module__.startswith("fidle_jax."):
            print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)
        else:
            show_others(message, category, *place, **options)

    warnings.showwarning = show


def fail(error: Exception, status: int, hint: str = "") -> int:
    """Prints the error as one line, after its traceback with --debug; gives ``status`` back."""
    if "--debug" in sys.argv:
        traceback.print_exception(error)
    print(f"error: {' '.join(str(error).split())}{hint}", file=sys.stderr)
    return status


def enable_compilation_cache() -> None:
    """Enable JAX's persistent compilation cache for every program.

    The environment variable JAX_COMPILATION_CACHE_DIR overrides the directory.
    """
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(compilation_cache_dir()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def compilation_cache_dir() -> Path:
    """Return the default directory of the compilation cache, one for each number of cores.

    JAX's cache keys don't contain the number of cores, but programs compiled on fewer cores are slower.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fidle-jax" / "xla"
    if not hasattr(os, "sched_getaffinity"):
        return cache
    return cache / f"{len(os.sched_getaffinity(0))}-cores"
