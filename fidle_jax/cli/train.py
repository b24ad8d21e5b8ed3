"""The command line of the experiments that train: flags to a config, a config to a run."""

import dataclasses
import importlib
import logging
import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from fidle_jax.cli.flags import Flags, check_flags
from fidle_jax.cli.launch import join_processes, launch
from fidle_jax.cli.terminal import (
    FAILED,
    INTERRUPTED,
    WRONG_INPUT,
    enable_compilation_cache,
    exit_with,
    fail,
    parse_flags,
    set_up_output,
)
from fidle_jax.errors import InputError
from fidle_jax.train.config import Config
from fidle_jax.train.recipes import recipes_for
from fidle_jax.train.run_dir import default_run_dir, hold, read_config
from fidle_jax.train.signals import Stop

INTERRUPTION = "interrupted before the run began"


def main(experiment: str, description: str, defaults: Config) -> None:
    """Runs ``experiment`` as sys.argv asks and exits with its status."""
    defaults = Flags(**vars(defaults))

    def body(stop: Stop) -> int:
        flags = _parse(experiment, description, defaults)
        if flags.cluster.launch == "here":
            return _run(flags, experiment, stop)
        return launch(flags, defaults, experiment)

    exit_with(body, INTERRUPTION)


def _run(flags: Flags, experiment: str, stop: Stop) -> int:
    # JAX takes a second to import: --help and a mistyped flag are answered without it. An interrupt
    # that rises within an import may be swallowed there, or end the process.
    with stop.defer():
        importlib.import_module("fidle_jax.train.run")
    stop.check()
    if not flags.cluster.distributed:
        return _train(flags, experiment, stop)
    try:
        return _train(flags, experiment, stop)
    except InputError as error:
        return _leave(fail(error, WRONG_INPUT))
    except KeyboardInterrupt:
        print(INTERRUPTION, file=sys.stderr)
        return _leave(INTERRUPTED)
    except Exception:
        traceback.print_exc()
        return _leave(FAILED)


def _train(flags: Flags, experiment: str, stop: Stop) -> int:
    import jax

    from fidle_jax.report import write_report
    from fidle_jax.train import distributed
    from fidle_jax.train.loop import Interrupted, NotFinite
    from fidle_jax.train.run import run

    run_dir = flags.run.run_dir or default_run_dir(experiment)
    if flags.cluster.distributed:
        join_processes(flags, experiment, lambda: _resume_command(run_dir))
        run_dir = Path(distributed.gather_texts(str(run_dir))[0])
    _configure(flags.run.debug)
    config = flags.config().replace(run_dir=run_dir)
    try:
        result = run(config, experiment, shlex.join(["python", *sys.argv]), stop)
        if result and not (run_dir / "report.html").exists():
            with hold(run_dir):
                write_report(run_dir)
        distributed.barrier("the report is written")
    except (distributed.SharedInputError, NotFinite) as error:
        return fail(error, FAILED if isinstance(error, NotFinite) else WRONG_INPUT)
    except Interrupted:
        return _interrupted(run_dir) if distributed.is_first() else INTERRUPTED
    except OSError as error:
        hint = f"; once that is mended, go on with: {_resume_command(run_dir)}"
        status = fail(error, FAILED, hint)
        return _leave(status) if flags.cluster.distributed else status
    except jax.errors.JaxRuntimeError:
        if flags.cluster.distributed:
            distributed.wait_for_abort()
        raise
    except KeyboardInterrupt:
        if not (run_dir / "config.json").exists():
            raise
        status = _interrupted(run_dir)
        return _leave(status) if flags.cluster.distributed else status
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
    description = f"{description}\n\n{_describe_recipes(defaults.data.dataset)}"
    flags = parse_flags(description, defaults)
    check_flags(flags)
    if flags.run.resume:
        # The run's own settings stand in for the flags that are not given.
        saved = read_config(flags.run.run_dir or Path(), experiment)
        flags = parse_flags(description, dataclasses.replace(defaults, **vars(saved)))
    return flags


def _describe_recipes(dataset: str) -> str:
    recipes = (
        f"{name}: {', '.join(f'{key} {_short(value)}' for key, value in settings.items())}"
        for name, settings in recipes_for(dataset).items()
    )
    lines = (
        f"A recipe sets the flags that are not given. Recipes for {dataset}:",
        *recipes,
    )
    return "\n\n".join(line.replace("_", " ") for line in lines)


def _short(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _configure(debug: bool) -> None:
    set_up_output()
    if not debug:
        # Where a checkpoint cannot be written, orbax logs hundreds of lines of tracebacks, and
        # tensorstore's threads leave some more, beside the error that the run raises and reports.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        sys.unraisablehook = lambda _: None
    enable_compilation_cache()


def _resume_command(run_dir: Path) -> str:
    return shlex.join(["python", sys.argv[0], "--run-dir", str(run_dir), "--resume"])


def _sum_up(result: dict, run_dir: Path) -> str:
    chosen = ", the epoch chosen on it" if result["hold_out"] == "test" else ""
    return (
        f"{result['experiment']}: test accuracy {100 * result['test_accuracy']:.2f} %{chosen}, "
        f"loss {result['test_loss']:.4f} ({result['dataset']} {result['variant']}, "
        f"{result['train_examples']:,} training images, {result['epochs']} epochs, "
        f"seed {result['seed']}) after {result['train_seconds']:.1f} s "
        f"of training; report: {run_dir / 'report.html'}"
    )
