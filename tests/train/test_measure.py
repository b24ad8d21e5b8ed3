"""What a run costs is measured, and a trace of its steps can be had."""

import gzip
import json

import jax.numpy as jnp

from fidle_jax.train.measure import peak_memory_bytes, trace


def test_the_peak_holds_what_was_held():
    held = jnp.ones(50_000_000, jnp.uint8).block_until_ready()
    assert peak_memory_bytes() > held.nbytes


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
