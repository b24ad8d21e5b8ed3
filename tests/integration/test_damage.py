"""A damaged run directory resumes to the same bits, or gives a one-line error."""

import hashlib
import logging
import os
import random
import shutil
import stat

import numpy as np
import pytest

import fidle_jax.report
from fidle_jax.cli.train import main
from fidle_jax.errors import InputError
from fidle_jax.files import write_atomically, write_digests
from fidle_jax.inference.load import load
from fidle_jax.train import loop
from fidle_jax.train.checkpoints import digest
from fidle_jax.train.config import Config
from fidle_jax.train.run_content import read_metrics
from fidle_jax.train.run_dir import read_result
from fidle_jax.train.signals import Stop

DEFAULTS = Config().replace(model="dnn", recipe="course")
FLAGS = ("--data", "sample", "--epochs", "3", "--batch-size", "900", "--checkpoint-seconds", "0")
EXACT = ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
BLOCK = 50


def write_short_report(run_dir):
    """Replace `write_report`, because drawing takes longer than the training."""
    (run_dir / "figures").mkdir(exist_ok=True)
    write_atomically(run_dir / "figures" / "curves.png", b"a picture")
    write_atomically(run_dir / "report.html", "a page")
    write_digests(run_dir)


@pytest.fixture(scope="module")
def quick():
    """Replace the report, and save after each step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "CHUNK_SECONDS", 0)
        patch.setattr(fidle_jax.report, "write_report", write_short_report)
        yield


def call(*words):
    """Call mnist_dnn.py in this process. Return its exit status."""
    logger = logging.getLogger("fidle_jax")
    handlers, propagate = logger.handlers.copy(), logger.propagate
    try:
        with pytest.raises(SystemExit) as caught:
            main("mnist_dnn", "", DEFAULTS, [*map(str, words), "--no-progress"])
    finally:
        logger.handlers[:], logger.propagate = handlers, propagate
    return caught.value.code


@pytest.fixture(scope="module")
def runs(tmp_path_factory, quick):
    """A finished run, and the same run after it was interrupted in its second epoch."""
    folder = tmp_path_factory.mktemp("runs")
    assert call(*FLAGS, "--run-dir", folder / "finished") == 0
    with pytest.MonkeyPatch.context() as patch:
        asked = iter(range(100))
        patch.setattr(
            Stop, "requested", property(lambda _: next(asked) > 6, lambda *_: None), False
        )
        assert call(*FLAGS, "--run-dir", folder / "interrupted") == 130
    steps = {path.name for path in (folder / "interrupted" / "checkpoints").iterdir()}
    assert len(steps) == 3
    return folder


def outcome(run_dir):
    """Return the result, metrics and probabilities of a finished run, without times."""
    result = read_result(run_dir)
    metrics = read_metrics(run_dir / "metrics.csv")
    with np.load(run_dir / "evaluation.npz") as arrays:
        probabilities = hashlib.sha256(arrays["probabilities"].tobytes()).hexdigest()
    names = ("test_loss", "test_accuracy", "best_epoch", "steps", "seed", "train_examples")
    values = [result[name] for name in names]
    return values, {name: metrics[name].tolist() for name in EXACT}, probabilities


def damage(run_dir, rng):
    """Damage one file. Return a description."""
    paths = sorted(path for path in run_dir.rglob("*") if path.is_file())
    # Many small files of checkpoints would crowd out the others.
    others = [path for path in paths if "checkpoints" not in path.parts]
    path = rng.choice(paths if rng.random() < 0.5 else others)
    kind = rng.choice(("flip", "truncate", "empty", "delete", "swap", "directory", "link", "fifo"))
    content = bytearray(path.read_bytes())
    if kind == "flip" and content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
    elif kind == "truncate":
        path.write_bytes(content[: rng.randrange(len(content) + 1)])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "swap":
        other = rng.choice(paths)
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)
        kind = f"swap with {other.relative_to(run_dir)}"
    else:
        path.unlink()
        if kind == "directory":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(path.with_name("missing"))
        elif kind == "fifo":
            os.mkfifo(path)
    return f"{kind} {path.relative_to(run_dir)}"


def weights(run_dir):
    """Return the digest of the network that `load` returns, or None if it refuses the run."""
    try:
        return digest(load(run_dir).variables)
    except InputError:
        return None


@pytest.mark.parametrize(
    "first", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in range(BLOCK, 1050, BLOCK))]
)
def test_a_damaged_run_resumes_to_the_same_bits_or_gives_one_line(
    runs, tmp_path, capfd, first, request
):
    expected, digest = outcome(runs / "finished"), weights(runs / "finished")
    number = BLOCK if first or request.config.option.markexpr == "slow" else 10
    for seed in range(first, first + number):
        rng, run_dir = random.Random(seed), tmp_path / str(seed)
        kind = rng.choice(("finished", "interrupted"))
        shutil.copytree(runs / kind, run_dir)
        what = f"seed {seed}: {kind}, {damage(run_dir, rng)}"
        capfd.readouterr()
        status = call("--run-dir", run_dir, "--resume")
        err = capfd.readouterr().err
        print(what, status, err.strip())
        assert "Traceback" not in err, what
        if status == 0:
            assert outcome(run_dir) == expected, what
            assert weights(run_dir) in (digest, None), what
        else:
            assert status in (1, 2), what
            (line,) = (line for line in err.splitlines() if not line.startswith("warning: "))
            assert line.startswith("error: "), what
            assert "--debug" not in line, f"{what}: {line}"
        for path in run_dir.rglob("*"):  # pytest cannot delete these
            if stat.S_ISFIFO(path.lstat().st_mode):
                path.unlink()
        shutil.rmtree(run_dir)
