"""One run: config, data, training, test, result."""

import contextlib
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import PyTree

from fidle_jax.data import (
    Dataset,
    Split,
    StoredSplit,
    grouped_split,
    load_dataset,
    stratified_split,
)
from fidle_jax.data.batches import steps_per_epoch
from fidle_jax.errors import InputError
from fidle_jax.files import write_json
from fidle_jax.nn import format_table, layer_table, make_model
from fidle_jax.train import distributed
from fidle_jax.train import run_dir as run_dirs
from fidle_jax.train.checkpoints import Checkpoints
from fidle_jax.train.compiled_steps import choose_loader, compile_steps, gather_parts
from fidle_jax.train.config import (
    Config,
    ResolvedConfig,
    check,
    differences,
    hyperparameters,
    resolve,
    to_json,
)
from fidle_jax.train.loop import Interrupted, Loop, NotFinite, Plan, Record
from fidle_jax.train.outcome import (
    announce,
    describe_model,
    describe_result,
    describe_training,
    evaluate_test,
    write_augmented,
)
from fidle_jax.train.parallel import make_mesh
from fidle_jax.train.run_logger import write_hparams
from fidle_jax.train.signals import Stop
from fidle_jax.train.state import init_state
from fidle_jax.train.task import make_augmentation, make_schedule, make_task

# Called with the name of a long phase, it returns a context manager that shows the phase to the user.
ShowPhase = Callable[[str], AbstractContextManager[Any]]


class _Parts(NamedTuple):
    """What a run trains, and on which data."""

    config: ResolvedConfig
    dataset: Dataset
    model: nn.Module
    train: Split | StoredSplit
    validation: Split | StoredSplit


def run(
    config: Config,
    experiment: str,
    command: str,
    stop: Stop,
    show_phase: ShowPhase = contextlib.nullcontext,
) -> dict[str, Any] | None:
    """Train and test in ``config.run.run_dir``. Return the content of result.json.

    `fidle_jax.report.write_report` then draws the report, which marks the run as finished. A finished
    run is left unchanged. With several processes, all of them call this function, but only the first
    one writes, tests and returns a result.

    Args:
        config: The config. The recipe sets what is missing.
        experiment: Name of the experiment.
        command: Command that repeats the run.
        stop: Signals that ask the run to stop.
        show_phase: Shows long phases such as compilation.

    Raises:
        InputError: The config, the data or the run directory is wrong. Nothing was written.
        Interrupted, NotFinite, OSError: See `fidle_jax.train.loop.Loop.run`.
    """
    check(config)
    run_dir = config.run.run_dir
    if run_dir is None:
        raise InputError("config.run.run_dir is None; set it to the output directory")
    with distributed.fail_together():
        if config.run.resume:
            config = _same_run(config, run_dir, experiment)
        elif distributed.is_first():
            run_dirs.check_new(run_dir)
        mesh = make_mesh(config.devices.count)
    finished, result = _finished(config, run_dir)
    if finished:
        return result
    parts, loader = _load(config, mesh)
    config, dataset, model, train, validation = parts
    ranges = make_augmentation(parts.config, dataset)
    table = layer_table(model, dataset.image_shape)
    if distributed.is_first():
        announced = announce(config, dataset, train, validation, ranges, loader)
        print(announced, format_table(table), sep="\n\n", end="\n\n", flush=True)
    else:
        show_phase = contextlib.nullcontext
    described = to_json(config) | {"experiment": experiment, "command": command}
    with _hold(config, run_dir, described, describe_model(model, dataset, table)):
        facts, best = _train(parts, run_dir, mesh, stop, show_phase)
        if distributed.is_first():
            with show_phase(f"testing on {dataset.test_examples:,} images"):
                facts |= evaluate_test(model, best, dataset, run_dir)
                write_augmented(train, ranges, config.optimisation.seed, run_dir)
        finite = math.isfinite(facts.get("test_loss", 0))
        if distributed.any_process(not finite):
            raise NotFinite("the test loss", facts["steps"])
        facts["parameters"] = sum(row.parameters for row in table)
        result = None
        if distributed.is_first():
            result = describe_result(config, experiment, dataset, mesh.size, facts)
            write_json(run_dir / "result.json", result)
            settings = hyperparameters(config)
            write_hparams(run_dir / "tensorboard", result["steps"], settings, result)
        distributed.barrier("the result is written")
    return result


def _finished(config: Config, run_dir: Path) -> tuple[bool, dict[str, Any] | None]:
    """Return whether the run is finished already and, in the first process, its result."""
    result = None
    with distributed.fail_together():
        if config.run.resume and distributed.is_first():
            result = run_dirs.finished_result(run_dir)
    finished = distributed.any_process(result is not None)
    if result:
        print(f"the run in {run_dir} is finished; nothing was changed")
    return finished, result


def _load(config: Config, mesh: Mesh) -> tuple[_Parts, str]:
    """Load the data and make the model. Return them, and a description of the loader.

    Each process reads its share from disk and receives the rest from the others.
    """
    with distributed.fail_together():
        # Only full data sets can be cropped, so the recipe for full data decides.
        crop = resolve(config, "full").data.crop
        dataset = load_dataset(
            config.data.dataset,
            data=config.data.variant,
            archives=config.data.archives,
            data_dir=config.data.data_dir,
            crop=crop,
            seed=config.optimisation.seed,
        )
        resolved = resolve(config, dataset.variant)
        # Report a wrong model, batch size or flip before the data is read.
        values = resolved.model
        classes, shape = len(dataset.class_names), dataset.image_shape
        model = make_model(values.name, classes, shape, values.dropout, values.width)
        _check_batch_size(resolved, dataset.train_examples, mesh.size)
        make_augmentation(resolved, dataset)
    streamed, loader = choose_loader(config.devices.loader, dataset, mesh)
    with distributed.fail_together():
        read = dataset.open if streamed and dataset.open else dataset.read
        part = read("train", (jax.process_index(), jax.process_count()))
    found = f"{dataset.name} ({dataset.variant}), {dataset.train_examples} examples"
    distributed.check_same({"the data set": found})
    whole = gather_parts(part)
    with distributed.fail_together():
        if jax.process_count() > 1:
            dataset.check("train", whole)
        whole = take_share(whole, config.data.scale)
        if config.data.hold_out == "test":
            train, validation = whole, read("test")
        else:
            train, validation = hold_out(whole, resolved)
        _check_batch_size(resolved, len(train.labels), mesh.size)
    return _Parts(resolved, dataset, model, train, validation), loader


def take_share(split: Split | StoredSplit, share: float) -> Split | StoredSplit:
    """Return a fraction of the examples, the same for every seed, so that runs can be compared."""
    if share == 1:
        return split
    try:
        if split.groups is None:
            kept, _ = stratified_split(split.labels, 1 - share, seed=0)
        else:
            kept, _ = grouped_split(split.labels, split.groups, 1 - share, seed=0)
    except InputError:  # the share is so close to 1 that no example is left out
        return split
    return split.take(kept)


def hold_out(
    split: Split | StoredSplit, config: ResolvedConfig
) -> tuple[Split | StoredSplit, Split | StoredSplit]:
    """Return the training examples and the held-out examples, which may be none.

    Raises:
        InputError: See `fidle_jax.data.stratified_split` and `fidle_jax.data.grouped_split`.
    """
    fraction, seed = config.data.validation_fraction, config.optimisation.seed
    if split.groups is None or config.data.hold_out == "examples":
        rows = stratified_split(split.labels, fraction, seed)
    else:
        rows = grouped_split(split.labels, split.groups, fraction, seed)
    train, validation = map(split.take, rows)
    return train, validation


@contextlib.contextmanager
def _hold(
    config: Config, run_dir: Path, described: dict[str, Any], model: dict[str, Any]
) -> Iterator[None]:
    """Lock the run directory for these processes. Write the first files of a new run."""
    with contextlib.ExitStack() as held:
        with distributed.fail_together():
            if distributed.is_first():
                held.enter_context(run_dirs.hold(run_dir))
        distributed.check_shared(run_dir)
        with distributed.fail_together():
            if distributed.is_first() and not config.run.resume:
                run_dirs.begin(run_dir, described, model)
        yield


def _same_run(config: Config, run_dir: Path, experiment: str) -> ResolvedConfig:
    """Return the resolved config if its hyperparameters are those of the run to resume."""
    saved = run_dirs.read_config(run_dir, experiment)
    variant = saved.data.variant if config.data.variant == "auto" else config.data.variant
    resolved = resolve(config, variant)
    if found := differences(resolved, saved):
        raise InputError(
            f"the run in {run_dir} has other settings: {'; '.join(found)}; leave these flags out to "
            "resume it, or give another --run-dir for a new run"
        )
    return resolved


def _check_batch_size(config: ResolvedConfig, examples: int, devices: int) -> None:
    size, parts = config.optimisation.batch_size, config.optimisation.accumulate
    if size > examples:
        raise InputError(
            f"--batch-size is {size}; it must be at most {examples}, the number of training examples"
        )
    if size < devices * parts:
        micro_batches = f" in each of {parts} micro-batches (--accumulate)" if parts > 1 else ""
        raise InputError(
            f"--batch-size is {size}; it must be at least {devices * parts}, one example for each of "
            f"{devices} devices{micro_batches}; give a larger one, or fewer --devices"
        )


def _train(
    parts: _Parts, run_dir: Path, mesh: Mesh, stop: Stop, show_phase: ShowPhase
) -> tuple[dict[str, Any], PyTree]:
    """Train. Return a description of the training, and the variables that validation selected."""
    config, dataset, model, train, validation = parts
    steps = steps_per_epoch(len(train.labels), config.optimisation.batch_size)
    schedule = make_schedule(config, steps)
    task = make_task(config, dataset, model, schedule, train.labels)
    checkpoints = Checkpoints(run_dir / "checkpoints")
    with show_phase(_compiling()):
        state = init_state(
            model,
            dataset.image_shape,
            task.optimizer,
            config.optimisation.seed,
            average=config.optimisation.ema_decay > 0,
        )
        best, record = jax.device_get(state.variables()), Record()
        restored = checkpoints.restore(state, best) if config.run.resume else None
        if restored:
            state, best, record = restored[0], restored[1], Record(**restored[2])
        # Different machines may round the initial weights differently.
        state = distributed.broadcast(state)
        compiled = compile_steps(task, schedule, mesh, state, train, validation, config)
    if restored and distributed.is_first():
        print(f"resuming at step {int(state.step):,}")
    plan = Plan(
        run_dir=run_dir,
        epochs=config.optimisation.epochs,
        steps_per_epoch=steps,
        examples=len(train.labels),
        checkpoint_seconds=config.run.checkpoint_seconds,
        progress=config.run.progress,
        profile=config.run.profile,
    )
    loop = Loop(plan, compiled, compiled.replicate(state), best, record, checkpoints, stop)
    with contextlib.closing(compiled), stop.defer():
        loop.run()
    checkpoints.close()
    if distributed.any_process(stop.requested):
        raise Interrupted
    return describe_training(loop, plan, compiled, validation), loop.best


def _compiling() -> str:
    """Name the phase of compilation, with the directory of the compilation cache."""
    cache = jax.config.jax_compilation_cache_dir
    where = f"; cached in {cache.replace(str(Path.home()), '~')}" if cache else ""
    return f"compiling (about 30 s the first time{where})"
