"""Faults of the file system: a full disk, and a kill or a full disk at each call of a save."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.processes import EXPERIMENT, FLAGS, finish, outcome, start

HERE = Path(__file__).parent
KILL, FULL = 1, 2


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """A library that makes calls of the file system fail."""
    if sys.platform != "linux" or not shutil.which("cc"):
        pytest.skip("the library of faults needs Linux and a C compiler")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, HERE / "faults.c", "-ldl"], check=True)
    return library


@pytest.mark.parametrize("fault", ["kill", "full"])
@pytest.mark.parametrize("every", [45, pytest.param(1, marks=pytest.mark.slow)])
def test_after_a_fault_in_any_call_of_a_save_a_complete_checkpoint_has_the_same_bits(
    faults, tmp_path, fault, every
):
    done = subprocess.run(
        [sys.executable, HERE / "save_faults.py", tmp_path, fault, "1", str(every)],
        capture_output=True,
        text=True,
        env=os.environ | {"LD_PRELOAD": str(faults), "FAULT_DIR": str(tmp_path / "run")},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 60  # calls


@pytest.mark.slow
@pytest.mark.parametrize("fault", [KILL, FULL])
def test_after_a_fault_in_any_part_of_a_run_it_resumes_to_the_same_bits(faults, tmp_path, fault):
    flags = [*FLAGS, "--epochs", 2]
    assert finish(start(*flags, "--run-dir", tmp_path / "undisturbed"))[0] == 0
    expected = outcome(tmp_path / "undisturbed")
    call, status = 1, None
    while status != 0:
        run_dir = tmp_path / str(call)
        variables = {"LD_PRELOAD": faults, "FAULT_DIR": run_dir}
        variables |= {"FAULT_CALL": call, "FAULT_MODE": fault}
        environment = {name: str(value) for name, value in variables.items()}
        status, _, err = finish(start(*flags, "--run-dir", run_dir, environment=environment))
        assert status in ((0, -9) if fault == KILL else (0, 1, 2)), err
        if status > 0:
            assert "No space left" in err
            assert err.count("\n") == 1
        known = ["--resume"] if (run_dir / "config.json").exists() else flags
        again, _, err = finish(start(*known, "--run-dir", run_dir))
        assert again == 0, err
        assert outcome(run_dir) == expected
        call += 41


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of 1 MiB. The first checkpoints fit, but not the whole run."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here: " + mounted.stderr.decode().strip())
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_with_the_reason_and_the_run_can_be_resumed(
    small_disk,
):
    run_dir = small_disk / "run"
    status, _, err = finish(start(*FLAGS, "--run-dir", run_dir, command=[EXPERIMENT]))
    assert status == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "space" in err.lower()
    assert any(path.name.isdigit() for path in (run_dir / "checkpoints").iterdir())
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    status, out, err = finish(start("--resume", "--run-dir", run_dir, command=[EXPERIMENT]))
    assert status == 0, err
    assert "resuming at step" in out
