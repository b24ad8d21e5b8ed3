"""Image classification sets of TensorFlow Datasets, read without TensorFlow."""

import contextlib
import difflib
import importlib.util
import io
import os
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from fidle_jax.data import prepared
from fidle_jax.data.dataset import Dataset
from fidle_jax.errors import InputError
from fidle_jax.files import expand_user


def load_tfds_set(name: str, data_dir: Path | None) -> Dataset:
    """Load a TFDS set of images of one fixed size with one class label each, e.g. "emnist/letters".

    Reading a prepared set does not require TensorFlow. Preparing does, because most of TFDS's builders
    and all that encode images use it.

    Raises:
        InputError: The set is unknown, is not for image classification, has no test or validation split,
            or cannot be prepared.
    """
    builder = _find_builder(name, data_dir)
    image, label = _image_and_label(builder, name)
    _ensure_prepared(builder, name)
    splits = list(builder.info.splits)
    test = next((split for split in ("test", "validation") if split in splits), None)
    if "train" not in splits or test is None:
        raise InputError(
            f"tfds:{name} has the splits {', '.join(splits)}; expected train, and test or validation; "
            "choose another data set"
        )
    return prepared.make_dataset(
        lambda: builder,
        f"tfds:{name}",
        image=image,
        label=label,
        test=test,
        name=f"tfds:{name}",
        class_names=tuple(builder.info.features[label].names),
        image_shape=tuple(builder.info.features[image].shape),
        train_examples=builder.info.splits["train"].num_examples,
        test_examples=builder.info.splits[test].num_examples,
    )


def _find_builder(name: str, data_dir: Path | None) -> tfds.core.DatasetBuilder:
    # TFDS prints a banner before it raises ImportError for a missing TensorFlow.
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return tfds.builder(name, data_dir=data_dir and expand_user(data_dir))
        except tfds.core.DatasetNotFoundError:
            known = tfds.list_builders(with_community_datasets=False)
            near = difflib.get_close_matches(name.split("/")[0], known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else "see tfds.list_builders()"
            raise InputError(f"unknown TFDS data set {name!r}; {hint}") from None
        except ImportError as error:
            raise _needs_tensorflow(name, data_dir) from error
        except Exception as error:  # wrong configs, versions and spellings raise different types
            reason = prepared.first_line(error)
            raise InputError(
                f"tfds:{name} cannot be loaded: {reason}; expected NAME or NAME/CONFIG:VERSION; "
                "check the spelling in the TFDS catalogue"
            ) from error


def _image_and_label(builder: tfds.core.DatasetBuilder, name: str) -> tuple[str, str]:
    """Return the names of the image and label features."""
    keys, features = builder.info.supervised_keys, builder.info.features
    if (
        not keys
        or len(keys) != 2
        or not all(isinstance(key, str) for key in keys)
        or not isinstance(features[keys[0]], tfds.features.Image)
        or not isinstance(features[keys[1]], tfds.features.ClassLabel)
    ):
        raise InputError(
            f"tfds:{name} is not an image classification set; expected one image and one class label; "
            "choose another data set"
        )
    image = features[keys[0]]
    if None in image.shape or image.np_dtype != np.uint8:
        raise InputError(
            f"tfds:{name} has images of shape {image.shape} and type {np.dtype(image.np_dtype)}; "
            "expected one fixed size and uint8; choose another data set"
        )
    return keys


def _ensure_prepared(builder: tfds.core.DatasetBuilder, name: str) -> None:
    root = builder.data_dir_root
    command = _prepare_command(name, root)
    if prepared.is_prepared(builder):
        if tfds.core.FileFormat.ARRAY_RECORD not in builder.info.available_file_formats():
            raise InputError(
                f"tfds:{name} is prepared in {builder.data_path}, but not as array_record; "
                f"delete that folder and run: {command}"
            )
        return
    if importlib.util.find_spec("tensorflow") is None:
        raise _needs_tensorflow(name, root)
    url = next(iter(builder.url_infos or ()), None)
    if url and not prepared.reachable(url):
        raise InputError(
            f"tfds:{name} is not prepared in {root}, and {url} does not answer; "
            f"on a machine with a network, run: {command}"
        )
    try:
        prepared.run_builder(builder)
    except Exception as error:  # every builder fails in its own way
        raise InputError(
            f"tfds:{name} cannot be prepared in {root}: {prepared.first_line(error)}; "
            f"for details, run: {command}"
        ) from error


def _needs_tensorflow(name: str, data_dir: os.PathLike | None) -> InputError:
    return InputError(
        f"tfds:{name} is not prepared, and preparing it requires TensorFlow (reading does not); "
        f"run once: pip install tensorflow && {_prepare_command(name, data_dir)}"
    )


def _prepare_command(name: str, data_dir: os.PathLike | None) -> str:
    # `tfds build` of TFDS 4.9.10 does not start without apache-beam.
    folder = f", data_dir={os.fspath(data_dir)!r}" if data_dir else ""
    code = (
        f"import tensorflow_datasets as tfds; tfds.builder({name!r}{folder})"
        ".download_and_prepare(file_format='array_record')"
    )
    return f'python -c "{code}"'
