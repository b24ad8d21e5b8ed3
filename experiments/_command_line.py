"""The command line that every experiment shares: flags to a config, errors to one line each."""

import contextlib
import dataclasses
import importlib
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
from typing import NoReturn

import tyro
from _flags import Flags, check_flags
from _join import join_others
from _launch import launch
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from fidle_jax.errors import InputError
from fidle_jax.train.config import Config
from fidle_jax.train.recipes import recipes_for
from fidle_jax.train.run_dir import default_run_dir, read_config
from fidle_jax.train.signals import Stop, catch_stop

FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130


def main(experiment: str, description: str, defaults: Config) -> None:
    """Runs ``experiment`` as sys.argv asks and exits with its status."""
    defaults = Flags(**vars(defaults))
    with catch_stop() as stop:
        try:
            flags = _parse(experiment, description, defaults)
            if flags.launch == "here":
                status = _run(flags, experiment, stop)
            else:
                status = launch(flags, defaults, experiment)
        except InputError as error:
            status = _fail(error, WRONG_INPUT)
        except KeyboardInterrupt:
            print("interrupted before the run began", file=sys.stderr)
            status = INTERRUPTED
    sys.exit(status)


def _run(flags: Flags, experiment: str, stop: Stop) -> int:
    # JAX takes a second to import: --help and a mistyped flag are answered without it. An interrupt
    # that rises within an import may be swallowed there, or end the process.
    with stop.defer():
        importlib.import_module("fidle_jax.train.run")
    stop.check()
    if not flags.distributed:
        return _train(flags, experiment, stop)
    try:
        return _train(flags, experiment, stop)
    except InputError as error:
        return _leave(_fail(error, WRONG_INPUT))
    except KeyboardInterrupt:
        print("interrupted before the run began", file=sys.stderr)
        return _leave(INTERRUPTED)
    except Exception:
        traceback.print_exc()
        return _leave(FAILED)


def _train(flags: Flags, experiment: str, stop: Stop) -> int:
    import jax

    from fidle_jax.train import processes
    from fidle_jax.train.loop import Interrupted, NotFinite
    from fidle_jax.train.run import run

    run_dir = flags.run_dir or default_run_dir(experiment)
    if flags.distributed:
        join_others(flags, experiment, lambda: _resume_command(run_dir))
        run_dir = Path(processes.gather_texts(str(run_dir))[0])
    _configure(flags.debug)
    config = dataclasses.replace(flags.config(), run_dir=run_dir)
    try:
        result = run(config, experiment, shlex.join(["python", *sys.argv]), stop)
    except (processes.InputErrorOfAll, NotFinite) as error:
        return _fail(error, FAILED if isinstance(error, NotFinite) else WRONG_INPUT)
    except Interrupted:
        return _interrupted(run_dir) if processes.is_first() else INTERRUPTED
    except OSError as error:
        hint = f"; once that is mended, go on with: {_resume_command(run_dir)}"
        status = _fail(error, FAILED, hint)
        return _leave(status) if flags.distributed else status
    except jax.errors.JaxRuntimeError:
        if flags.distributed:
            processes.await_verdict()
        raise
    except KeyboardInterrupt:
        if not (run_dir / "config.json").exists():
            raise
        status = _interrupted(run_dir)
        return _leave(status) if flags.distributed else status
    if result:
        print(_sum_up(result, run_dir))
    return 0


def _interrupted(run_dir: Path) -> int:
    print(f"interrupted; to go on: {_resume_command(run_dir)}", file=sys.stderr)
    return INTERRUPTED


def _leave(status: int) -> NoReturn:
    """Ends this one of several processes without waiting for the others, which will see it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _parse(experiment: str, description: str, defaults: Flags) -> Flags:
    flags = _parse_flags(description, defaults)
    check_flags(flags)
    if flags.resume:
        # The run's own settings stand in for the flags that are not given.
        saved = read_config(flags.run_dir, experiment)
        flags = _parse_flags(description, dataclasses.replace(defaults, **vars(saved)))
    return flags


def _parse_flags(description: str, defaults: Flags) -> Flags:
    """tyro's own errors are boxes of many lines: here they become one."""
    rules = ConstructorRegistry()
    rules.primitive_rule(_optional)
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            return tyro.cli(
                Flags,
                description=f"{description}\n\n{_describe_recipes(defaults.dataset)}",
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


def _describe_recipes(dataset: str) -> str:
    recipes = (
        f"{name}: {', '.join(f'{key} {_short(value)}' for key, value in settings.items())}"
        for name, settings in recipes_for(dataset).items()
    )
    lines = (
        f"A flag marked [recipe] that is left open takes the recipe's value; those for {dataset}:",
        *recipes,
    )
    return "\n\n".join(line.replace("_", " ") for line in lines)


def _short(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


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


def _resume_command(run_dir: Path) -> str:
    return shlex.join(["python", sys.argv[0], "--run-dir", str(run_dir), "--resume"])


def _sum_up(result: dict, run_dir: Path) -> str:
    return (
        f"{result['experiment']}: test accuracy {100 * result['test_accuracy']:.2f} %, "
        f"loss {result['test_loss']:.4f} ({result['dataset']} {result['variant']}, "
        f"{result['train_examples']:,} training images, {result['epochs']} epochs, "
        f"seed {result['seed']}) after {result['train_seconds']:.1f} s "
        f"of training; report: {run_dir / 'report.html'}"
    )
