"""Run mnist_cnn.py with a fault: ``python faulty.py FAULT FLAG ...``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

from fidle_jax.cli.train import main
from fidle_jax.data import load_dataset
from fidle_jax.errors import InputError
from fidle_jax.train import checkpoints, run
from fidle_jax.train.config import Config


def data_is_damaged(*args, **kwargs):
    """Replace `load_dataset`."""
    raise InputError("the data is damaged")


def code_is_wrong(*args, **kwargs):
    """Replace `load_dataset`."""
    load_dataset(*args, **kwargs)
    raise ZeroDivisionError("a mistake")


def test_split_is_damaged(*args):
    """Replace `evaluate_test`."""
    raise InputError("the test split is damaged")


restore_step = checkpoints._restore_step


def newest_is_damaged(reader, step, *like):
    """Replace `_restore_step`."""
    if step == max(reader.all_steps()):
        raise ValueError("a bad read")
    return restore_step(reader, step, *like)


PLACES = {
    "data": (run, "load_dataset", data_is_damaged),
    "code": (run, "load_dataset", code_is_wrong),
    "test": (run, "evaluate_test", test_split_is_damaged),
    "checkpoint": (checkpoints, "_restore_step", newest_is_damaged),
}

if __name__ == "__main__":
    setattr(*PLACES[sys.argv.pop(1)])
    main("mnist_cnn", __doc__, Config().replace(model="cnn"))
