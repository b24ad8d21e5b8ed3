"""Tests that checkpoints are restored bit for bit, or recognized as damaged."""

import logging
import os

import chex
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from fidle_jax.errors import InputError
from fidle_jax.train.checkpoints import MAX_TO_KEEP, Checkpoints, read_step

BEST = {"params": {"kernel": jnp.arange(3.0)}}
FACTS = {"rows": [{"epoch": 1, "loss": 0.1 + 0.2}], "best_accuracy": None}


def state(step):
    rng = np.random.default_rng(step)
    weights = jnp.asarray(rng.normal(size=(50, 70)), jnp.float32)
    return {"weights": weights, "seed": jnp.uint32(7), "step": jnp.int32(step), "none": None}


@pytest.fixture
def checkpoints(tmp_path):
    made = Checkpoints(tmp_path / "checkpoints")
    yield made
    made.close()


def save(checkpoints, *steps):
    for step in steps:
        checkpoints.save(step, state(step), BEST, FACTS)
    checkpoints.wait()


def damage(directory, step):
    """Flip bits of a byte in the middle of the largest file of the state."""
    files = [path for path in (directory / str(step) / "state").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 0x10
    largest.write_bytes(content)


def test_the_newest_checkpoint_is_restored_bit_for_bit(checkpoints):
    save(checkpoints, 3, 9)
    restored, best, facts = checkpoints.restore(state(0), BEST)
    chex.assert_trees_all_equal(restored, state(9))
    chex.assert_trees_all_equal(best, BEST)
    assert facts == FACTS


def test_without_checkpoints_nothing_is_restored(checkpoints):
    assert checkpoints.restore(state(0), BEST) is None


def test_only_the_last_checkpoints_are_kept(checkpoints, tmp_path):
    save(checkpoints, *range(1, MAX_TO_KEEP + 4))
    kept = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert kept == list(range(4, MAX_TO_KEEP + 4))


def test_a_damaged_checkpoint_is_renamed_with_a_warning_and_the_previous_one_used(
    checkpoints, tmp_path, caplog
):
    save(checkpoints, 3, 9)
    damage(tmp_path / "checkpoints", 9)
    with caplog.at_level(logging.WARNING, "fidle_jax"):
        restored, _, _ = checkpoints.restore(state(0), BEST)
    chex.assert_trees_all_equal(restored, state(3))
    assert "checkpoint 9 is damaged" in caplog.text
    assert (tmp_path / "checkpoints" / "damaged_9_0").is_dir()
    save(checkpoints, 9)
    chex.assert_trees_all_equal(checkpoints.restore(state(0), BEST)[0], state(9))


def test_a_missing_file_counts_as_damage(checkpoints, tmp_path):
    save(checkpoints, 3, 9)
    for path in (tmp_path / "checkpoints" / "9" / "state").rglob("manifest.ocdbt"):
        path.unlink()
    assert checkpoints.restore(state(0), BEST)[0]["step"] == 3


@pytest.mark.parametrize("name", ["facts/metadata", "_CHECKPOINT_METADATA", "state/_METADATA"])
def test_a_pipe_is_an_error_and_blocks_nothing(checkpoints, tmp_path, name):
    save(checkpoints, 3)
    path = tmp_path / "checkpoints" / "3" / name
    path.unlink()
    os.mkfifo(path)
    for open_ in (Checkpoints, lambda folder: read_step(folder, 3, state(0), BEST)):
        with pytest.raises(InputError, match="is not a regular file; delete it"):
            open_(tmp_path / "checkpoints")
    path.unlink()


def test_changed_facts_count_as_damage(checkpoints, tmp_path):
    save(checkpoints, 3, 9)
    path = tmp_path / "checkpoints" / "9" / "facts" / "metadata"
    path.write_text(path.read_text().replace('"epoch": 1', '"epoch": 2'))
    assert checkpoints.restore(state(0), BEST)[0]["step"] == 3


@pytest.mark.parametrize("bit", [1, 32])
def test_no_flipped_bit_of_the_facts_is_restored(checkpoints, tmp_path, bit):
    save(checkpoints, 9)
    path = tmp_path / "checkpoints" / "9" / "facts" / "metadata"
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[position] ^= bit
        path.write_bytes(flipped)
        try:
            restored = checkpoints.restore(state(0), BEST)
        except InputError:
            continue  # recognized as damaged
        assert restored[2] == FACTS
        path.write_bytes(content)


def test_swapped_checkpoints_count_as_damage(checkpoints, tmp_path):
    save(checkpoints, 3, 6, 9)
    third, ninth, other = (tmp_path / "checkpoints" / name for name in ("3", "9", "other"))
    third.rename(other)
    ninth.rename(third)
    other.rename(ninth)
    assert checkpoints.restore(state(0), BEST)[0]["step"] == 6


def test_facts_that_the_reader_rejects_count_as_damage(checkpoints):
    save(checkpoints, 3)

    def read_facts(rows):
        return rows

    with pytest.raises(InputError, match=r"all checkpoints .* are damaged"):
        checkpoints.restore(state(0), BEST, read_facts)


def test_if_all_checkpoints_are_damaged_the_error_says_what_to_do(checkpoints, tmp_path):
    save(checkpoints, 3)
    damage(tmp_path / "checkpoints", 3)
    with pytest.raises(InputError, match=r"all checkpoints .* are damaged; start again"):
        checkpoints.restore(state(0), BEST)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["3"]


def test_a_full_disk_raises_os_error_and_the_last_checkpoint_can_be_restored(
    checkpoints, monkeypatch
):
    save(checkpoints, 3)

    def no_space(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: Error writing file: No space left on device\nmore")

    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "save", no_space)
        with pytest.raises(OSError, match=r"cannot write a checkpoint: .*No space left on device$"):
            checkpoints.save(9, state(9), BEST, FACTS)
    assert checkpoints.restore(state(0), BEST)[0]["step"] == 3
