"""Tests of memory measurements."""

from unittest.mock import Mock

import jax
import jax.numpy as jnp
import psutil
import pytest

from fidle_jax.train.resources import cgroup_free_bytes, free_memory_bytes, peak_memory_bytes


def test_the_peak_includes_arrays_in_use():
    held = jnp.ones(50_000_000, jnp.uint8).block_until_ready()
    assert peak_memory_bytes() > held.nbytes


def _device(limit, in_use):
    stats = {"bytes_limit": limit, "bytes_in_use": in_use}
    return Mock(spec=jax.Device, memory_stats=lambda: stats)


def test_cpu_devices_share_the_memory_of_the_host():
    (one,) = jax.devices("cpu")[:1]
    alone, shared = free_memory_bytes([one]), free_memory_bytes([one] * 4)
    assert 0 < alone <= psutil.virtual_memory().total
    assert 3 * shared < alone < 5 * shared


def test_the_fullest_device_with_its_own_memory_decides():
    assert free_memory_bytes([_device(1000, 100), _device(1000, 300)]) == 700
    assert free_memory_bytes([_device(10**15, 0)]) <= psutil.virtual_memory().total


@pytest.fixture
def groups(tmp_path):
    """``groups(line, folders)``: the free bytes, given the files of each folder."""

    def groups(line, folders):
        (tmp_path / "cgroup").write_text(line)
        for folder, files in folders.items():
            (tmp_path / "sys" / folder).mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                (tmp_path / "sys" / folder / name).write_text(content)
        return cgroup_free_bytes(tmp_path / "cgroup", tmp_path / "sys")

    return groups


def _group(limit, used, cache):
    return {
        "memory.max": f"{limit}\n",
        "memory.current": f"{used}\n",
        "memory.stat": f"anon 7\ninactive_file {cache}\n",
    }


def test_every_limit_from_the_group_to_the_root_counts(groups):
    folders = {
        "": {"memory.stat": "anon 9\n"},
        "slurm": _group(800, 300, 0),
        "slurm/job": _group("max", 50, 0),
        "slurm/job/step": _group(100, 60, 20),
    }
    assert groups("0::/slurm/job/step\n", folders) == [60, 500]


def test_a_container_sees_its_limit_at_the_root(groups):
    assert groups("0::/kubepods/pod7\n", {"": _group(100, 60, 0)}) == [40]


def test_there_are_no_limits_without_control_groups(tmp_path):
    assert cgroup_free_bytes(tmp_path / "nothing", tmp_path) == []
