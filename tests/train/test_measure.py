"""What a run costs is measured, and a trace of its steps can be had."""

import gzip
import json
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import psutil

from fidle_jax.train.measure import free_memory_bytes, peak_memory_bytes, trace


def test_the_peak_holds_what_was_held():
    held = jnp.ones(50_000_000, jnp.uint8).block_until_ready()
    assert peak_memory_bytes() > held.nbytes


def _device(limit, in_use):
    stats = {"bytes_limit": limit, "bytes_in_use": in_use}
    return Mock(spec=jax.Device, memory_stats=lambda: stats)


def test_devices_without_memory_of_their_own_share_the_machines():
    (one,) = jax.devices("cpu")[:1]
    alone, shared = free_memory_bytes([one]), free_memory_bytes([one] * 4)
    assert 0 < alone <= psutil.virtual_memory().total
    assert 3 * shared < alone < 5 * shared


def test_of_devices_with_memory_of_their_own_the_fullest_counts():
    assert free_memory_bytes([_device(1000, 100), _device(1000, 300)]) == 700
    assert free_memory_bytes([_device(10**15, 0)]) <= psutil.virtual_memory().total


def test_a_trace_can_be_opened_by_tensorboard_and_by_perfetto(tmp_path):
    with trace(tmp_path / "profile"):
        jnp.ones(3).block_until_ready()
    (folder,) = (tmp_path / "profile" / "plugins" / "profile").iterdir()
    assert list(folder.glob("*.xplane.pb"))
    with gzip.open(folder / "perfetto_trace.json.gz") as file:
        assert json.load(file)["traceEvents"]


def test_no_trace_writes_nothing(tmp_path):
    with trace(None):
        jnp.ones(3).block_until_ready()
    assert not list(tmp_path.iterdir())
