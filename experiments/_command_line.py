"""The command line that every experiment shares: flags to a config, errors to one line each."""

import contextlib
import dataclasses
import io
import logging
import os
import re
import shlex
import sys
import traceback
import types
import typing
from pathlib import Path

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from fidle_jax.errors import InputError
from fidle_jax.train.config import RECIPES, Config, check
from fidle_jax.train.run_dir import default_run_dir, read_config
from fidle_jax.train.signals import Stop, catch_stop

FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130


def main(experiment: str, description: str, defaults: Config) -> None:
    """Runs ``experiment`` as sys.argv asks and exits with its status."""
    with catch_stop() as stop:
        try:
            config = _parse(experiment, description, defaults)
            status = _run(config, experiment, stop)
        except InputError as error:
            status = _fail(error, WRONG_INPUT)
        except KeyboardInterrupt:
            print("interrupted before the run began", file=sys.stderr)
            status = INTERRUPTED
    sys.exit(status)


def _run(config: Config, experiment: str, stop: Stop) -> int:
    # JAX takes a second to import: --help and a mistyped flag are answered without it.
    from fidle_jax.train.loop import Interrupted, NotFinite
    from fidle_jax.train.run import run

    _configure(config.debug)
    try:
        result = run(config, experiment, shlex.join(["python", *sys.argv]), stop)
    except NotFinite as error:
        return _fail(error, FAILED)
    except OSError as error:
        return _fail(error, FAILED, f"; once that is mended, go on with: {_resume_command(config)}")
    except (Interrupted, KeyboardInterrupt):
        if not (config.run_dir / "config.json").exists():
            raise KeyboardInterrupt from None
        print(f"interrupted; to go on: {_resume_command(config)}", file=sys.stderr)
        return INTERRUPTED
    print(_sum_up(result, config.run_dir))
    return 0


def _parse(experiment: str, description: str, defaults: Config) -> Config:
    config = _parse_flags(description, defaults)
    check(config)
    if config.resume:
        # The run's own settings stand in for the flags that are not given.
        config = _parse_flags(description, read_config(config.run_dir, experiment))
    if config.run_dir is None:
        config = dataclasses.replace(config, run_dir=default_run_dir(experiment))
    return config


def _parse_flags(description: str, defaults: Config) -> Config:
    """tyro's own errors are boxes of many lines: here they become one."""
    rules = ConstructorRegistry()
    rules.primitive_rule(_optional)
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            return tyro.cli(
                Config,
                description=f"{description}\n\n{_describe_recipes()}",
                default=defaults,
                registry=rules,
            )
    except SystemExit as leave:
        if leave.code in (0, None):
            raise
        text = " ".join(re.sub(r"[\u2500-\u257f]+", " ", output.getvalue()).split())
        message = re.split(r" (?:Argument helptext|For full helptext|-{5,})", text)[0]
        title = r"^(?:Value error|Unrecognized options|Missing argument) (?=Error|Unrec|Missing)"
        raise InputError(f"{re.sub(title, '', message)}; --help explains each flag") from None


def _describe_recipes() -> str:
    recipes = (
        f"{name}: {', '.join(f'{key} {value}' for key, value in settings.items())}"
        for name, settings in RECIPES.items()
    )
    lines = ("A flag marked [recipe] that is left open takes the recipe's value:", *recipes)
    return "\n\n".join(line.replace("_", " ") for line in lines)


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


def _configure(debug: bool) -> None:
    import jax

    sys.stdout.reconfigure(line_buffering=True)  # a log file is read while the run goes on
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    logger = logging.getLogger("fidle_jax")
    logger.addHandler(handler)
    logger.propagate = False
    if not debug:
        # Where a checkpoint cannot be written, orbax logs hundreds of lines of tracebacks, and
        # tensorstore's threads leave some more, beside the error that the run raises and reports.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        sys.unraisablehook = lambda _: None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fidle-jax" / "xla"
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {' '.join(record.getMessage().split())}"


def _fail(error: Exception, status: int, hint: str = "") -> int:
    if "--debug" in sys.argv:
        traceback.print_exception(error)
    print(f"error: {' '.join(str(error).split())}{hint}", file=sys.stderr)
    return status


def _resume_command(config: Config) -> str:
    return shlex.join(["python", sys.argv[0], "--run-dir", str(config.run_dir), "--resume"])


def _sum_up(result: dict, run_dir: Path) -> str:
    return (
        f"{result['experiment']}: test accuracy {100 * result['test_accuracy']:.2f} %, "
        f"loss {result['test_loss']:.4f} ({result['dataset']} {result['variant']}, "
        f"{result['train_examples']:,} training images, {result['epochs']} epochs, "
        f"seed {result['seed']}) after {result['train_seconds']:.1f} s "
        f"of training; report: {run_dir / 'report.html'}"
    )
