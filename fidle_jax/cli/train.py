"""The command line of the experiments that train: from flags to a run and its report."""

import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from fidle_jax.cli.flags import Flags, check_flags
from fidle_jax.cli.launch import join_processes, launch
from fidle_jax.cli.parse import parse_flags
from fidle_jax.cli.terminal import (
    FAILED,
    INTERRUPTED,
    WRONG_INPUT,
    exit_with,
    fail,
    show_phase,
    start,
    unexpected,
)
from fidle_jax.errors import InputError
from fidle_jax.files import expand_user
from fidle_jax.train.config import Config
from fidle_jax.train.recipes import recipes_for
from fidle_jax.train.run_dir import default_run_dir, read_config
from fidle_jax.train.signals import Stop

INTERRUPTION = "interrupted before the run began"


def main(
    experiment: str, description: str, defaults: Config, argv: Sequence[str] | None = None
) -> NoReturn:
    """Run an experiment, and exit with its status.

    Args:
        experiment: Name of the experiment.
        description: First paragraph of the help.
        defaults: The config without flags.
        argv: Command-line flags (default: sys.argv[1:]).
    """
    words = list(sys.argv[1:] if argv is None else argv)
    all_defaults = Flags(**vars(defaults))

    def body(stop: Stop) -> int:
        flags = _parse(experiment, description, all_defaults, words)
        if flags.cluster.launch != "here":
            return launch(flags, all_defaults, experiment)
        start(stop, "fidle_jax.inference.interface")
        command = shlex.join(["python", sys.argv[0], *words])
        if not flags.cluster.distributed:
            return _train(flags, experiment, command, stop)
        # At a normal exit, JAX waits for the other processes, which still wait for this one. After an
        # error, use os._exit to avoid this deadlock.
        try:
            return _train(flags, experiment, command, stop)
        except InputError as error:
            return _leave(fail(error, WRONG_INPUT))
        except KeyboardInterrupt:
            print(INTERRUPTION, file=sys.stderr)
            return _leave(INTERRUPTED)
        except Exception as error:
            return _leave(fail(unexpected(error), FAILED))

    exit_with(body, INTERRUPTION)


def _train(flags: Flags, experiment: str, command: str, stop: Stop) -> int:
    import jax

    from fidle_jax.inference.interface import run_and_report
    from fidle_jax.train import distributed
    from fidle_jax.train.loop import Interrupted, NotFinite

    run_dir = flags.run.run_dir or default_run_dir(experiment)
    if flags.cluster.distributed:
        join_processes(flags, experiment, lambda: _resume_command(run_dir))
        run_dir = Path(distributed.gather_texts(str(run_dir))[0])
    if not flags.run.debug:
        # If a checkpoint cannot be written, orbax and asyncio log hundreds of lines, and the threads of
        # tensorstore print more. The run reports the error itself.
        for name in ("absl", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        sys.unraisablehook = lambda _: None
    phase = show_phase if flags.run.progress else contextlib.nullcontext
    try:
        config = flags.config().replace(run_dir=run_dir)
        result = run_and_report(config, experiment, command, stop, phase)
        distributed.barrier("the report is written")
    except (distributed.SharedInputError, NotFinite) as error:
        return fail(error, FAILED if isinstance(error, NotFinite) else WRONG_INPUT)
    except Interrupted:
        return _interrupted(run_dir) if distributed.is_first() else INTERRUPTED
    except OSError as error:
        if not _has_begun(run_dir) and not flags.cluster.distributed:
            raise
        status = fail(error, FAILED, f"; solve this, then resume: {_resume_command(run_dir)}")
        return _leave(status) if flags.cluster.distributed else status
    except jax.errors.JaxRuntimeError:
        if flags.cluster.distributed:
            distributed.wait_for_abort()
        raise
    except KeyboardInterrupt:
        if not _has_begun(run_dir):
            raise
        status = _interrupted(run_dir)
        return _leave(status) if flags.cluster.distributed else status
    if result:
        print(_sum_up(result, run_dir))
    return 0


def _has_begun(run_dir: Path) -> bool:
    return (run_dir / "config.json").exists()


def _interrupted(run_dir: Path) -> int:
    print(f"interrupted; to resume: {_resume_command(run_dir)}", file=sys.stderr)
    return INTERRUPTED


def _leave(status: int) -> NoReturn:
    """Exit this process without waiting for the others. They detect the exit and stop."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _parse(experiment: str, description: str, defaults: Flags, words: Sequence[str]) -> Flags:
    description = f"{description}\n\n{_describe_recipes(defaults.data.dataset)}"
    flags = parse_flags(description, defaults, words)
    if flags.run.resume and flags.run.run_dir:
        # Flags that are not given default to the settings of the saved run.
        saved = read_config(flags.run.run_dir, experiment)
        flags = parse_flags(description, Flags(**vars(saved)), words)
    elif flags.optimisation.initial:
        from fidle_jax.train.trained import read_finished

        saved, _ = read_finished(expand_user(flags.optimisation.initial))
        flags = parse_flags(description, defaults.replace(model=saved.model.name), words)
    check_flags(flags)
    return flags


def _describe_recipes(dataset: str) -> str:
    recipes = (
        f"{name}: {', '.join(f'{key} {_short(value)}' for key, value in settings.items())}"
        for name, settings in recipes_for(dataset).items()
    )
    name = dataset or "your own images"
    lines = (f"A recipe sets the flags that are not given. Recipes for {name}:", *recipes)
    return "\n\n".join(line.replace("_", " ") for line in lines)


def _short(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _resume_command(run_dir: Path) -> str:
    return shlex.join(["python", sys.argv[0], "--run-dir", str(run_dir), "--resume"])


def _sum_up(result: dict, run_dir: Path) -> str:
    selected = ", epoch selected on the test set" if result["hold_out"] == "test" else ""
    return (
        f"{result['experiment']}: test accuracy {100 * result['test_accuracy']:.2f} %{selected}, "
        f"loss {result['test_loss']:.4f} ({result['dataset']} {result['variant']}, "
        f"{result['train_examples']:,} training images, {result['epochs']} epochs, "
        f"seed {result['seed']}) after {result['train_seconds']:.1f} s "
        f"of training; report: {run_dir / 'report.html'}"
    )
