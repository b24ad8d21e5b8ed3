"""A run over a set that is larger than the memory it may take, for `test_large_sets`.

``python large_set.py DATA_DIR`` prepares the set; ``python large_set.py DATA_DIR LOADER RUN_DIR`` trains
on it, once the same on a few of its images has taken the memory that any run does, and a limit is set.
"""

import dataclasses
import resource
import sys
from pathlib import Path

import numpy as np

from fidle_jax.data import prepared
from fidle_jax.data.dataset import WHOLE

SHAPE = (64, 64, 3)
EXAMPLES = {"train": 32_768, "test": 32}
# Of the set's 403 MB; a run of any length takes up to 250, much of it the stacks of its threads.
ROOM_BYTES = 330_000_000


class LargeSet(prepared.RawBuilder):
    """Two classes, dark images and bright ones."""

    def _info(self):
        return self.raw_info(SHAPE, classes=2)


def _builder(data_dir):
    return prepared.open_builder(LargeSet, "the large set", data_dir)


def _examples(split):
    for index in range(EXAMPLES[split]):
        label = index % 2
        yield {"image": np.full(SHAPE, 50 + 100 * label, np.uint8), "label": label}


def _load(data_dir, examples):
    """The set, or so many of its images to train on."""
    large = prepared.make_dataset(
        lambda: _builder(data_dir),
        "the large set",
        name="large",
        class_names=("dark", "bright"),
        image_shape=SHAPE,
        train_examples=examples,
        test_examples=EXAMPLES["test"],
    )

    def open_(split, part=WHOLE):
        return large.open(split, part).take(np.arange(examples))

    return dataclasses.replace(large, open=open_)


def _data_bytes():
    """What RLIMIT_DATA limits: the heap, and private memory that can be written."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmData" in x)
    return 1024 * int(line.split()[1])


def _train(data_dir, loader, run_dir, examples):
    from fidle_jax.train import run as run_module
    from fidle_jax.train.config import Config
    from fidle_jax.train.signals import Stop

    run_module.load_dataset = lambda *_, **__: _load(data_dir, examples)
    config = Config().replace(
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
        prepared.prepare(lambda: _builder(data_dir), "the large set", _examples)
        return
    _train(data_dir, "stream", run_dir / "few", 1024)
    limit = _data_bytes() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    result = _train(data_dir, loader, run_dir / "all", EXAMPLES["train"])
    print(f"trained on {result['train_examples']}, right {result['test_accuracy']}")


if __name__ == "__main__":
    main(*(Path(x) if "/" in x else x for x in sys.argv[1:]))
