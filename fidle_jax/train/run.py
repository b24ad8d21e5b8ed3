"""One run: config, data, training, test, result."""

import contextlib
import functools
import logging
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh

from fidle_jax.data import AnySplit, Dataset, load_dataset, stratified_split
from fidle_jax.data.augment import NO_AUGMENTATION, Augmentation
from fidle_jax.data.batches import steps_per_epoch
from fidle_jax.errors import InputError
from fidle_jax.files import DIGESTS, sealed, write_json
from fidle_jax.nn import adapt, format_table, layer_table, make_model
from fidle_jax.train import distributed
from fidle_jax.train import run_dir as run_dirs
from fidle_jax.train.checkpoints import Checkpoints
from fidle_jax.train.compiled_steps import choose_loader, compile_steps
from fidle_jax.train.config import Config, ResolvedConfig, check, resolve, to_json
from fidle_jax.train.custom import NO_OBJECTS, Custom
from fidle_jax.train.initial import Initial, inherit, read_initial, read_same_initial
from fidle_jax.train.loop import Interrupted, Loop, NotFinite, Record
from fidle_jax.train.near_duplicates import write_near_duplicates
from fidle_jax.train.outcome import describe_model, describe_result, evaluate_test, write_augmented
from fidle_jax.train.parallel import make_mesh
from fidle_jax.train.recipes import selected_for
from fidle_jax.train.resume import (
    Extension,
    check_same_data,
    describe_extension,
    finished_result,
    same_run,
    write_extension,
)
from fidle_jax.train.signals import Stop
from fidle_jax.train.step import init_state
from fidle_jax.train.task import make_augmentation, make_schedule, make_task

# Options of JAX that change the random numbers of a seed, with their usual values.
OPTIONS = {
    "jax_default_prng_impl": "threefry2x32",
    "jax_random_seed_offset": 0,
    "jax_threefry_partitionable": True,
}
COMPARED_IMAGES = 1000  # whose checksum all processes compare

logger = logging.getLogger("fidle_jax")

# Called with the name of a long phase, it returns a context manager that shows the phase to the user.
ShowPhase = Callable[[str], AbstractContextManager[Any]]


class _Parts(NamedTuple):
    """The network and the data of a run."""

    config: ResolvedConfig
    loader: str  # description
    dataset: Dataset
    model: nn.Module
    ranges: Augmentation
    train: AnySplit
    validation: AnySplit


def run(
    config: Config,
    experiment: str,
    command: str,
    stop: Stop,
    show_phase: ShowPhase = contextlib.nullcontext,
    custom: Custom = NO_OBJECTS,
) -> dict[str, Any] | None:
    """Train and test in ``config.run.run_dir``. Return the content of result.json.

    `fidle_jax.report.write_report` then draws the report, which marks the run as finished. A finished
    run is left unchanged. With several processes, all of them call this function, but only the first
    one writes, tests and returns a result.

    Args:
        config: The config. The recipe sets what is missing.
        experiment, command: Name of the experiment, and the command that repeats the run.
        stop, show_phase: Signals that ask the run to stop, and what shows long phases to the user.
        custom: Objects that replace settings of the config.

    Raises:
        InputError: The config, the data or the run directory is wrong. Nothing was written.
        Interrupted, NotFinite, OSError: See `fidle_jax.train.loop.Loop.run`.
    """
    check(config)
    for name, usual in OPTIONS.items():
        if (value := getattr(jax.config, name)) != usual:
            raise InputError(
                f"{name.upper()} is {value}, which changes the result of a seed; it must be "
                f"{usual}; unset it"
            )
    run_dir = config.run.run_dir
    if run_dir is None:
        raise InputError("config.run.run_dir is None; set it to the output directory")
    first, result, initial, extension = distributed.is_first(), None, None, None
    with distributed.fail_together():
        if config.run.resume:
            config, saved = same_run(config, run_dir, experiment, custom)
            if config.optimisation.epochs > saved.optimisation.epochs:
                extension = Extension(saved, command)
            elif first:
                result = finished_result(run_dir, config.optimisation.epochs)
        elif first:
            run_dirs.check_new(run_dir)
        if config.optimisation.initial and not config.run.resume:
            config = inherit(config)
        mesh = make_mesh(config.devices.count)
    if distributed.any_process(result is not None):
        if first:
            print(f"the run in {run_dir} is finished; nothing was changed")
        return result
    parts = _load(config, mesh, custom)
    config, dataset, model = parts.config, parts.dataset, parts.model
    table = layer_table(model, dataset.image_shape)
    if config.optimisation.initial and not config.run.resume:
        with distributed.fail_together():
            initial = read_initial(config, model, dataset) if first else None
    if first:
        announced = _announce(parts, run_dir, initial, custom)
        print(announced, format_table(table), sep="\n\n", end="\n\n", flush=True)
    else:
        show_phase = contextlib.nullcontext
    described = to_json(config.replace(**dict.fromkeys(custom.replaced())))
    described |= {"experiment": experiment, "command": command}
    if dataset.facts:
        described["own_images"] = dict(dataset.facts)
    if objects := custom.describe():
        described["objects"] = objects
    if initial:
        described["from_digest"] = initial.digest
    with _hold(config, run_dir, described, describe_model(model, dataset, table)):
        loop = _train(parts, run_dir, mesh, stop, show_phase, custom, initial, extension)
        tested = {}
        if first:
            with show_phase(f"testing on {dataset.test_examples:,} images"):
                tested = evaluate_test(model, loop.best, dataset, run_dir, custom.metrics)
                write_augmented(parts.train, parts.ranges, config.optimisation.seed, run_dir)
                if dataset.facts:
                    write_near_duplicates(parts.train, run_dir)
        if distributed.any_process(not math.isfinite(tested.get("test_loss", 0))):
            raise NotFinite("the test loss", int(loop.state.step))
        if first:
            measured = tested | {
                "validation_examples": len(parts.validation.labels),
                "parameters": sum(row.parameters for row in table),
            }
            result = describe_result(experiment, dataset, mesh.size, loop, measured)
            # The report marks a run as finished. It is there if the run was damaged or extended.
            for name in ("report.html", DIGESTS):
                (run_dir / name).unlink(missing_ok=True)
            write_json(run_dir / "result.json", sealed(result, run_dirs.identity(run_dir)))
        distributed.barrier("the result is written")
    return result


def _load(config: Config, mesh: Mesh, custom: Custom) -> _Parts:
    """Load the data and make the model."""
    with distributed.fail_together():
        # Only full data sets can be cropped, so the recipe for full data decides.
        crop = resolve(config, "full").data.crop
        dataset = custom.dataset or load_configured(
            config.replace(crop=crop),
            lambda text: print(text, flush=True) if distributed.is_first() else None,
        )
        if config.run.resume:
            check_same_data(config, dataset)
        resolved = resolve(config, dataset.variant, dataset)
        # Report a wrong model or flip, or a small batch size, before the data is read.
        values = resolved.model
        classes, shape = len(dataset.class_names), dataset.image_shape
        if custom.model is None:
            model = make_model(values.name, classes, shape, values.dropout, values.width)
        else:
            model = adapt(custom.model, classes, shape)
        custom.check_functions(classes)
        _check_batch_size(resolved, mesh.size)
        ranges = make_augmentation(resolved, dataset)
    own_validation = _uses_validation_split(dataset, resolved)
    if own_validation and config.data.validation_fraction and not config.run.resume:
        raise InputError(
            f"--validation-fraction is {config.data.validation_fraction}, but {dataset.name} has a "
            "validation "
            "split; leave it out to use that split, or give 0 to ignore it"
        )
    streamed, loader = choose_loader(config.devices.loader, dataset, mesh)
    found = f"{dataset.name} ({dataset.variant}), {dataset.train_examples} examples"
    distributed.check_same({"the data set": found})
    with distributed.fail_together():
        read = dataset.open if streamed else dataset.read
        train, validation = divide_training(dataset, read, resolved)
        if config.data.hold_out == "test":
            validation = read("test")
        if (size := resolved.optimisation.batch_size) > len(train.labels):
            raise InputError(
                f"--batch-size is {size}; it must be at most {len(train.labels)}, the number of "
                "training "
                "examples that are not held out"
            )
    if jax.process_count() > 1:
        labels = np.concatenate([train.labels, validation.labels])
        some = train.read_images(np.linspace(0, len(train.labels) - 1, COMPARED_IMAGES).astype(int))
        sums = [zlib.crc32(np.ascontiguousarray(each)) for each in (labels, some)]
        distributed.check_same({"the checksums of labels and images": sums})
    return _Parts(resolved, loader, dataset, model, ranges, train, validation)


def load_configured(config: Config, announce: Callable[[str], None] = lambda text: None) -> Dataset:
    """Load the data set of a config. ``announce`` receives lines that describe own images."""
    data = config.data
    return load_dataset(
        data.dataset,
        data=data.variant,
        archives=data.archives,
        data_dir=data.data_dir,
        crop=data.crop or "full",
        seed=config.optimisation.seed,
        image_size=data.image_size,
        resize=data.resize,
        allow_skipped=data.allow_skipped,
        hold_out=data.hold_out,
        announce=announce,
    )


def _uses_validation_split(dataset: Dataset, config: ResolvedConfig) -> bool:
    return dataset.validation_examples > 0 and config.data.validation_fraction > 0


def divide_training(
    dataset: Dataset, read: Callable[[str], AnySplit], config: ResolvedConfig
) -> tuple[AnySplit, AnySplit]:
    """Return the training examples and the validation examples, which may be none.

    ``read`` is ``dataset.read`` or ``dataset.open``. The validation split of the data set is used if there
    is one. Otherwise, the training split is divided by `hold_out`.
    """
    if not _uses_validation_split(dataset, config):
        return hold_out(read("train"), config)
    train, _ = hold_out(read("train"), config.replace(validation_fraction=0.0))
    return train, read("validation")


def hold_out(split: AnySplit, config: Config) -> tuple[AnySplit, AnySplit]:
    """Return the training examples and the held-out examples, which may be none.

    The fraction ``scale`` of the data that both come from is the same for every seed, so that runs can be
    compared. Raise what `fidle_jax.data.stratified_split` raises.
    """
    if config.data.scale < 1:
        with contextlib.suppress(InputError):  # so close to 1 that no example is left out
            kept, _ = stratified_split(split.labels, 1 - config.data.scale, 0, split.groups)
            split = split.take(kept)
    groups = None if config.data.hold_out == "examples" else split.groups
    fraction, seed = config.data.validation_fraction, config.optimisation.seed
    train, validation = map(split.take, stratified_split(split.labels, fraction, seed, groups))
    return train, validation


def _check_batch_size(config: ResolvedConfig, devices: int) -> None:
    size, parts = config.optimisation.batch_size, config.optimisation.accumulate
    if size < devices * parts:
        micro_batches = f" in each of {parts} micro-batches (--accumulate)" if parts > 1 else ""
        raise InputError(
            f"--batch-size is {size}; it must be at least {devices * parts}, one example for each of "
            f"{devices} devices{micro_batches}; give a larger one, or fewer --devices"
        )


def _announce(parts: _Parts, run_dir: Path, initial: Initial | None, custom: Custom) -> str:
    """Describe the data, the loader, the recipe, the run directory and the initial weights."""
    config, dataset = parts.config, parts.dataset
    values = config.optimisation
    networks = selected_for(config.data.dataset, values.recipe)
    if custom.model is None and networks and config.model.name not in networks:
        logger.warning(
            "the recipe %s was selected for the network %s, not for %s; give --model %s, or another --recipe",
            values.recipe,
            " or ".join(networks),
            config.model.name,
            networks[0],
        )
    names = ("epochs", "batch_size", "learning_rate", "optimizer", "schedule")
    named = {name: getattr(values, name) for name in names if name not in custom.replaced()}
    named |= custom.describe()
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in named.items())
    cropped = ", cropped to the sign" if config.data.crop == "roi" else ""
    held_out = f"{len(parts.validation.labels):,} validation"
    if config.data.hold_out == "test":
        held_out = "the test set for selecting the epoch"
    return (
        f"data: {dataset.name} ({dataset.variant}{cropped}), {len(parts.train.labels):,} training, "
        f"{held_out}, {dataset.test_examples:,} test images\n"
        f"loader: {parts.loader}\n"
        f"recipe: {values.recipe} ({settings}, "
        f"{'no augmentation' if parts.ranges == NO_AUGMENTATION else 'augmentation'})\n"
        f"run directory: {run_dir}" + (f"\n{initial.description}" if initial else "")
    )


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
            if distributed.is_first():
                run_dirs.begin(run_dir, described, model, resumed=config.run.resume)
        yield


def _train(
    parts: _Parts,
    run_dir: Path,
    mesh: Mesh,
    stop: Stop,
    show_phase: ShowPhase,
    custom: Custom,
    initial: Initial | None,
    extension: Extension | None,
) -> Loop:
    """Train to the last epoch, from the newest checkpoint if the run is resumed."""
    config, dataset, model = parts.config, parts.dataset, parts.model
    examples, options, first = len(parts.train.labels), config.optimisation, distributed.is_first()
    epoch_steps = steps_per_epoch(examples, options.batch_size)
    schedule = make_schedule(config, epoch_steps)
    if custom.optimizer or custom.learning_rate:  # the learning rate of an optimizer is unknown
        schedule = custom.learning_rate or (lambda _: None)
    task = custom.apply(make_task(config, dataset, model, schedule, parts.train.labels))
    tested = None  # step of the checkpoint that result.json names
    with contextlib.suppress(InputError):
        tested = run_dirs.read_result(run_dir, "steps")["steps"]
    checkpoints = Checkpoints(run_dir / "checkpoints", run_dirs.identity(run_dir), tested)
    cache = (jax.config.jax_compilation_cache_dir or "").replace(str(Path.home()), "~")
    where = f"; cached in {cache}" if cache else ""
    with show_phase(f"compiling (about 30 s the first time{where})"):
        average = options.ema_decay > 0
        make_state = functools.partial(
            init_state,
            model,
            dataset.image_shape,
            task.optimizer,
            options.seed,
            average=average,
            frozen=task.frozen,
        )
        state = make_state()
        best, record = jax.device_get(state.variables()), Record()
        restored = checkpoints.restore(state, best, Record) if config.run.resume else None
        if restored:
            state, best, record = restored
            record.stopped = record.stopped and extension is None
        elif (run_dir / "result.json").exists():
            raise InputError(
                f"the run in {run_dir} is damaged and has no checkpoint to repair it; start again in "
                "another --run-dir"
            )
        elif options.initial:
            with distributed.fail_together():
                if first:
                    initial = initial or read_same_initial(config, model, dataset, run_dir)
                    state = make_state(variables=initial.replace_in(state.variables()))
                    best = jax.device_get(state.variables())
        # Different machines may round the initial weights differently.
        state = distributed.broadcast(state)
        data = parts.train, parts.validation
        compiled = compile_steps(task, schedule, mesh, state, *data, config)
    if restored and first:
        print(f"resuming at step {int(state.step):,}")
    elif initial and config.run.resume:
        print(initial.description)
    if extension and first:
        print(describe_extension(extension, config, custom, epoch_steps, int(state.step)))
        write_extension(run_dir, extension, options.epochs)
    state = compiled.replicate(state)
    loop = Loop(config, examples, compiled, state, best, record, checkpoints, stop, custom)
    with contextlib.closing(compiled), stop.defer():
        loop.run()
    checkpoints.close()
    if distributed.any_process(stop.requested):
        raise Interrupted
    return loop
