"""The config of a training run. Each flag has its type, range, default and help text here only.

A config is nested in code and flat everywhere else: the flag ``--batch-size``, the setting
"batch_size" of recipes, sweeps and config.json, and ``config.optimisation.batch_size`` are the same.
This module must import fast, because the command line parses flags before it imports JAX.
"""

import dataclasses
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar

from tyro.conf import arg

from fidle_jax.data import SIGN_SETS, Crop, Dataset, Variant, check_dataset, is_path
from fidle_jax.data.decode import Resize
from fidle_jax.data.load import ALLOW_SKIPPED
from fidle_jax.errors import InputError, Range, check_name, check_range
from fidle_jax.files import expand_user
from fidle_jax.nn import ModelName
from fidle_jax.train.recipes import recipe_settings, recipes_for, usual_recipe

RARE = 10  # ratio of the class sizes from which auto weights the classes
_LARGEST = 3.4e38  # of float32
_SMALLEST = 1.2e-38  # smaller numbers become 0 in float32


def described(text: str) -> object:
    """Annotate a flag with the text that the help shows as its default."""
    return arg(help_behavior_hint=f"(default: {text})")


T = TypeVar("T")
AnyConfig = TypeVar("AnyConfig", bound="Config")
if TYPE_CHECKING:
    ByRecipe = Annotated[T, "set by the recipe"]
    UNSET: Any = None
    OwnOrNamed = ModelName
else:
    OwnOrNamed = ModelName | None  # None: a Flax module that was passed from Python
    # A value that is None until `resolve` sets it. Type checkers see the type that it then has.
    ByRecipe = Annotated[T | None, described("set by the recipe")]
    UNSET = None


@dataclasses.dataclass(frozen=True)
class Data:
    """The data set and its splits."""

    dataset: str = "mnist"
    """A folder or file of your own images (see experiments/README.md); mnist; traffic signs as 24x24-L,
    48x48-RGB-HE, ...; or tfds:NAME for a data set of TFDS."""
    variant: Annotated[Variant, arg(name="data")] = "auto"
    """auto: the full set if it is prepared or can be downloaded, otherwise the embedded sample."""
    crop: ByRecipe[Crop] = UNSET
    """Traffic signs: full photographs, or the annotated region of interest (roi)."""
    archives: Annotated[Path | None, described("$FIDLE_JAX_ARCHIVES")] = None
    """Folder with the official archive files, for machines without a network."""
    data_dir: Annotated[Path | None, described("~/tensorflow_datasets")] = None
    """Folder of the prepared data."""
    image_size: Annotated[int | None, Range(8, 1024), described("from the images, at most 128")] = (
        None
    )
    """Own images: height and width in pixels. By default, images of one size up to 128 keep it, and others
    are resized to their median size, a multiple of 8."""
    resize: Resize = "fit"
    """Own images of other sizes: fit shows the whole image between black bars, crop its centre without
    bars, stretch changes the aspect ratio."""
    allow_skipped: Annotated[float, Range(0, 1)] = ALLOW_SKIPPED
    """Own images: fraction of the files that may be damaged or no images. They are named and
    skipped."""
    scale: Annotated[float, Range(1e-6, 1)] = 1.0
    """Fraction of the training data to use. Groups of similar images are not split."""
    validation_fraction: Annotated[ByRecipe[float], Range(0, 0.9), described("0.1")] = UNSET
    """Fraction of the training data held out to select the best epoch; 0: use the last one."""
    hold_out: Literal["groups", "examples", "test"] = "groups"
    """groups: hold out whole tracks of traffic signs, and whole groups of near-duplicates of own images;
    examples: random examples; test: select the epoch on the test set, as the course does."""


@dataclasses.dataclass(frozen=True)
class Model:
    """The network."""

    name: Annotated[OwnOrNamed, arg(name="model")] = "cnn"
    """cnn, dnn, small and tiny are for digits; v1, v2, v3 (from the course), compact and compact_small are
    for traffic signs."""
    dropout: Annotated[
        tuple[float, ...] | None, described("set by the recipe, otherwise the network's own rates")
    ] = None
    """One rate for each dropout layer."""
    width: Annotated[ByRecipe[float], Range(0.05, 100)] = UNSET
    """Multiplier for the numbers of channels and neurons. Only for compact, compact_small, small and tiny."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Data type (dtype) of the computations. Weights and sums stay float32."""


@dataclasses.dataclass(frozen=True)
class Optimisation:
    """Training of the network."""

    initial: Annotated[Path | None, arg(name="from"), described("random weights")] = None
    """Start from the weights of this finished run (its directory). --model, --width and --dropout default to
    its values. The data set may have other classes."""
    freeze: Literal["none", "conv"] = "none"
    """conv: do not train the layers before the first dense layer. Needs --from."""
    recipe: str = "auto"
    """A set of defaults, listed above. auto: the usual one for the data and the network."""
    epochs: Annotated[ByRecipe[int], Range(0)] = UNSET
    """Number of passes over the training data."""
    batch_size: Annotated[ByRecipe[int], Range(1)] = UNSET
    """Examples per step."""
    accumulate: Annotated[int, Range(1)] = 1
    """Number of micro-batches per step, for batches that need too much memory."""
    learning_rate: Annotated[ByRecipe[float], Range(0, _LARGEST)] = UNSET
    """Peak learning rate."""
    optimizer: ByRecipe[Literal["adam", "adamw", "momentum", "muon", "sgd"]] = UNSET
    """Optimizer. momentum is SGD with Nesterov momentum 0.9. muon orthogonalizes the updates of the
    kernels."""
    schedule: ByRecipe[Literal["constant", "cosine"]] = UNSET
    """Learning rate schedule; cosine ends at 1 % of the peak."""
    warmup_epochs: Annotated[ByRecipe[float], Range(0, 1e4)] = UNSET
    """Epochs of linear warm-up from 0 to the peak."""
    weight_decay: Annotated[ByRecipe[float], Range(0, _LARGEST)] = UNSET
    """Weight decay of the kernels. With adamw and muon, it is decoupled. With other optimizers,
    it is an L2 penalty."""
    label_smoothing: Annotated[ByRecipe[float], Range(0, 0.99999)] = UNSET
    """Fraction of each target that is spread over all classes."""
    class_weights: Literal["auto", "none", "inverse", "effective"] = "auto"
    """Weights of the classes in the loss: by inverse frequency, or by effective number (beta 0.999). auto:
    effective for own images if the rarest class has less than a tenth of the images of the largest."""
    clip_norm: Annotated[ByRecipe[float], Range(0, _LARGEST)] = UNSET
    """Largest norm of the gradient; 0: no clipping."""
    ema_decay: Annotated[ByRecipe[float], Range(0, 0.99999)] = UNSET
    """Decay per step of the exponential moving average of the weights. If it is not 0, the averaged weights
    are evaluated."""
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    """Seed for the split, the initial weights, the shuffling, the augmentation and dropout."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes of the training images. Lengths are fractions of the image's side."""

    preset: Annotated[ByRecipe[Literal["none", "course"]], arg(name="augmentation")] = UNSET
    """Preset for the flags below that are not given. none: all are 0; course: values of notebook
    GTSRB4."""
    shift: Annotated[ByRecipe[float], Range(0, 1)] = UNSET
    """Largest shift."""
    rotation: Annotated[ByRecipe[float], Range(0, 180)] = UNSET
    """Largest rotation, in degrees."""
    scaling: Annotated[ByRecipe[float], Range(0, 1)] = UNSET
    """Largest scaling. 0.1: a random factor from 1/1.1 to 1.1."""
    shear: Annotated[ByRecipe[float], Range(0, 1)] = UNSET
    """Largest change of the aspect ratio, not of an angle. 0.1: a random factor from 1/1.1 to 1.1."""
    elastic: Annotated[ByRecipe[float], Range(0, 1)] = UNSET
    """Largest displacement by a smooth random field."""
    blur: Annotated[ByRecipe[float], Range(0, 0.2)] = UNSET
    """Largest standard deviation of a Gaussian blur along each axis. Half of the images have none."""
    brightness: Annotated[ByRecipe[float], Range(0, 1)] = UNSET
    """Largest change of brightness, as a fraction of white."""
    contrast: Annotated[ByRecipe[float], Range(0, 10)] = UNSET
    """Largest change of contrast. 0.5: a random factor from 1/1.5 to 1.5."""
    colour: Annotated[ByRecipe[float], Range(0, 10)] = UNSET
    """Largest change of each colour channel. 0.2: random factors from 1/1.2 to 1.2."""
    shadow: Annotated[ByRecipe[float], Range(0, 1)] = UNSET
    """Largest darkening by a shadow, as a fraction of the brightness. A shadow covers one side of a random
    line."""
    cutout: Annotated[ByRecipe[float], Range(0, 1)] = UNSET
    """Side of a grey square that covers a part of the image."""
    flips: Annotated[ByRecipe[float], Range(0, 1)] = UNSET
    """Fraction of images that are mirrored, for classes with a known mirror image."""


@dataclasses.dataclass(frozen=True)
class Run:
    """The run directory and what is shown. These flags don't change the result."""

    run_dir: Annotated[Path | None, described("runs/EXPERIMENT/UTC time")] = None
    """Output directory."""
    resume: bool = False
    """Continue the run in --run-dir. Flags that are not given keep the run's values."""
    checkpoint_seconds: Annotated[float, Range(0, _LARGEST)] = 5.0
    """Minimum time between two checkpoints. If writing is slow, the interval is ten times the writing time.
    0: one after each chunk of steps. The last state is always saved."""
    profile: bool = False
    """Write a profiler trace of a few steps, for TensorBoard and Perfetto."""
    progress: bool = True
    """Show a progress bar if stderr is a terminal."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclasses.dataclass(frozen=True)
class Devices:
    """Devices and data loading. These flags change the result at most by floating-point rounding."""

    count: Annotated[int | None, arg(name="devices"), described("all"), Range(1)] = None
    """Number of devices to use in this process."""
    parallel: Literal["jit", "pmap"] = "jit"
    """Strategy for several devices."""
    loader: Literal["auto", "memory", "stream"] = "auto"
    """memory: all images on the devices; stream: read from disk ahead of each step; auto: memory if
    the images need at most half of the free memory."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The config of one training run."""

    data: Data = Data()
    model: Model = Model()
    optimisation: Optimisation = Optimisation()
    augmentation: Augmentation = Augmentation()
    run: Run = Run()
    devices: Devices = Devices()

    def settings(self) -> dict[str, Any]:
        """Map the name of each setting to its value."""
        return {
            name: getattr(getattr(self, setting.group), setting.field)
            for name, setting in SETTINGS.items()
        }

    def replace(self: AnyConfig, **settings: Any) -> AnyConfig:
        """Return a copy in which these settings are changed.

        Raises:
            InputError: A name is unknown, or a value is wrong.
        """
        groups: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            check_name("flag", name, SETTINGS)
            SETTINGS[name].check(name, value)
            groups.setdefault(SETTINGS[name].group, {})[SETTINGS[name].field] = value
        changed = {
            group: dataclasses.replace(getattr(self, group), **values)
            for group, values in groups.items()
        }
        return dataclasses.replace(self, **changed)


class ResolvedConfig(Config):
    """A config with the recipe's values, as returned by `resolve`."""


class Setting(NamedTuple):
    """One setting of a config."""

    group: str
    field: str  # its name in the group
    kind: type  # of its value, or of each value if it is a tuple
    several: bool  # whether it is a tuple
    choices: tuple[str, ...]  # empty if other values are allowed
    limits: Range | None

    def check(self, name: str, value: Any) -> None:
        """Raise InputError if the value is not one of the choices, or out of range."""
        if self.choices and value is not None:
            check_name(name.replace("_", " "), value, self.choices)
        elif self.limits and value is not None:
            check_range(name, value, *self.limits)
            if 0 < value < _SMALLEST:
                raise InputError(
                    f"--{name.replace('_', '-')} is {value}, which is 0 in float32; it must be 0 "
                    "or at least "
                    f"{_SMALLEST}"
                )


def list_settings(group: str, kind: type) -> dict[str, Setting]:
    """Return the settings of a group, a dataclass, by name."""
    found = {}
    for field, hint in typing.get_type_hints(kind, include_extras=True).items():
        hint, *notes = typing.get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
        if types.NoneType in typing.get_args(hint):
            (hint,) = (part for part in typing.get_args(hint) if part is not types.NoneType)
        several = typing.get_origin(hint) is tuple
        choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
        name = next((note.name for note in notes if getattr(note, "name", None)), field)
        limits = next((note for note in notes if isinstance(note, Range)), None)
        value = typing.get_args(hint)[0] if several else str if choices else hint
        found[name] = Setting(group, field, value, several, choices, limits)
    return found


SETTINGS = {
    name: setting
    for group in dataclasses.fields(Config)
    for name, setting in list_settings(group.name, type(group.default)).items()
}


def check(config: Config) -> None:
    """Raise InputError if a value is invalid for all data sets, or if two values are incompatible."""
    if config.run.resume and config.run.run_dir is None:
        raise InputError("--resume needs --run-dir, the directory of the run to continue")
    data = config.data
    check_dataset(data.dataset)
    for name, value in config.settings().items():
        SETTINGS[name].check(name, value)
    check_name("recipe", config.optimisation.recipe, ("auto", *recipes_for(data.dataset)))
    if data.crop == "roi" and data.dataset not in SIGN_SETS and not is_path(data.dataset):
        raise InputError(
            f"--crop is roi, but {data.dataset} has no annotated regions; give --crop full, or "
            f"traffic signs as --dataset {SIGN_SETS[0]}"
        )
    if data.hold_out == "test" and data.validation_fraction:
        raise InputError(
            f"--validation-fraction is {data.validation_fraction}; it must be 0 or left out, because "
            "--hold-out test holds out no training data"
        )
    initial, run_dir = config.optimisation.initial, config.run.run_dir
    if config.optimisation.freeze != "none" and initial is None:
        raise InputError(
            "--freeze conv would keep random weights; give --from RUN, the run with the weights"
        )
    if initial and run_dir and expand_user(initial).resolve() == expand_user(run_dir).resolve():
        raise InputError(
            f"--from and --run-dir are both {run_dir}; choose another --run-dir for the new run"
        )


def resolve(config: Config, variant: str, found: Dataset | None = None) -> ResolvedConfig:
    """Fill in the recipe's values for a checked config and the data that is there, "full" or "sample".

    ``found`` is the data set. Settings for own images depend on it, unless they are given.
    """
    dataset, model = config.data.dataset, config.model.name
    if is_path(dataset):
        dataset = str(expand_user(dataset).absolute())
    recipe = config.optimisation.recipe
    if recipe == "auto":
        recipe = usual_recipe(dataset, model, variant)
    size = (1000, 64)
    if found:
        examples = (found.facts or {}).get("planned_examples", found.train_examples)
        size = (examples, max(found.image_shape[:2]))
    named = config.settings() | {"dataset": dataset, "recipe": recipe}
    values = recipe_settings(named, *size)
    given = {name: value for name, value in config.settings().items() if value is not None}
    if config.optimisation.class_weights == "auto":
        counts = found.class_counts if found else ()
        rare = bool(counts) and min(counts) * RARE < max(counts)
        given["class_weights"] = "effective" if rare else "none"
    given |= {"dataset": dataset}
    given |= {"data": variant, "recipe": recipe, "model": model}  # None: a Python object
    return ResolvedConfig().replace(**values | given)


def to_json(config: Config) -> dict[str, Any]:
    """Return the settings as they are written to config.json, with absolute paths as text."""
    return {
        name: str(expand_user(value).absolute()) if isinstance(value, Path) else value
        for name, value in config.settings().items()
    }


def hyperparameters(config: Config) -> dict[str, Any]:
    """Return the settings that determine the result of a run, as in config.json."""
    return {
        name: value
        for name, value in to_json(config).items()
        if SETTINGS[name].group not in ("run", "devices") and name not in ("archives", "data_dir")
    }
