import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import made_up_mnist
import numpy as np
import pytest

from fidle_jax.data import Split, load_dataset, mnist
from fidle_jax.errors import InputError

OFFICIAL = os.environ.get("FIDLE_JAX_ARCHIVES")
needs_official_archives = pytest.mark.skipif(
    OFFICIAL is None, reason="FIDLE_JAX_ARCHIVES names no archives folder"
)
SUBPROCESS = """
import sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
import made_up_mnist
from fidle_jax.data import mnist
archives, data_dir = Path({archives!r}), Path({data_dir!r})
made_up_mnist.install(archives)
"""
PAUSE_HALF_WAY = """
write = mnist.FidleMnist._generate_examples
def write_and_hang(self, images, labels):
    yield from write(self, images[:10], labels[:10])
    print("half-way", file=sys.__stdout__, flush=True)
    time.sleep({seconds})
    for index, example in write(self, images[10:], labels[10:]):
        yield index + 10, example
mnist.FidleMnist._generate_examples = write_and_hang
"""
PREPARE = "mnist.prepare(data_dir, archives)\n"


def _python(body, archives, data_dir):
    setting = SUBPROCESS.format(
        here=str(Path(__file__).parent), archives=str(archives), data_dir=str(data_dir)
    )
    return subprocess.Popen(
        [sys.executable, "-c", setting + body],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_was_prepared_is_read_back_in_the_order_of_the_archives(made_up, tmp_path):
    mnist.prepare(tmp_path, made_up)
    digits = mnist.load_mnist(tmp_path)
    assert (digits.train_examples, digits.test_examples) == (60, 20)
    for split in "train", "test":
        images, labels = made_up_mnist.arrays(split)
        read = digits.read(split)
        assert (read.images == images[..., None]).all()
        assert (read.labels == labels).all()
        assert (read.images.dtype, read.labels.dtype) == (np.uint8, np.int32)


def test_parts_are_the_whole_when_put_together_and_are_checked_then(made_up, tmp_path):
    mnist.prepare(tmp_path, made_up)
    digits = mnist.load_mnist(tmp_path)
    parts = [digits.read("train", (index, 7)) for index in range(7)]
    assert [len(part.labels) for part in parts] == [9] * 6 + [6]
    images, labels = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "labels")
    )
    whole = digits.read("train")
    assert (images == whole.images).all()
    assert (labels == whole.labels).all()
    digits.check("train", Split(images, labels))
    with pytest.raises(InputError, match="is damaged"):
        digits.check("train", Split(images, labels[::-1]))


def test_images_are_read_one_by_one_where_the_set_is_opened(made_up, tmp_path):
    digits = mnist.load_mnist(tmp_path, made_up)
    images, labels = made_up_mnist.arrays("train")
    opened = digits.open("train")
    assert (opened.labels == labels).all()
    rows = np.array([59, 3, 3, 0])
    assert (opened.read_images(rows) == images[rows][..., None]).all()
    part = digits.open("train", (1, 7))
    assert (part.labels == labels[9:18]).all()
    assert (part.read_images(rows) == opened.read_images(rows)).all()


def test_what_goes_bad_once_it_is_open_is_named(made_up, tmp_path, monkeypatch):
    opened = mnist.load_mnist(tmp_path, made_up).open("train")
    folder = tmp_path / "fidle_mnist" / "1.0.0"
    monkeypatch.setattr(mnist.prepared, "_decode", Mock(side_effect=ValueError("corrupt\nchunk")))
    with pytest.raises(InputError, match=f"{folder} is damaged; delete that folder and run again"):
        opened.read_images(np.arange(60))


def test_a_lack_of_memory_is_no_damage(made_up, tmp_path, monkeypatch):
    digits = mnist.load_mnist(tmp_path, made_up)
    digits.open("train")
    for error in MemoryError(), RuntimeError("Could not allocate bytes object!"):
        monkeypatch.setattr(mnist.prepared, "raw_source", Mock(side_effect=error))
        with pytest.raises(InputError, match=r"MNIST does not fit .* memory; give --loader stream"):
            digits.read("train")


def test_preparing_says_nothing_where_no_terminal_looks(made_up, tmp_path, capfd):
    mnist.prepare(tmp_path, made_up)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_preparing_twice_changes_nothing(made_up, tmp_path):
    mnist.prepare(tmp_path, made_up)
    before = [(path, path.stat().st_mtime_ns) for path in _files(tmp_path / "fidle_mnist")]
    mnist.prepare(tmp_path, made_up)
    after = [(path, path.stat().st_mtime_ns) for path in _files(tmp_path / "fidle_mnist")]
    assert before == after


def test_a_preparation_killed_half_way_starts_over_cleanly(made_up, tmp_path):
    data_dir = tmp_path / "data"
    process = _python(PAUSE_HALF_WAY.format(seconds=60) + PREPARE, made_up, data_dir)
    assert process.stdout.readline() == "half-way\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [path.name.split(".")[0] for path in (data_dir / "fidle_mnist").iterdir()] == [
        "incomplete"
    ]
    assert not mnist.is_prepared(data_dir)

    mnist.prepare(data_dir, made_up)
    assert [path.name for path in (data_dir / "fidle_mnist").iterdir()] == ["1.0.0"]
    assert (mnist.load_mnist(data_dir).read("test").labels == made_up_mnist.arrays("test")[1]).all()


def test_a_process_that_would_prepare_as_well_waits_for_the_first(made_up, tmp_path):
    data_dir = tmp_path / "data"
    first = _python(PAUSE_HALF_WAY.format(seconds=0.5) + PREPARE, made_up, data_dir)
    assert first.stdout.readline() == "half-way\n"
    mnist.prepare(data_dir, made_up)
    assert first.wait() == 0, first.stderr.read()
    assert [path.name for path in (data_dir / "fidle_mnist").iterdir()] == ["1.0.0"]
    assert len(mnist.load_mnist(data_dir).read("train").labels) == 60


def test_a_disk_that_takes_no_more_is_named_and_nothing_counts_as_prepared(made_up, tmp_path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
    process = _python(limit + PREPARE, made_up, tmp_path / "data")
    last_line = process.communicate()[1].splitlines()[-1]
    assert "InputError: MNIST cannot be prepared in" in last_line
    assert "File too large" in last_line
    assert last_line.endswith("make room there, or name another folder with --data-dir")
    assert not mnist.is_prepared(tmp_path / "data")


def test_the_archives_are_downloaded_where_none_are_given(made_up, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    handler = partial(_SilentHandler, directory=made_up)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        made_up_mnist.install(made_up, url, setattr=monkeypatch.setattr)
        digits = load_dataset("mnist", data_dir=tmp_path / "data")
        train = digits.read("train")
        server.shutdown()
    assert digits.variant == "full"
    assert (train.labels == made_up_mnist.arrays("train")[1]).all()


def test_a_download_with_the_wrong_checksum_is_refused(made_up, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    served = shutil.copytree(made_up, tmp_path / "served")
    (served / "train-labels-idx1-ubyte.gz").write_bytes(b"a login page")
    handler = partial(_SilentHandler, directory=served)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        made_up_mnist.install(made_up, url, setattr=monkeypatch.setattr)
        with pytest.raises(InputError, match=r"could not be downloaded \(.*wrong checksum"):
            load_dataset("mnist", data_dir=tmp_path / "data").read("train")
        server.shutdown()
    assert not mnist.is_prepared(tmp_path / "data")


class _SilentHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def _flip_a_pixel(folder):
    path = folder / "fidle_mnist-train.array_record-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _truncate(folder):
    os.truncate(folder / "fidle_mnist-train.array_record-00000-of-00001", 100)


def _remove_records(folder):
    (folder / "fidle_mnist-train.array_record-00000-of-00001").unlink()


def _break_the_info(folder):
    (folder / "dataset_info.json").write_text("{")


@pytest.mark.parametrize("damage", [_flip_a_pixel, _truncate, _remove_records, _break_the_info])
def test_damaged_prepared_data_is_named_and_not_read(made_up, tmp_path, damage):
    mnist.prepare(tmp_path, made_up)
    folder = tmp_path / "fidle_mnist" / "1.0.0"
    damage(folder)
    for get in mnist.load_mnist(tmp_path).read, mnist.load_mnist(tmp_path).open:
        with pytest.raises(InputError, match=f"{folder} is damaged; delete that folder and run"):
            get("train")


def test_data_prepared_from_other_digits_is_not_read(made_up, tmp_path, monkeypatch):
    mnist.prepare(tmp_path, made_up)
    monkeypatch.setattr(mnist, "_SHA256", {"train": "0" * 64, "test": "0" * 64})
    for get in mnist.load_mnist(tmp_path).read, mnist.load_mnist(tmp_path).open:
        with pytest.raises(InputError, match="is damaged"):
            get("test")


@needs_official_archives
def test_the_official_set_is_prepared_and_read(tmp_path):
    digits = load_dataset("mnist", archives=Path(OFFICIAL), data_dir=tmp_path)
    train, test = digits.read("train"), digits.read("test")
    assert train.images.shape == (60_000, 28, 28, 1)
    assert test.images.shape == (10_000, 28, 28, 1)
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(test.labels).tolist() == counts
