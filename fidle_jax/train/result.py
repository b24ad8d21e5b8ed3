"""What is said of a run: on the terminal before it begins, and in its files."""

import dataclasses
import importlib.metadata
import platform
from typing import Any

import jax
from flax import linen as nn

import fidle_jax
from fidle_jax.data import Dataset, Split, StoredSplit
from fidle_jax.data.augment import NO_AUGMENTATION, Augmentation
from fidle_jax.nn import Row
from fidle_jax.train.compiled_steps import CompiledSteps
from fidle_jax.train.config import Config
from fidle_jax.train.loop import Loop, Plan
from fidle_jax.train.resources import peak_memory_bytes

VERSIONS_OF = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def training_facts(
    loop: Loop, plan: Plan, program: CompiledSteps, validation: Split | StoredSplit
) -> dict[str, Any]:
    """What result.json says of a training that is done."""
    rows = loop.record.rows
    return {
        "train_examples": plan.examples,
        "validation_examples": len(validation.labels),
        "steps": int(loop.state.step),
        "best_epoch": loop.record.best_epoch,
        "best_validation_accuracy": loop.record.best_accuracy,
        "transfer_seconds": round(program.transfer_seconds, 3),
        "compile_seconds": round(program.compile_seconds, 3),
        "train_seconds": round(sum(row["seconds"] for row in rows), 3),
        "images_per_second": _rate(plan.examples * len(rows), loop.record.all_step_seconds),
        "step_milliseconds": _step_milliseconds(int(loop.state.step), loop.record.all_step_seconds),
        "peak_memory_bytes": peak_memory_bytes(),
    }


def _step_milliseconds(steps: int, seconds: float) -> float | None:
    return round(1e3 * seconds / steps, 3) if steps else None


def _rate(images: int, seconds: float) -> float | None:
    return round(images / seconds, 1) if seconds else None


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "fidle-jax": fidle_jax.__version__}
    return found | {name: importlib.metadata.version(name) for name in VERSIONS_OF}


def describe_result(
    config: Config, experiment: str, dataset: Dataset, devices: int, facts: dict[str, Any]
) -> dict[str, Any]:
    """What result.json holds: ``facts``, and what they were found with."""
    return {
        "experiment": experiment,
        "dataset": dataset.name,
        "variant": dataset.variant,
        "crop": config.data.crop,
        "hold_out": config.data.hold_out,
        "recipe": config.optimisation.recipe,
        "epochs": config.optimisation.epochs,
        "seed": config.optimisation.seed,
        "test_examples": dataset.test_examples,
        "parallel": config.devices.parallel,
        "devices": devices,
        "processes": jax.process_count(),
        "platform": jax.default_backend(),
        **facts,
        "versions": _versions(),
    }


def describe_model(model: nn.Module, dataset: Dataset, table: list[Row]) -> dict[str, Any]:
    """Return the content of model.json."""
    groups = dataset.class_groups
    return {
        "name": type(model).__name__,
        "class_names": list(dataset.class_names),
        "class_groups": groups and {name: list(classes) for name, classes in groups.items()},
        "image_shape": list(dataset.image_shape),
        "layers": [dataclasses.asdict(row) for row in table],
        "parameters": sum(row.parameters for row in table),
    }


def announce(
    config: Config,
    dataset: Dataset,
    train: Split | StoredSplit,
    validation: Split | StoredSplit,
    ranges: Augmentation,
    loader: str,
) -> str:
    """Which data, loader, recipe and directory a run has, in four lines."""
    recipe = {
        name: getattr(config.optimisation, name)
        for name in ("epochs", "batch_size", "learning_rate", "optimizer", "schedule")
    }
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in recipe.items())
    cropped = ", cropped to the sign" if config.data.crop == "roi" else ""
    return (
        f"data: {dataset.name} ({dataset.variant}{cropped}), {len(train.labels):,} images to train on, "
        f"{_held_out(config, validation)}, {dataset.test_examples:,} for the test\n"
        f"loader: {loader}\n"
        f"recipe: {config.optimisation.recipe} ({settings}, "
        f"{'no augmentation' if ranges == NO_AUGMENTATION else 'augmentation'})\n"
        f"run directory: {config.run.run_dir}"
    )


def _held_out(config: Config, validation: Split | StoredSplit) -> str:
    if config.data.hold_out == "test":
        return "the test set itself to choose the epoch by"
    return f"{len(validation.labels):,} for validation"
