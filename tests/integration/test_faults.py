"""Faults during a run: a full disk, a loss that diverges."""

import subprocess

import pytest

from tests.integration.processes import EXPERIMENT, FLAGS, finish, start


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
