"""The command line of the training experiments: help, exit statuses, and errors of one line."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fidle_jax.cli.terminal import unexpected
from fidle_jax.cli.train import main
from fidle_jax.errors import InputError
from fidle_jax.train.cache import compilation_cache_dir, enable_compilation_cache
from fidle_jax.train.config import Config
from fidle_jax.train.loop import NotFinite

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def call(capsys, monkeypatch):
    """``call(flags)`` calls mnist_dnn.py in this process: status, stdout, stderr."""
    monkeypatch.setenv("FIDLE_JAX_ARCHIVES", "")
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    # `main` sends the project's log to stderr, without propagation.
    logger = logging.getLogger("fidle_jax")
    monkeypatch.setattr(logger, "handlers", logger.handlers[:])
    monkeypatch.setattr(logger, "propagate", logger.propagate)
    absl_level = logging.getLogger("absl").level

    def call(*flags):
        words = [str(flag) for flag in flags]
        monkeypatch.setattr(sys, "argv", ["experiments/mnist_dnn.py", *words])
        with pytest.raises(SystemExit) as end:
            main("mnist_dnn", "Digits.", Config().replace(model="dnn"), words)
        return end.value.code, *capsys.readouterr()

    yield call
    logging.getLogger("absl").setLevel(absl_level)


def test_help_is_grouped_and_shows_defaults_without_importing_jax():
    done = subprocess.run(
        [sys.executable, EXPERIMENTS / "mnist_cnn.py", "--help"],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "80", "PYTHONPROFILEIMPORTTIME": "1"},
    )
    assert done.returncode == 0
    groups = ("data", "model", "optimisation", "augmentation", "run", "devices", "cluster")
    assert re.findall(r"─ (\w+) options ─", done.stdout) == list(groups)
    for flag in ("--data", "--archives", "--epochs", "--resume", "--no-progress", "--run-dir"):
        assert re.search(rf"{flag}\b", done.stdout)
    text = re.sub(r"[\s│]+", " ", done.stdout)
    assert "Examples per step. (default: set by the recipe)" in text
    assert "use the last one. (default: 0.1)" in text
    assert "course: epochs 16, batch size 512" in text
    assert not re.search(r"\| +(jax|tensorflow_datasets|orbax)$", done.stderr, re.MULTILINE)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--learning-rate", "fast"], "--learning-rate is 'fast'; it must be a number"),
        (["--learning-rate", "nan"], "--learning-rate is nan"),
        (["--learning-rate", "1e39"], "--learning-rate is 1e+39; it must be at most 3.4e+38"),
        (["--weight-decay", "1e-50"], "which is 0 in float32; it must be 0 or at least 1.2e-38"),
        (["--archives", "a" * 300], "aaa... cannot be used: File name too long; check the path"),
        (["--dropout", "0.1", "x"], "--dropout is 'x'; it must be a number"),
        (["--epochs", "-1"], "--epochs is -1; it must be at least 0"),
        (["--epochs", "1.5"], "--epochs is '1.5'; it must be a whole number"),
        (["--epochs", "٣"], "--epochs is '٣'; it must be a whole number"),
        (["--epochs", "1_0"], "--epochs is '1_0'; it must be a whole number"),
        (["--learning-rate", "1_0.5"], "--learning-rate is '1_0.5'; it must be a number"),
        (["--batch-size", "0"], "--batch-size is 0; it must be at least 1"),
        (["--epoch", "3"], "unknown flag --epoch; did you mean --epochs?"),
        (["--lr=3e-3"], "unknown flag --lr; did you mean --learning-rate?"),
        (["--bs", "64"], "unknown flag --bs; did you mean --batch-size?"),
        (["--wd", "0.1"], "unknown flag --wd; did you mean --weight-decay?"),
        (["--optim", "adam"], "unknown flag --optim; did you mean --optimizer?"),
        (["--no-progres"], "unknown flag --no-progres; did you mean --no-progress?"),
        (["--xyz"], "unknown flag --xyz; --help lists all flags"),
        (["3"], "unexpected argument '3'"),
        (["--epochs"], "--epochs has no value"),
        (["--optimizer", "adm"], "--optimizer is 'adm'; did you mean adam? (known: adam, adamw"),
        (["--schedule", "cosin"], "did you mean cosine"),
        (["--model", "cn"], "did you mean cnn"),
        (["--launch", "slrm"], "did you mean slurm"),
        (["--dataset", "mnst"], "did you mean mnist"),
        (["--resume"], "--resume needs --run-dir"),
        (["--archives", "no/such/folder"], "no/such/folder"),
        (["--data", "sample", "--batch-size", "3601"], "it must be at most 3600"),
    ],
)
def test_wrong_input_is_one_line_and_status_2_and_touches_nothing(flags, named, tmp_path, call):
    run_dir, data_dir = tmp_path / "run", tmp_path / "data"
    paths = ["--data-dir", data_dir] if "--resume" in flags else ["--run-dir", run_dir]
    # A flag that takes several values would also take what follows.
    status, _, err = call(*paths, *flags)
    assert (status, err.count("\n")) == (2, 1)
    assert named in err
    assert err.startswith("error: ")
    assert not run_dir.exists()
    assert not data_dir.exists()


def test_control_characters_are_escaped_on_every_stream_except_those_of_a_progress_bar():
    program = (
        "import sys, warnings; from fidle_jax.cli import terminal\n"
        "def body(stop):\n"
        "    print('a\\x1b]0;t\\x07\\tb\\x9b')\n"
        "    print('c\\x1b[2J', file=sys.stderr)\n"
        "    sys.stderr.write('\\r100 %\\n')\n"
        "    warnings.warn('d\\x1b[1m')\n"
        "    terminal._styled(sys.stderr).write('\\x9b\\x1b[2K')\n"
        "terminal.exit_with(body)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert (done.returncode, done.stdout.decode()) == (0, "a\\x1b]0;t\\x07\tb\\x9b\n")
    assert b"c\\x1b[2J\n\r100 %\n" in done.stderr
    assert b"d\\x1b[1m" in done.stderr
    assert done.stderr.count(b"\x1b") == 1
    assert done.stderr.endswith(b"\\x9b\x1b[2K")


def test_a_compilation_cache_with_a_name_that_is_not_utf_8_is_an_error(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/tmp/caf\udce9")
    with pytest.raises(InputError, match="has a name that is not UTF-8; set JAX_COMP"):
        enable_compilation_cache()


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("XLA_FLAGS", "unset XLA_FLAGS, if they may be the reason"),
        ("OTHER", "add --debug to see where"),
    ],
)
def test_an_unforeseen_error_has_one_piece_of_advice(monkeypatch, variable, expected):
    for name in list(os.environ):
        if name.startswith(("JAX_", "XLA_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv(variable, "x")
    assert str(unexpected(KeyError("a"))) == f"KeyError 'a'; {expected}"


def test_a_loss_that_is_not_finite_is_one_line_and_status_1(monkeypatch, tmp_path, call):
    def run(*_):
        raise NotFinite("the loss", 3)

    monkeypatch.setattr("fidle_jax.inference.interface.run", run)
    status, _, err = call("--run-dir", tmp_path / "run")
    assert (status, err.count("\n")) == (1, 1)
    assert err.startswith("error: the loss is not finite at step 3; ")


def test_debug_shows_the_traceback(call):
    status, _, err = call("--epochs", "-1", "--debug")
    assert status == 2
    assert "Traceback" in err


def test_a_local_job_shows_the_output_of_its_run_and_has_its_status(tmp_path):
    flags = ("--launch", "local", "--data", "sample", "--dropout", "0.1")
    done = subprocess.run(
        [sys.executable, EXPERIMENTS / "mnist_cnn.py", *flags, "--run-dir", tmp_path / "run"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: dropout 0.1 does not fit")
    assert done.stdout.startswith("job ")


def _catches(pid, number):
    """Return true if the process handles the signal, according to Linux."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)[1], 16)
    return caught >> (number - 1) & 1


def _has_loaded(pid, library):
    return library in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc that lists signals")
@pytest.mark.parametrize("loaded", ["", "jaxlib"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_is_one_line_and_status_130(number, loaded, tmp_path):
    process = subprocess.Popen(
        [sys.executable, EXPERIMENTS / "mnist_cnn.py", "--run-dir", tmp_path / "run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not _catches(process.pid, signal.SIGTERM) or not _has_loaded(process.pid, loaded):
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "interrupted before the run began"
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_a_run_shows_its_phases_and_its_result(tmp_path, call):
    run_dir = tmp_path / "run"
    flags = ("--data", "sample", "--epochs", 1, "--batch-size", 300, "--run-dir", run_dir)
    status, out, err = call(*flags, "--seed", 5)
    assert status == 0, err
    compiling, testing, drawing = err.splitlines()
    assert compiling.startswith("compiling (about 30 s the first time; cached in ")
    assert (testing, drawing) == ("testing on 1,000 images", "drawing the report")
    result = json.loads((run_dir / "result.json").read_text())
    last = out.strip().splitlines()[-1]
    assert f"test accuracy {100 * result['test_accuracy']:.2f} %" in last
    assert "recipe: sample" in out
    command = json.loads((run_dir / "config.json").read_text())["command"]
    assert command.startswith("python experiments/mnist_dnn.py --data sample")
    assert command.endswith("--seed 5")
    assert (run_dir / "report.html").exists()

    status, _, err = call("--run-dir", run_dir, "--data", "sample")
    assert (status, err.count("\n")) == (2, 1)
    assert "another run" in err
    status, _, err = call("--run-dir", run_dir, "--resume", "--seed", 6)
    assert status == 2
    assert "--seed 6 (the run has 5)" in err
    status, out, err = call("--run-dir", run_dir, "--resume")
    assert (status, err) == (0, "")
    assert out.strip().splitlines()[-1] == last

    # If a run was killed while its report was drawn, resuming it draws the report.
    (run_dir / "report.html").unlink()
    status, _, err = call("--run-dir", run_dir, "--resume", "--no-progress")
    assert (status, err) == (0, "")
    assert (run_dir / "report.html").exists()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the cores are unknown here")
def test_the_compilation_cache_depends_on_the_number_of_cores(monkeypatch):
    directories = set()
    for cores in ({0}, {1}, {0, 1}):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: cores)
        directories.add(compilation_cache_dir())
    assert len(directories) == 2
