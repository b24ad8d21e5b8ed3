"""The command line that every experiment shares: flags to a config, errors to one line each."""

import contextlib
import dataclasses
import io
import logging
import os
import re
import shlex
import sys
from pathlib import Path

import tyro

from fidle_jax.errors import InputError
from fidle_jax.train.config import Config
from fidle_jax.train.run_dir import default_run_dir, read_config

FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130


def main(experiment: str, description: str, defaults: Config) -> None:
    """Runs ``experiment`` as sys.argv asks and exits with its status."""
    debug = "--debug" in sys.argv
    try:
        config = _parse(description, defaults)
        if config.run_dir is None:
            config = dataclasses.replace(config, run_dir=default_run_dir(experiment))
    except InputError as error:
        _fail(error, WRONG_INPUT, debug)
    sys.exit(_run(config, experiment))


def _run(config: Config, experiment: str) -> int:
    # JAX takes a second to import: --help and a mistyped flag are answered without it.
    from fidle_jax.train.loop import Interrupted, NotFinite
    from fidle_jax.train.run import run
    from fidle_jax.train.signals import catch_stop

    _configure()
    with catch_stop() as stop:
        try:
            result = run(config, experiment, shlex.join(["python", *sys.argv]), stop)
        except InputError as error:
            _fail(error, WRONG_INPUT, config.debug)
        except (Interrupted, KeyboardInterrupt):
            return _interrupted(config)
        except (NotFinite, OSError) as error:
            _fail(error, FAILED, config.debug)
    print(_sum_up(result, config.run_dir))
    return 0


def _parse(description: str, defaults: Config) -> Config:
    config = _parse_flags(description, defaults)
    if config.resume and config.run_dir is not None:
        # The run's own settings stand in for the flags that are not given.
        config = _parse_flags(description, read_config(config.run_dir))
    return config


def _parse_flags(description: str, defaults: Config) -> Config:
    """tyro's own errors are boxes of many lines: here they become one."""
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            return tyro.cli(Config, description=description, default=defaults)
    except SystemExit as leave:
        if leave.code in (0, None):
            raise
        text = re.sub(r"[\u2500-\u257f]+", " ", output.getvalue())
        words = " ".join(text.split())
        raise InputError(words) from None


def _configure() -> None:
    import jax

    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fidle-jax" / "xla"
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _fail(error: Exception, status: int, debug: bool) -> None:
    if debug:
        raise error
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(status)


def _interrupted(config: Config) -> int:
    if (config.run_dir / "config.json").exists():
        command = ["python", sys.argv[0], "--run-dir", str(config.run_dir), "--resume"]
        print(f"interrupted; to go on: {shlex.join(command)}", file=sys.stderr)
    else:
        print("interrupted before the run began; nothing was written", file=sys.stderr)
    return INTERRUPTED


def _sum_up(result: dict, run_dir: Path) -> str:
    return (
        f"{result['experiment']}: test accuracy {100 * result['test_accuracy']:.2f} %, "
        f"loss {result['test_loss']:.4f} ({result['dataset']} {result['variant']}, "
        f"{result['train_examples']:,} training images, {result['epochs']} epochs, "
        f"seed {result['seed']}) after {result['train_seconds']:.1f} s "
        f"of training; report: {run_dir / 'report.html'}"
    )
