"""Train on a data set that is larger than the memory limit, for `test_large_sets`.

``python large_set.py DATA_DIR`` prepares the data set. ``python large_set.py DATA_DIR LOADER RUN_DIR`` trains
on a few images, which allocates what every run needs, then sets the limit and trains on all of them.
"""

import dataclasses
import resource
import sys
from pathlib import Path

import numpy as np

from fidle_jax.data import prepared

SHAPE = (64, 64, 3)
EXAMPLES = {"train": 32_768, "test": 32}
# The data set has 403 MB. Any run needs up to 250 MB, mostly stacks of threads.
ROOM_BYTES = 330_000_000


class LargeSet(prepared.RawBuilder):
    """Dark and bright images."""

    def _info(self):
        return self.raw_info(SHAPE, classes=2)


def _builder(data_dir):
    return prepared.open_builder(LargeSet, "the large set", data_dir)


def _examples(_, split):
    for index in range(EXAMPLES[split]):
        label = index % 2
        yield {"image": np.full(SHAPE, 50 + 100 * label, np.uint8), "label": label}


def _load(data_dir, examples):
    """Load the data set, with the first ``examples`` images for training."""
    large = prepared.make_dataset(
        lambda: _builder(data_dir),
        "the large set",
        name="large",
        class_names=("dark", "bright"),
        image_shape=SHAPE,
        train_examples=examples,
        test_examples=EXAMPLES["test"],
    )

    def open_(split):
        return large.open(split).take(np.arange(examples))

    return dataclasses.replace(large, open=open_)


def _data_bytes():
    """Return the memory that RLIMIT_DATA limits: the heap and private writable memory."""
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
    """Prepare the data set, or train on it."""
    if loader is None:
        prepared.write_set(lambda: _builder(data_dir), "the large set", Path, _examples)
        return
    _train(data_dir, "stream", run_dir / "few", 1024)
    limit = _data_bytes() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    result = _train(data_dir, loader, run_dir / "all", EXAMPLES["train"])
    print(f"trained on {result['train_examples']}, right {result['test_accuracy']}")


if __name__ == "__main__":
    main(*(Path(x) if "/" in x else x for x in sys.argv[1:]))
