"""What a run is asked to do. Light to import: the command line reads it before JAX is there."""

import dataclasses
import sys
from pathlib import Path
from typing import Any, get_args

from fidle_jax.data import CROPS, DATA_CHOICES, SIGN_SETS, TFDS_PREFIX
from fidle_jax.errors import InputError, check_name
from fidle_jax.nn import ModelName
from fidle_jax.train.recipes import AUGMENTATIONS, NEUTRAL, recipes_for, usual_recipe

MODELS = get_args(ModelName)
OPTIMIZERS = ("adam", "adamw", "lion", "momentum", "nadamw", "rmsprop", "sgd")
HOLD_OUT = ("groups", "examples", "test")
LOADERS = ("auto", "memory", "stream")
PARALLEL = ("jit", "pmap")
COMPUTE_DTYPES = ("float32", "bfloat16")
CLASS_WEIGHTS = ("none", "inverse", "effective")
SCHEDULES = ("constant", "cosine", "exponential", "linear")

MANY = 10**9
VALIDATION_FRACTION = 0.1

# What numbers are taken, both ends included. No comparison holds for one that is not a number.
RANGES = {
    "epochs": (0, MANY),
    "batch_size": (1, MANY),
    "width": (0.05, 100),
    "learning_rate": (0, sys.float_info.max),
    "seed": (0, 2**32 - 1),
    "devices": (1, MANY),
    "accumulate": (1, MANY),
    "scale": (1e-6, 1),
    "validation_fraction": (0, 0.9),
    "warmup_epochs": (0, sys.float_info.max),
    "weight_decay": (0, sys.float_info.max),
    "clip_norm": (0, sys.float_info.max),
    "checkpoint_seconds": (0, sys.float_info.max),
    "label_smoothing": (0, 0.99999),
    "ema_decay": (0, 0.99999),
    "shift": (0, 1),
    "elastic": (0, 1),
    "brightness": (0, 1),
    "contrast": (0, 10),
    "colour": (0, 10),
    "shadow": (0, 1),
    "cutout": (0, 1),
    "flips": (0, 1),
    "rotation": (0, 180),
    "scaling": (0, 1),
    "shear": (0, 1),
}

# Fields that say where and how a run is watched, not what it computes.
_CIRCUMSTANCES = (
    "archives",
    "data_dir",
    "run_dir",
    "loader",
    "parallel",
    "devices",
    "resume",
    "profile",
    "progress",
    "debug",
    "checkpoint_seconds",
)


@dataclasses.dataclass(frozen=True)
class Config:
    """One training run. Fields that are None take the recipe's value."""

    dataset: str = "mnist"
    """Data set: mnist; traffic signs as 24x24-L, 48x48-RGB-HE, ...; or tfds:NAME for any that TFDS knows."""
    crop: str | None = None
    """Of traffic signs: full photographs, or roi for the sign alone, as annotated. [recipe]"""
    data: str = "auto"
    """auto: the full set if it is prepared or can be had, else the embedded sample; full; sample."""
    archives: Path | None = None
    """Folder of the official archive files, for machines without network (or FIDLE_JAX_ARCHIVES)."""
    data_dir: Path | None = None
    """Where prepared data lives (default: that of TFDS, ~/tensorflow_datasets)."""
    scale: float = 1.0
    """Share of the training data to use, by whole tracks where a set has such; less is for a first look."""
    validation_fraction: float | None = None
    """Share of the training data held out to pick the best checkpoint (default: 0.1); 0: train on all, keep
    the last."""
    hold_out: str = "groups"
    """groups: hold out whole tracks of frames, where a set has such; examples: random ones; test: none, and
    choose the epoch on the test set, as the course does, to compare with its figures."""
    model: str = "cnn"
    """Network: cnn and dnn for digits, v1, v2, v3 (the course's) and compact for traffic signs."""
    dropout: tuple[float, ...] | None = None
    """Dropout rates, one for each of the network's dropout layers (default: the network's own)."""
    width: float | None = None
    """Kernels and neurons of compact, as a multiple of its own numbers. [recipe]"""
    recipe: str = "auto"
    """Settings that go together, listed above; auto: those for the data and the network."""
    epochs: int | None = None
    """Times that each training example is seen. [recipe]"""
    batch_size: int | None = None
    """Examples a step. [recipe]"""
    learning_rate: float | None = None
    """Peak learning rate. [recipe]"""
    optimizer: str | None = None
    """adam, adamw, lion, momentum (Nesterov), nadamw, rmsprop or sgd. [recipe]"""
    schedule: str | None = None
    """Learning rate over the run: constant; or cosine, exponential, linear down to 1 %. [recipe]"""
    warmup_epochs: float | None = None
    """Epochs in which the learning rate rises from 0 to its peak. [recipe]"""
    weight_decay: float | None = None
    """Weight decay of the kernels: decoupled in adamw, nadamw and lion, else in the gradient. [recipe]"""
    label_smoothing: float | None = None
    """Share of each target that is spread over all classes. [recipe]"""
    class_weights: str = "none"
    """Rare classes count more in training: inverse (frequency), effective (number, beta 0.999); or none."""
    clip_norm: float | None = None
    """Largest norm of the gradient; longer ones are scaled down; 0: no limit. [recipe]"""
    ema_decay: float | None = None
    """Evaluate a moving average of the weights with this decay a step; 0: the weights themselves. [recipe]"""
    augmentation: str | None = None
    """none, or course (its notebook GTSRB4's); a flag below stands in for its value. [recipe]"""
    shift: float | None = None
    """Augmentation: largest shift, as a share of the image's side. [recipe]"""
    rotation: float | None = None
    """Augmentation: largest rotation, in degrees. [recipe]"""
    scaling: float | None = None
    """Augmentation: largest scaling, as a share (0.1: by 1 / 1.1 to 1.1). [recipe]"""
    shear: float | None = None
    """Augmentation: largest change of the sides' ratio, as a share. [recipe]"""
    elastic: float | None = None
    """Augmentation: how far, as a share of the side, a smooth random field may move a point. [recipe]"""
    brightness: float | None = None
    """Augmentation: largest change of brightness, as a share of white. [recipe]"""
    contrast: float | None = None
    """Augmentation: largest change of contrast, as a share (0.5: by 1 / 1.5 to 1.5). [recipe]"""
    colour: float | None = None
    """Augmentation: largest change of each colour channel, as a share (0.2: by 1 / 1.2 to 1.2). [recipe]"""
    shadow: float | None = None
    """Augmentation: largest share of the light that a shadow's edge takes from one side. [recipe]"""
    cutout: float | None = None
    """Augmentation: side of a grey square laid over the image, as a share of the image's. [recipe]"""
    flips: float | None = None
    """Augmentation: share of images that are mirrored, where the mirror image's class is known. [recipe]"""
    seed: int = 0
    """All that is random in the run comes from this number."""
    loader: str = "auto"
    """Images in memory, or read from disk ahead of each step (stream); auto: memory if half of it will do."""
    parallel: str = "jit"
    """How steps run on several devices: jit (XLA spreads arrays) or pmap; the result is the same."""
    devices: int | None = None
    """Use the first so many devices that JAX finds here (default: all of them)."""
    accumulate: int = 1
    """Compute each batch in so many parts, for batches that do not fit; the same but for batch norms."""
    compute_dtype: str = "float32"
    """Type of the network's arithmetic: float32 or bfloat16; weights and sums stay float32."""
    run_dir: Path | None = None
    """Where the run is written (default: runs/EXPERIMENT/UTC time)."""
    resume: bool = False
    """Go on with the run in --run-dir; flags that are not given are that run's."""
    checkpoint_seconds: float = 5.0
    """Least time between two checkpoints, and ten times what one takes to write; 0: one after each chunk of
    steps. The last state is always saved."""
    profile: bool = False
    """Write a profiler trace of a few steps into the run directory, for TensorBoard and Perfetto."""
    progress: bool = True
    """Show a progress bar; only ever where stderr is a terminal."""
    debug: bool = False
    """Show the traceback of an error."""


class ResolvedConfig(Config):
    """A config without None in the fields that the recipe sets, as returned by `resolve`."""

    crop: str
    validation_fraction: float
    width: float
    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: str
    schedule: str
    warmup_epochs: float
    weight_decay: float
    label_smoothing: float
    clip_norm: float
    ema_decay: float
    shift: float
    rotation: float
    scaling: float
    shear: float
    elastic: float
    brightness: float
    contrast: float
    colour: float
    shadow: float
    cutout: float
    flips: float


def check(config: Config) -> None:
    """Raises InputError where a value alone is wrong, whatever the data."""
    if not config.dataset.startswith(TFDS_PREFIX):
        check_name("dataset", config.dataset, ("mnist", *SIGN_SETS, f"{TFDS_PREFIX}NAME"))
    check_name("value of --data", config.data, DATA_CHOICES)
    if config.crop is not None:
        check_name("value of --crop", config.crop, CROPS)
        if config.crop == "roi" and config.dataset not in SIGN_SETS:
            raise InputError(
                f"--crop is roi, which {config.dataset} has not annotated; expected full, or a set of "
                f"traffic signs as --dataset {SIGN_SETS[0]}"
            )
    check_name("value of --hold-out", config.hold_out, HOLD_OUT)
    if config.hold_out == "test" and config.validation_fraction:
        raise InputError(
            f"--validation-fraction is {config.validation_fraction}; expected 0, or no such flag, as "
            "--hold-out test holds out nothing"
        )
    check_name("model", config.model, MODELS)
    check_name("recipe", config.recipe, ("auto", *recipes_for(config.dataset)))
    if config.augmentation is not None:
        check_name("augmentation", config.augmentation, AUGMENTATIONS)
    if config.optimizer is not None:
        check_name("optimizer", config.optimizer, OPTIMIZERS)
    if config.schedule is not None:
        check_name("schedule", config.schedule, SCHEDULES)
    check_name("value of --class-weights", config.class_weights, CLASS_WEIGHTS)
    check_name("value of --loader", config.loader, LOADERS)
    check_name("value of --parallel", config.parallel, PARALLEL)
    check_name("value of --compute-dtype", config.compute_dtype, COMPUTE_DTYPES)
    for name, (low, high) in RANGES.items():
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            expected = f"a number from {low} to {high}"
            if high >= MANY:
                expected = f"at most {high:g}" if value > high else f"{low} or more"
            raise InputError(f"--{name.replace('_', '-')} is {value}; expected {expected}")
    if config.resume and config.run_dir is None:
        raise InputError("--resume needs --run-dir, the directory of the run to go on with")


def resolve(config: Config, variant: str) -> ResolvedConfig:
    """The same run with nothing left open, on the full data set or the sample ("variant")."""
    recipe = config.recipe
    if recipe == "auto":
        recipe = usual_recipe(config.dataset, config.model, variant)
    settings = NEUTRAL | recipes_for(config.dataset)[recipe]
    settings["validation_fraction"] = 0.0 if config.hold_out == "test" else VALIDATION_FRACTION
    if config.augmentation is not None:
        settings |= AUGMENTATIONS[config.augmentation]
    if config.model != "cnn":
        settings.pop("dropout", None)  # the recipes' rates are for the CNN's three layers
    if config.model != "compact":
        settings["width"] = 1.0
    chosen = {name: value for name, value in settings.items() if getattr(config, name) is None}
    fields: dict[str, Any] = vars(config) | {"data": variant, "recipe": recipe} | chosen
    return ResolvedConfig(**fields)


def to_json(config: Config) -> dict[str, Any]:
    """The fields as JSON has them: paths as strings, tuples as lists."""
    fields = dataclasses.asdict(config)
    fields = {
        k: str(v.expanduser().absolute()) if isinstance(v, Path) else v for k, v in fields.items()
    }
    return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}


def from_json(fields: dict[str, Any]) -> Config:
    """The config that `to_json` wrote; what it does not know is passed over."""
    known = {field.name for field in dataclasses.fields(Config)}
    values = {k: v for k, v in fields.items() if k in known}
    for name in ("archives", "data_dir", "run_dir"):
        values[name] = Path(values[name]) if values.get(name) else None
    values["dropout"] = tuple(values["dropout"]) if values.get("dropout") else None
    return Config(**values)


def options(config: Config) -> dict[str, Any]:
    """The fields that say what the run computes."""
    fields = dataclasses.fields(Config)
    return {f.name: getattr(config, f.name) for f in fields if f.name not in _CIRCUMSTANCES}


def differences(asked: Config, saved: Config) -> list[str]:
    """What ``asked`` would compute differently from ``saved``, both resolved, as "flag: a, not b"."""
    have = options(saved)
    return [
        f"--{name.replace('_', '-')} {new} (the run has {have[name]})"
        for name, new in options(asked).items()
        if new != have[name]
    ]
