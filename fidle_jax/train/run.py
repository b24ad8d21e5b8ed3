"""One run from config to result."""

import dataclasses
import importlib.metadata
import math
import platform
import time
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import PyTree

import fidle_jax
from fidle_jax.data import Dataset, Split, load_dataset, stratified_split
from fidle_jax.data.augment import NO_AUGMENTATION, Warp
from fidle_jax.data.batches import steps_per_epoch
from fidle_jax.errors import InputError
from fidle_jax.nn import Row, format_table, layer_table, make_model
from fidle_jax.report import write_report
from fidle_jax.train import run_dir as run_dirs
from fidle_jax.train.checkpoints import Checkpoints
from fidle_jax.train.config import Config, check, differences, resolve, to_json
from fidle_jax.train.loop import Interrupted, Loop, NotFinite, Plan, Record
from fidle_jax.train.optimizer import make_optimizer, make_schedule
from fidle_jax.train.outcome import evaluate_test
from fidle_jax.train.parallel import make_mesh
from fidle_jax.train.program import compile_program
from fidle_jax.train.signals import Stop
from fidle_jax.train.state import init_state
from fidle_jax.train.step import Task

VERSIONS_OF = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def run(config: Config, experiment: str, command: str, stop: Stop) -> dict[str, Any]:
    """Trains, tests and reports in ``config.run_dir``; returns what result.json holds.

    A run that is finished already is left as it is.

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
    if config.resume:
        config = _same_run(config, experiment)
        if result := run_dirs.finished_result(config.run_dir):
            print(f"the run in {config.run_dir} is finished; nothing was changed")
            return result
    else:
        run_dirs.check_new(config.run_dir)
    mesh = make_mesh(config.devices)
    dataset = load_dataset(
        config.dataset,
        data=config.data,
        archives=config.archives,
        data_dir=config.data_dir,
        seed=config.seed,
    )
    config = resolve(config, dataset.variant)
    model = make_model(config.model, len(dataset.class_names), dataset.image_shape, config.dropout)
    _check_batch_size(config, dataset.train_examples)
    train, validation = _hold_out(dataset.read("train"), config)
    table = layer_table(model, dataset.image_shape)
    print(
        _announce(config, dataset, train, validation), format_table(table), sep="\n\n", end="\n\n"
    )
    with run_dirs.hold(config.run_dir):
        if not config.resume:
            described = to_json(config) | {"experiment": experiment, "command": command}
            run_dirs.begin(config.run_dir, described, _describe_model(model, table))
        facts, best = _train(config, mesh, dataset, model, train, validation, stop)
        facts |= evaluate_test(model, best, dataset, config.run_dir)
        if not math.isfinite(facts["test_loss"]):
            raise NotFinite("the test loss", facts["steps"])
        facts["parameters"] = sum(row.parameters for row in table)
        result = _result(config, experiment, dataset, mesh.size, facts)
        run_dirs.write_json(config.run_dir / "result.json", result)
        write_report(config.run_dir)
    return result


def _same_run(config: Config, experiment: str) -> Config:
    """The config with nothing left open, if it asks for what the run to go on with is."""
    saved = run_dirs.read_config(config.run_dir, experiment)
    variant = saved.data if config.data == "auto" else config.data
    config = resolve(config, variant)
    if found := differences(config, saved):
        raise InputError(
            f"the run in {config.run_dir} was begun with other settings: {'; '.join(found)}; "
            "leave these flags out to go on with it, or take another --run-dir for a new run"
        )
    return config


def _hold_out(split: Split, config: Config) -> tuple[Split, Split]:
    """The training examples and those held out for validation."""
    rows = stratified_split(split.labels, config.validation_fraction, config.seed)
    train, validation = (Split(split.images[r], split.labels[r]) for r in rows)
    _check_batch_size(config, len(train.labels))
    return train, validation


def _check_batch_size(config: Config, examples: int) -> None:
    if config.batch_size > examples:
        raise InputError(
            f"--batch-size is {config.batch_size}; expected at most {examples}, "
            "the number of training examples"
        )


def _train(
    config: Config,
    mesh: Mesh,
    dataset: Dataset,
    model: nn.Module,
    train: Split,
    validation: Split,
    stop: Stop,
) -> tuple[dict[str, Any], PyTree]:
    """What is to be said of the training, and the variables it chose."""
    steps = steps_per_epoch(len(train.labels), config.batch_size)
    schedule = make_schedule(config, steps)
    task = Task(
        model=model,
        optimizer=make_optimizer(config, schedule),
        ranges=_ranges(config),
        label_smoothing=config.label_smoothing,
        ema_decay=config.ema_decay,
        compute_dtype=config.compute_dtype,
    )
    state = init_state(
        model, dataset.image_shape, task.optimizer, config.seed, average=config.ema_decay > 0
    )
    checkpoints = Checkpoints(config.run_dir / "checkpoints")
    best, record = jax.device_get(state.variables()), Record()
    if config.resume and (restored := checkpoints.restore(state, best)):
        state, best, record = restored[0], restored[1], Record(**restored[2])
        print(f"going on from step {int(state.step):,}")
    started = time.perf_counter()
    program = compile_program(task, schedule, mesh, state, train, validation, config)
    compile_seconds = time.perf_counter() - started
    plan = Plan(
        run_dir=config.run_dir,
        epochs=config.epochs,
        steps_per_epoch=steps,
        examples=len(train.labels),
        checkpoint_seconds=config.checkpoint_seconds,
        progress=config.progress,
    )
    loop = Loop(plan, program, program.place(state), best, record, checkpoints, stop)
    with stop.defer():
        loop.run()
    checkpoints.close()
    if stop.requested:
        raise Interrupted
    return _training_facts(loop, plan, validation, compile_seconds), loop.best


def _ranges(config: Config) -> Warp:
    fields = dataclasses.fields(Warp)
    return Warp(**{field.name: getattr(config, field.name) for field in fields})


def _training_facts(
    loop: Loop, plan: Plan, validation: Split, compile_seconds: float
) -> dict[str, Any]:
    rows = loop.record.rows
    return {
        "train_examples": plan.examples,
        "validation_examples": len(validation.labels),
        "steps": int(loop.state.step),
        "best_epoch": loop.record.best_epoch,
        "best_validation_accuracy": loop.record.best_accuracy,
        "compile_seconds": round(compile_seconds, 3),
        "train_seconds": round(sum(row["seconds"] for row in rows), 3),
        "images_per_second": _rate(plan.examples * len(rows), loop.record.all_step_seconds),
    }


def _rate(images: int, seconds: float) -> float | None:
    return round(images / seconds, 1) if seconds else None


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "fidle-jax": fidle_jax.__version__}
    return found | {name: importlib.metadata.version(name) for name in VERSIONS_OF}


def _result(
    config: Config, experiment: str, dataset: Dataset, devices: int, facts: dict[str, Any]
) -> dict[str, Any]:
    return {
        "experiment": experiment,
        "dataset": dataset.name,
        "variant": dataset.variant,
        "recipe": config.recipe,
        "epochs": config.epochs,
        "seed": config.seed,
        "test_examples": dataset.test_examples,
        "parallel": config.parallel,
        "devices": devices,
        "processes": 1,
        "platform": jax.default_backend(),
        **facts,
        "versions": _versions(),
    }


def _describe_model(model: nn.Module, table: list[Row]) -> dict[str, Any]:
    return {
        "name": type(model).__name__,
        "layers": [dataclasses.asdict(row) for row in table],
        "parameters": sum(row.parameters for row in table),
    }


def _announce(config: Config, dataset: Dataset, train: Split, validation: Split) -> str:
    recipe = {
        name: getattr(config, name)
        for name in ("epochs", "batch_size", "learning_rate", "optimizer", "schedule")
    }
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in recipe.items())
    return (
        f"data: {dataset.name} ({dataset.variant}), {len(train.labels):,} images to train on, "
        f"{len(validation.labels):,} for validation, {dataset.test_examples:,} for the test\n"
        f"recipe: {config.recipe} ({settings}, "
        f"{'no augmentation' if _ranges(config) == NO_AUGMENTATION else 'augmentation'})\n"
        f"run directory: {config.run_dir}"
    )
