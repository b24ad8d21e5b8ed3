"""One run from config to result."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import PyTree

from fidle_jax.data import Dataset, Split, StoredSplit, load_dataset
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
from fidle_jax.train.held_out import hold_out, take_share
from fidle_jax.train.loop import Interrupted, Loop, NotFinite, Plan, Record
from fidle_jax.train.outcome import evaluate_test, write_augmented
from fidle_jax.train.parallel import make_mesh
from fidle_jax.train.result import announce, describe_model, describe_result, training_facts
from fidle_jax.train.run_logger import write_hparams
from fidle_jax.train.signals import Stop
from fidle_jax.train.state import init_state
from fidle_jax.train.task import make_augmentation, make_schedule, make_task


def run(config: Config, experiment: str, command: str, stop: Stop) -> dict[str, Any] | None:
    """Train and test in ``config.run.run_dir``. Return the content of result.json.

    `fidle_jax.report.write_report` then draws the report, which marks the run as finished. A finished
    run is left unchanged. With several processes, all of them call this function, but only the first
    one writes, tests and returns a result.

    Args:
        config: what to do; what it leaves open is the recipe's.
        experiment: the name the result goes by.
        command: what a person would type to have this run again.
        stop: where signals are heard.

    Raises:
        InputError: the config, the data or the run directory is wrong; nothing has been written.
        Interrupted, NotFinite, OSError: as `fidle_jax.train.loop.Loop.run`.
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
    config, dataset, model, loader, train, validation = _load(config, mesh)
    table = layer_table(model, dataset.image_shape)
    if distributed.is_first():
        ranges = make_augmentation(config, dataset)
        announced = announce(config, dataset, train, validation, ranges, loader)
        print(announced, format_table(table), sep="\n\n", end="\n\n")
    described = to_json(config) | {"experiment": experiment, "command": command}
    with _hold(config, run_dir, described, describe_model(model, dataset, table)):
        facts, best = _train(config, run_dir, mesh, dataset, model, train, validation, stop)
        if distributed.is_first():
            facts |= evaluate_test(model, best, dataset, run_dir)
            write_augmented(
                train, make_augmentation(config, dataset), config.optimisation.seed, run_dir
            )
        finite = math.isfinite(facts.get("test_loss", 0))
        if distributed.any_process(not finite):
            raise NotFinite("the test loss", facts["steps"])
        facts["parameters"] = sum(row.parameters for row in table)
        result = None
        if distributed.is_first():
            result = describe_result(config, experiment, dataset, mesh.size, facts)
            write_json(run_dir / "result.json", result)
            write_hparams(run_dir / "tensorboard", result["steps"], hyperparameters(config), result)
        distributed.barrier("written")
    return result


def _finished(config: Config, run_dir: Path) -> tuple[bool, dict[str, Any] | None]:
    """Whether the run has ended before, as the first process sees it; and, there, its result."""
    result = None
    with distributed.fail_together():
        if config.run.resume and distributed.is_first():
            result = run_dirs.finished_result(run_dir)
    finished = distributed.any_process(result is not None)
    if result:
        print(f"the run in {run_dir} is finished; nothing was changed")
    return finished, result


def _load(config: Config, mesh: Mesh):
    """The config with nothing left open, the data set, the network for it, how its images are loaded
    and why, and the examples to train on and to hold out, as `Split` or `StoredSplit`.

    Each process reads its part from disk, and has the others' from them.
    """
    with distributed.fail_together():
        # No recipe of the sample's crops: what is cropped is there in full or not at all.
        crop = resolve(config, "full").data.crop
        dataset = load_dataset(
            config.data.dataset,
            data=config.data.variant,
            archives=config.data.archives,
            data_dir=config.data.data_dir,
            crop=crop,
            seed=config.optimisation.seed,
        )
        config = resolve(config, dataset.variant)
        # A wrong model, batch or flip is told before the data is read.
        classes, shape = len(dataset.class_names), dataset.image_shape
        model = make_model(
            config.model.name, classes, shape, config.model.dropout, config.model.width
        )
        _check_batch_size(config, dataset.train_examples, mesh.size)
        make_augmentation(config, dataset)
    streamed, loader = choose_loader(config.devices.loader, dataset, mesh)
    with distributed.fail_together():
        get = dataset.open if streamed and dataset.open else dataset.read
        part = get("train", (jax.process_index(), jax.process_count()))
    found = f"{dataset.name} ({dataset.variant}), {dataset.train_examples} examples"
    distributed.check_same({"the data set": found})
    whole = gather_parts(part)
    with distributed.fail_together():
        if jax.process_count() > 1:
            dataset.check("train", whole)
        whole = take_share(whole, config.data.scale)
        # As the course does, to compare with its figures: the best epoch is that on the test set.
        on_test = config.data.hold_out == "test"
        train, validation = (whole, get("test")) if on_test else hold_out(whole, config)
        _check_batch_size(config, len(train.labels), mesh.size)
    return config, dataset, model, loader, train, validation


@contextlib.contextmanager
def _hold(
    config: Config, run_dir: Path, described: dict[str, Any], model: dict[str, Any]
) -> Iterator[None]:
    """Keeps the run directory for these processes, begun if it is new."""
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
    """The config with nothing left open, if it asks for what the run to go on with is."""
    saved = run_dirs.read_config(run_dir, experiment)
    variant = saved.data.variant if config.data.variant == "auto" else config.data.variant
    config = resolve(config, variant)
    if found := differences(config, saved):
        raise InputError(
            f"the run in {run_dir} was begun with other settings: {'; '.join(found)}; "
            "leave these flags out to go on with it, or take another --run-dir for a new run"
        )
    return config


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
    config: ResolvedConfig,
    run_dir: Path,
    mesh: Mesh,
    dataset: Dataset,
    model: nn.Module,
    train: Split | StoredSplit,
    validation: Split | StoredSplit,
    stop: Stop,
) -> tuple[dict[str, Any], PyTree]:
    """What is to be said of the training, and the variables it chose."""
    steps = steps_per_epoch(len(train.labels), config.optimisation.batch_size)
    schedule = make_schedule(config, steps)
    task = make_task(config, dataset, model, schedule, train.labels)
    state = init_state(
        model,
        dataset.image_shape,
        task.optimizer,
        config.optimisation.seed,
        average=config.optimisation.ema_decay > 0,
    )
    checkpoints = Checkpoints(run_dir / "checkpoints")
    best, record = jax.device_get(state.variables()), Record()
    if config.run.resume and (restored := checkpoints.restore(state, best)):
        state, best, record = restored[0], restored[1], Record(**restored[2])
        if distributed.is_first():
            print(f"going on from step {int(state.step):,}")
    # Machines of several kinds may round the initial weights differently.
    state = distributed.broadcast(state)
    compiled = compile_steps(task, schedule, mesh, state, train, validation, config)
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
    return training_facts(loop, plan, compiled, validation), loop.best
