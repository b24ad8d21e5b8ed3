"""Tests that any number of devices, with jit or pmap, has the same result."""

from unittest.mock import Mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import psutil
import pytest
from jax.sharding import Mesh

from fidle_jax.errors import InputError
from fidle_jax.train.parallel import (
    cgroup_free_bytes,
    free_memory_bytes,
    local_positions,
    make_mesh,
    peak_memory_bytes,
)
from tests.train.scripts import read, start, start_two

ALONE = "jit:1:1"
FEW = ("jit:2:1", "pmap:4:3")  # strategy, devices, micro-batches
TWO_PROCESSES = ("jit:2:1", "pmap:2:1")  # of four devices in all
ALL = tuple(
    f"{how}:{n}:{parts}" for how in ("jit", "pmap") for n in (1, 2, 4, 8) for parts in (1, 3)
)


# Each program runs only three times: use a small network, and compile without optimization.
QUICK = {"SPREAD_SMALL": "1", "XLA_FLAGS": "--xla_backend_optimization_level=0"}


def _spread(folder, cases, **environment):
    """Return what `spread.py` writes, by case and then by name."""
    output = folder / "spread.npz"
    devices = max(int(case.split(":")[1]) for case in cases)
    assert start("spread.py", output, *cases, devices=devices, **environment).wait() == 0
    return read(output, cases)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return _spread(tmp_path_factory.mktemp("few"), (ALONE, *FEW), **QUICK)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """Return what each of two processes with two devices writes."""
    return start_two("spread.py", tmp_path_factory.mktemp("two"), TWO_PROCESSES, 2, **QUICK)


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    return _spread(tmp_path_factory.mktemp("all"), ALL)


def _of(outcome, what):
    return {name: array for name, array in outcome.items() if name.startswith(what)}


def _check(outcomes, case):
    """Compare a run on several devices with the run on one."""
    _compare(outcomes[case], outcomes[ALONE])


def _compare(ours, alone):
    assert ours["examples"] == 1100
    if "seen" in ours:
        # The augmented examples and dropout masks of the last batch are the same bits.
        np.testing.assert_array_equal(ours["seen"], alone["seen"])
        assert len(np.unique(alone["seen"][:100, -16:])) == 2
    chex.assert_trees_all_close(_of(ours, "gradient"), _of(alone, "gradient"), atol=1e-6, rtol=0)
    # Adam takes a full step even if the gradient is almost zero.
    chex.assert_trees_all_close(_of(ours, "params"), _of(alone, "params"), atol=2e-5, rtol=0)
    chex.assert_trees_all_close(_of(ours, "losses"), _of(alone, "losses"), atol=1e-3, rtol=0)
    for name, array in _of(ours, "epoch").items():
        np.testing.assert_allclose(array, alone[name], rtol=0, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("case", FEW)
def test_an_epoch_is_the_same_on_any_number_of_devices(few, case):
    _check(few, case)


@pytest.mark.slow  # tests/integration/test_killed.py has a fast run in two processes
@pytest.mark.parametrize("case", TWO_PROCESSES)
def test_an_epoch_is_the_same_in_two_processes_and_both_have_the_same_bits(
    few, two_processes, case
):
    first, second = two_processes
    chex.assert_trees_all_equal(first[case], second[case])
    _compare(first[case], few[ALONE])


@pytest.mark.slow
@pytest.mark.parametrize("case", ALL)
def test_an_epoch_is_the_same_on_every_number_of_devices_with_either_strategy(every, case):
    _check(every, case)


@pytest.mark.parametrize(
    ("batch_size", "micro_batches", "devices", "shape"),
    [(512, 1, 1, (1, 512)), (500, 1, 8, (1, 504)), (3, 1, 8, (1, 8)), (500, 3, 8, (3, 168))],
)
def test_the_positions_of_a_batch_are_a_multiple_of_the_devices(
    batch_size, micro_batches, devices, shape
):
    mesh = Mock(Mesh, size=devices, devices=np.array(jax.local_devices()[:1] * devices))
    positions = local_positions(batch_size, micro_batches, mesh)
    assert positions.shape == shape
    np.testing.assert_array_equal(positions.ravel(), np.arange(positions.size))


def test_more_devices_than_exist_are_refused():
    count = jax.device_count()
    assert make_mesh(None).size == count
    with pytest.raises(
        InputError, match=f"--devices is {count + 1}; it must be at most {count}, the"
    ):
        make_mesh(count + 1)


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
