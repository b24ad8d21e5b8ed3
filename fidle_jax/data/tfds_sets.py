"""Image classification sets of TensorFlow Datasets, read without TensorFlow."""

import contextlib
import difflib
import importlib.util
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from fidle_jax.absl_logs import only_errors
from fidle_jax.data.dataset import WHOLE, Dataset, Split, StoredSplit, part_rows
from fidle_jax.data.network import reachable
from fidle_jax.data.prepared import does_not_fit, is_lack_of_memory, raw_source, read_numbers
from fidle_jax.errors import InputError

_ARRAY_RECORD = tfds.core.FileFormat.ARRAY_RECORD


def load_tfds_set(name: str, data_dir: Path | None) -> Dataset:
    """Finds a TFDS set that maps one image of fixed size to one class.

    Reading a prepared set takes no TensorFlow. Preparing one does, as nearly every builder of
    TFDS calls it, and all that encode images do.

    Args:
      name: as TFDS spells it, with the config where there are several: ``"emnist/letters"``.
      data_dir: the folder of all TFDS data (default: TFDS's own).

    Raises:
      InputError: where the set is unknown, is no image classification, has no test (or
        validation) split, or is not prepared and cannot be.
    """
    builder = _find_builder(name, data_dir)
    image_key, label_key = _image_and_label(builder, name)
    _make_prepared(builder, name)
    splits = _split_names(builder, name)
    features = builder.info.features
    return Dataset(
        name=f"tfds:{name}",
        variant="full",
        class_names=tuple(features[label_key].names),
        image_shape=tuple(features[image_key].shape),
        train_examples=builder.info.splits[splits["train"]].num_examples,
        test_examples=builder.info.splits[splits["test"]].num_examples,
        read=lambda split, part=WHOLE: _read(builder, splits[split], image_key, label_key, part),
        open=lambda split, part=WHOLE: _open(builder, splits[split], image_key, label_key, part),
    )


def _find_builder(name: str, data_dir: Path | None) -> tfds.core.DatasetBuilder:
    # Where a builder's module misses TensorFlow, TFDS prints a banner before it raises.
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return tfds.builder(name, data_dir=data_dir and data_dir.expanduser())
        except tfds.core.DatasetNotFoundError:
            raise InputError(_unknown(name)) from None
        except ImportError as error:
            raise InputError(_needs_tensorflow(name, data_dir)) from error
        except Exception as error:  # a wrong config, version or spelling: each raises its own
            raise InputError(f"tfds:{name} cannot be built: {_first_line(error)}") from error


def _unknown(name: str) -> str:
    known = tfds.list_builders(with_community_datasets=False)
    near = difflib.get_close_matches(name.split("/")[0], known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "tfds.list_builders() knows the names"
    return f"unknown TFDS data set {name!r}; {hint}"


def _image_and_label(builder: tfds.core.DatasetBuilder, name: str) -> tuple[str, str]:
    keys = builder.info.supervised_keys
    features = builder.info.features
    if (
        not keys
        or len(keys) != 2
        or not all(isinstance(key, str) for key in keys)
        or not isinstance(features[keys[0]], tfds.features.Image)
        or not isinstance(features[keys[1]], tfds.features.ClassLabel)
    ):
        raise InputError(
            f"tfds:{name} is no image classification set: expected one image and one class label; "
            "choose another"
        )
    image = features[keys[0]]
    if None in image.shape or image.np_dtype != np.uint8:
        raise InputError(
            f"tfds:{name} has images of shape {image.shape} and type {np.dtype(image.np_dtype)}, "
            "expected one fixed size and uint8; choose another"
        )
    return keys


def _make_prepared(builder: tfds.core.DatasetBuilder, name: str) -> None:
    if builder.data_path.exists() and builder.is_prepared():
        if _ARRAY_RECORD not in builder.info.available_file_formats():
            raise InputError(
                f"tfds:{name} is prepared in {builder.data_path}, but not as array_record; delete "
                f"that folder and run: {_prepare_command(name, builder.data_dir_root)}"
            )
        return
    if importlib.util.find_spec("tensorflow") is None:
        raise InputError(_needs_tensorflow(name, builder.data_dir_root))
    url = next(iter(builder.url_infos or ()), None)
    if url and not reachable(url):
        raise InputError(
            f"tfds:{name} is not prepared in {builder.data_dir_root}, and {url} does not answer; "
            f"where there is a network, run: {_prepare_command(name, builder.data_dir_root)}"
        )
    _prepare(builder, name)


def _prepare(builder: tfds.core.DatasetBuilder, name: str) -> None:
    tfds.display_progress_bar(sys.stderr.isatty())
    try:
        # TFDS announces itself on stdout, which belongs to results.
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(file_format=_ARRAY_RECORD)
    except Exception as error:  # every builder has its own ways to fail
        raise InputError(
            f"tfds:{name} cannot be prepared in {builder.data_dir_root}: {_first_line(error)}; "
            f"for the details run: {_prepare_command(name, builder.data_dir_root)}"
        ) from error


def _split_names(builder: tfds.core.DatasetBuilder, name: str) -> dict[str, str]:
    held = list(builder.info.splits)
    test = next((split for split in ("test", "validation") if split in held), None)
    if "train" not in held or test is None:
        raise InputError(
            f"tfds:{name} has the splits {', '.join(held)}; expected train, and test or validation"
        )
    return {"train": "train", "test": test}


def _read(
    builder: tfds.core.DatasetBuilder,
    split: str,
    image_key: str,
    label_key: str,
    part: tuple[int, int],
) -> Split:
    # TFDS recommends OpenCV to every reader.
    with only_errors(), _reading(builder):
        source = builder.as_data_source(split)
        examples = source.__getitems__(part_rows(len(source), part))
        images = _images(builder, examples, image_key)
    labels = np.array([example[label_key] for example in examples], dtype=np.int32)
    _check_labels(builder, split, labels)
    return Split(images=images, labels=labels)


def _open(
    builder: tfds.core.DatasetBuilder,
    split: str,
    image_key: str,
    label_key: str,
    part: tuple[int, int],
) -> StoredSplit:
    with only_errors(), _reading(builder):
        source = builder.as_data_source(split)
        rows = part_rows(len(source), part)
        labels = read_numbers(raw_source(builder, split), rows, [label_key])[label_key]
        source.__getitems__(
            rows[:1]
        )  # for what TFDS has to say of it, once, to be kept from the user
    _check_labels(builder, split, labels)

    def read_images(rows: np.ndarray) -> np.ndarray:
        with _reading(builder):
            return _images(builder, source.__getitems__(rows.tolist()), image_key)

    return StoredSplit(labels, None, read_images)


def _images(builder: tfds.core.DatasetBuilder, examples: list, image_key: str) -> np.ndarray:
    shape = builder.info.features[image_key].shape
    return np.array([example[image_key] for example in examples], np.uint8).reshape(-1, *shape)


def _check_labels(builder: tfds.core.DatasetBuilder, split: str, labels: np.ndarray) -> None:
    if labels.min(initial=0) < 0:
        raise InputError(
            f"the {split} split in {builder.data_path} has images without a label; "
            "choose another data set"
        )


@contextlib.contextmanager
def _reading(builder: tfds.core.DatasetBuilder) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever a reader makes of damaged files
        if is_lack_of_memory(error):
            raise does_not_fit(f"tfds:{builder.name}") from error
        raise InputError(
            f"{builder.data_path} cannot be read ({_first_line(error)}); "
            "delete that folder and prepare it again"
        ) from error


def _needs_tensorflow(name: str, data_dir: os.PathLike | str | None) -> str:
    return (
        f"tfds:{name} is not prepared, and preparing it needs TensorFlow (reading it does not); "
        f"run once: pip install tensorflow && {_prepare_command(name, data_dir)}"
    )


def _prepare_command(name: str, data_dir: os.PathLike | str | None) -> str:
    # Not `tfds build`: since TFDS 4.9.10 it does not start without apache-beam.
    folder = f", data_dir={os.fspath(data_dir)!r}" if data_dir else ""
    code = (
        f"import tensorflow_datasets as tfds; tfds.builder({name!r}{folder})"
        ".download_and_prepare(file_format='array_record')"
    )
    return f'python -c "{code}"'


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
