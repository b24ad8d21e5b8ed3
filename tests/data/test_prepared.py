"""Data sets are prepared completely or not at all, and read back exactly."""

import functools
import multiprocessing
import os
import resource
import socket
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from fidle_jax.data import prepared
from fidle_jax.errors import InputError

COUNT = 22
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 2, 1), np.uint8)
LABELS = np.arange(COUNT, dtype=np.int32) % 3
spawn = multiprocessing.get_context("spawn")


class TinySet(prepared.RawBuilder):
    def _info(self):
        return self.raw_info((3, 2, 1), 3, "track")


def examples(split):
    for index, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        yield {"image": image, "label": int(label), "track": index // 4}


def tiny_builder(data_dir):
    return prepared.open_builder(TinySet, "the tiny set", data_dir)


def prepare_tiny(data_dir, examples=examples):
    open_ = functools.partial(tiny_builder, data_dir)
    prepared.write_set(open_, "the tiny set", Path, lambda _, split: examples(split))
    return tiny_builder(data_dir)


def load_tiny(data_dir, **options):
    return prepared.make_dataset(
        lambda: prepare_tiny(data_dir),
        "the tiny set",
        name="tiny",
        class_names=("a", "b", "c"),
        image_shape=(3, 2, 1),
        train_examples=COUNT,
        test_examples=COUNT,
        **options,
    )


def folder_of(data_dir):
    return data_dir / "tiny_set" / "1.0.0"


def states(folder):
    return sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))


@pytest.mark.parametrize("group", [None, "track"])
def test_prepared_data_is_read_back_from_memory_and_from_disk(tmp_path, group):
    tiny = load_tiny(tmp_path, group=group)
    rows = np.array([21, 3, 3, 0])
    for split in ("train", "test"):
        read, opened = tiny.read(split), tiny.open(split)
        np.testing.assert_array_equal(read.images, IMAGES)
        np.testing.assert_array_equal(opened.read_images(rows), IMAGES[rows])
        for content in (read, opened):
            np.testing.assert_array_equal(content.labels, LABELS)
            if group and split == "train":
                np.testing.assert_array_equal(content.groups, np.arange(COUNT) // 4)
            else:
                assert content.groups is None


def test_splits_that_differ_from_what_was_prepared_are_not_read(tmp_path):
    tiny = load_tiny(tmp_path, is_intact=lambda split, content: content.labels[0] == 1)
    for get in (tiny.read, tiny.open):
        with pytest.raises(InputError, match=r"the tiny set as prepared in .* is damaged"):
            get("train")


def _records(folder):
    return folder / "tiny_set-train.array_record-00000-of-00001"


def _flip_a_bit(folder):
    content = bytearray(_records(folder).read_bytes())
    content[len(content) // 2] ^= 1
    _records(folder).write_bytes(content)


DAMAGES = {
    "a flipped bit": _flip_a_bit,
    "truncated": lambda folder: os.truncate(_records(folder), 100),
    "missing": lambda folder: _records(folder).unlink(),
    "broken info": lambda folder: (folder / "dataset_info.json").write_text("{"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_prepared_data_is_named_and_not_read(tmp_path, damage):
    prepare_tiny(tmp_path)
    folder = folder_of(tmp_path)
    DAMAGES[damage](folder)
    for get in (load_tiny(tmp_path).read, load_tiny(tmp_path).open):
        with pytest.raises(InputError, match=f"{folder} is damaged; delete that folder and run"):
            get("train")


def test_damage_after_opening_is_named(tmp_path, monkeypatch):
    opened = load_tiny(tmp_path).open("train")
    parse = Mock(side_effect=ValueError("corrupt\nchunk"))
    monkeypatch.setattr(prepared.tf_example_pb2.Example, "FromString", parse)
    with pytest.raises(InputError, match=f"{folder_of(tmp_path)} is damaged"):
        opened.read_images(np.arange(COUNT))


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("Could not allocate bytes object!")], ids=repr
)
def test_lack_of_memory_is_not_reported_as_damage(tmp_path, monkeypatch, error):
    tiny = load_tiny(tmp_path)
    prepare_tiny(tmp_path)
    monkeypatch.setattr(prepared._Records, "read", Mock(side_effect=error))
    with pytest.raises(InputError, match=r"tiny set does not fit .* memory.*; use --loader stream"):
        tiny.read("train")


def test_preparing_is_silent_without_a_terminal_and_a_second_time_changes_nothing(tmp_path, capfd):
    prepare_tiny(tmp_path)
    before = states(tmp_path / "tiny_set")
    prepare_tiny(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert states(tmp_path / "tiny_set") == before


def test_an_unusable_data_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/data.* another folder with --data-dir"):
        prepare_tiny(tmp_path / "file" / "data")


def _prepare_slowly(data_dir, pipe, seconds):
    def slow_examples(split):
        for index, example in enumerate(examples(split)):
            if split == "train" and index == 10:
                pipe.send("half-way")
                time.sleep(seconds)
            yield example

    prepare_tiny(data_dir, slow_examples)


def _start_slowly(data_dir, seconds):
    """Start to prepare in another process and return it half-way."""
    here, there = spawn.Pipe()
    process = spawn.Process(target=_prepare_slowly, args=(data_dir, there, seconds))
    process.start()
    assert here.recv() == "half-way"
    return process


def test_a_preparation_killed_half_way_starts_again(tmp_path):
    process = _start_slowly(tmp_path, seconds=60)
    process.kill()
    process.join()
    folder = tmp_path / "tiny_set"
    assert [path.name.split(".")[0] for path in folder.iterdir()] == ["incomplete"]
    assert not prepared.is_prepared(tiny_builder(tmp_path))
    assert len(load_tiny(tmp_path).read("train").labels) == COUNT
    assert [path.name for path in folder.iterdir()] == ["1.0.0"]


def test_concurrent_processes_wait_for_the_first_preparation(tmp_path):
    first = _start_slowly(tmp_path, seconds=0.5)
    unused = Mock(side_effect=AssertionError("prepared twice"))
    prepare_tiny(tmp_path, unused)
    first.join()
    assert first.exitcode == 0
    assert [path.name for path in (tmp_path / "tiny_set").iterdir()] == ["1.0.0"]


def _prepare_on_a_full_disk(data_dir, pipe):
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
    try:
        prepare_tiny(data_dir)
    except InputError as error:
        pipe.send(str(error))


def test_a_full_disk_is_named_and_nothing_counts_as_prepared(tmp_path):
    here, there = spawn.Pipe()
    process = spawn.Process(target=_prepare_on_a_full_disk, args=(tmp_path, there))
    process.start()
    there.close()
    message = here.recv()
    assert message.startswith(f"the tiny set cannot be prepared in {tmp_path / 'tiny_set'} (")
    assert "File too large" in message
    assert message.endswith("free some space, or choose another folder with --data-dir")
    process.join()
    assert not prepared.is_prepared(tiny_builder(tmp_path))


def test_files_are_downloaded_once_and_only_with_the_right_checksum(tmp_path, serve):
    served = tmp_path / "served"
    served.mkdir()
    (served / "a.zip").write_bytes(b"abc")
    url = serve(served)
    right, wrong = f"md5:{'900150983cd24fb0d6963f7d28e17f72'}", f"md5:{'0' * 32}"
    with pytest.raises(
        InputError, match=r"The set could not be downloaded \(.*--archives DIR"
    ) as e:
        prepared.download("The set", "set", url, {"a.zip": wrong}, tmp_path)
    assert "\n" not in str(e.value)
    folder = prepared.download("The set", "set", url, {"a.zip": right}, tmp_path)
    assert folder == tmp_path / "downloads" / "set"
    assert (folder / "a.zip").read_bytes() == b"abc"
    (served / "a.zip").unlink()
    prepared.download("The set", "set", url, {"a.zip": right}, tmp_path)


def test_a_url_is_reachable_if_its_file_exists(tmp_path, serve):
    (tmp_path / "there").touch()
    url = serve(tmp_path)
    assert prepared.reachable(f"{url}there")
    assert not prepared.reachable(f"{url}gone")


def _hang(*args, **kwargs):
    time.sleep(30)
    raise socket.gaierror


def test_servers_and_name_lookups_that_hang_are_given_up_in_time(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        assert not prepared.reachable(f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=0.3)
        monkeypatch.setattr(socket, "getaddrinfo", _hang)
        assert not prepared.reachable("https://storage.googleapis.com", seconds=0.3)
        assert time.monotonic() - start < 3
