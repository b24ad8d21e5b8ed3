"""Run mnist_dnn.py with a fault, or with ``none``: ``python faulty.py FAULT FLAG ...``.

The report stays empty, because drawing it takes longer than the training.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

from fidle_jax.cli.train import main
from fidle_jax.data import load_dataset
from fidle_jax.errors import InputError
from fidle_jax.files import write_digests
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


def write_empty_report(run_dir):
    """Replace `write_report`."""
    (run_dir / "report.html").write_text("")
    write_digests(run_dir)


PLACES = {
    "none": (run, "__doc__", ""),
    "data": (run, "load_dataset", data_is_damaged),
    "code": (run, "load_dataset", code_is_wrong),
    "test": (run, "evaluate_test", test_split_is_damaged),
    "checkpoint": (checkpoints, "_restore_step", newest_is_damaged),
}

if __name__ == "__main__":
    setattr(*PLACES[sys.argv.pop(1)])
    # Importing the package would import matplotlib.
    sys.modules["fidle_jax.report"] = SimpleNamespace(write_report=write_empty_report)
    main("mnist_dnn", __doc__, Config().replace(model="dnn"))
