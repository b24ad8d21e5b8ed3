"""A run over a set that is larger than the memory it may take, for `test_large_sets`.

``python large_set.py DATA_DIR`` prepares the set; ``python large_set.py DATA_DIR LOADER RUN_DIR`` trains
on it, once the same on a few of its images has taken the memory that any run does, and a limit is set.
"""

import contextlib
import io
import resource
import sys
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from fidle_jax.data import Dataset, Split, StoredSplit, prepared
from fidle_jax.data.dataset import WHOLE

SHAPE = (64, 64, 3)
EXAMPLES = {"train": 32_768, "test": 32}
# Of the set's 403 MB; a run of any length takes up to 250, much of it the stacks of its threads.
ROOM_BYTES = 330_000_000


class LargeSet(tfds.core.GeneratorBasedBuilder):
    """Two classes, dark images and bright ones."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Tensor(shape=SHAPE, dtype=np.uint8, encoding="bytes"),
            "label": tfds.features.ClassLabel(num_classes=2),
        }
        features = tfds.features.FeaturesDict(features)
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in EXAMPLES}

    def _generate_examples(self, split):
        for index in range(EXAMPLES[split]):
            label = index % 2
            yield index, {"image": np.full(SHAPE, 50 + 100 * label, np.uint8), "label": label}


def _builder(data_dir):
    return prepared.open_builder(LargeSet, "the large set", data_dir)


def _load(data_dir, examples):
    """The set, or so many of its images to train on."""
    title = "the large set"

    def read(split, part=WHOLE):
        images, numbers = prepared.read(_builder(data_dir), title, split, part)
        return Split(images, numbers["label"])

    def open_(split, part=WHOLE):
        numbers, read_images = prepared.open_split(_builder(data_dir), title, split, part)
        return StoredSplit(numbers["label"], None, read_images).take(np.arange(examples))

    few = {"train_examples": examples, "test_examples": EXAMPLES["test"]}
    return Dataset("large", "full", ("dark", "bright"), SHAPE, **few, read=read, open=open_)


def _data_bytes():
    """What RLIMIT_DATA limits: the heap, and private memory that can be written."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmData" in x)
    return 1024 * int(line.split()[1])


def _train(data_dir, loader, run_dir, examples):
    from fidle_jax.train import run as run_module
    from fidle_jax.train.config import Config
    from fidle_jax.train.signals import Stop

    run_module.load_dataset = lambda *_, **__: _load(data_dir, examples)
    config = Config(
        model="dnn",
        epochs=1,
        batch_size=64,
        validation_fraction=0.5,
        optimizer="sgd",
        learning_rate=0.01,
        loader=loader,
        run_dir=run_dir,
        progress=False,
    )
    return run_module.run(config, "large", "python large_set.py", Stop())


def main(data_dir, loader=None, run_dir=None):
    """Prepares, or trains, which InputError may end."""
    if loader is None:
        with contextlib.redirect_stdout(io.StringIO()):
            _builder(data_dir).download_and_prepare()
        return
    _train(data_dir, "stream", run_dir / "few", 1024)
    limit = _data_bytes() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    result = _train(data_dir, loader, run_dir / "all", EXAMPLES["train"])
    print(f"trained on {result['train_examples']}, right {result['test_accuracy']}")


if __name__ == "__main__":
    main(*(Path(x) if "/" in x else x for x in sys.argv[1:]))
