"""A set of traffic signs is prepared whole or not at all, from the published archives or copies of them."""

import hashlib
import http.server
import logging
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import made_up_gtsrb
import pytest

from fidle_jax.data import gtsrb, gtsrb_archives, gtsrb_photos
from fidle_jax.data.zip_archives import open_archive
from fidle_jax.errors import InputError

NAME = "24x24-RGB"
MEMBER = "GTSRB/Final_Training/Images/00001/00000_00020.ppm"
TABLE = "GTSRB/Final_Training/Images/00001/GT-00001.csv"
SUBPROCESS = """
import sys, time, types
from pathlib import Path
sys.path.insert(0, {here!r})
import made_up_gtsrb
from fidle_jax.data import gtsrb
made_up_gtsrb.install(types.SimpleNamespace(setattr=setattr))
"""
PAUSE_HALF_WAY = """
whole = gtsrb.each_photo
def each_photo(*args, **settings):
    for number, photo in enumerate(whole(*args, **settings)):
        if number == 10:
            print("half-way", file=sys.__stdout__, flush=True)
            time.sleep({seconds})
        yield photo
gtsrb.each_photo = each_photo
"""
PREPARE = "gtsrb.prepare({name!r}, Path({data_dir!r}), Path({archives!r}))\n"


def _python(body, archives, data_dir):
    code = SUBPROCESS.format(here=str(Path(__file__).parent)) + body
    code += PREPARE.format(name=NAME, data_dir=str(data_dir), archives=str(archives))
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _left_in(data_dir):
    """What is there but the empty folders and the file in which TFDS notes where data came from."""
    files = (path for path in data_dir.rglob("*") if path.is_file())
    return [path for path in files if path.name != "metadata.json"]


def _sums(folder):
    return {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in gtsrb.MD5}


def test_reading_prepares_first_and_says_nothing_where_no_terminal_looks(
    made_up_signs, tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(gtsrb, "MD5", _sums(made_up_signs))
    assert len(gtsrb.load_gtsrb(NAME, tmp_path, made_up_signs).read("test").labels) == 3
    assert capfd.readouterr() == ("", "")


def test_preparing_twice_changes_nothing(made_up_signs, tmp_path):
    gtsrb.prepare(NAME, tmp_path, made_up_signs)
    before = [(path, path.stat().st_mtime_ns) for path in _left_in(tmp_path / "fidle_gtsrb")]
    gtsrb.prepare(NAME, tmp_path, None)
    assert before == [
        (path, path.stat().st_mtime_ns) for path in _left_in(tmp_path / "fidle_gtsrb")
    ]


def test_a_preparation_killed_half_way_starts_over_cleanly(made_up_signs, tmp_path):
    data_dir = tmp_path / "data"
    process = _python(PAUSE_HALF_WAY.format(seconds=60), made_up_signs, data_dir)
    assert process.stdout.readline() == "half-way\n", process.stderr.read()
    process.send_signal(signal.SIGKILL)
    process.wait()
    folder = data_dir / "fidle_gtsrb" / NAME
    assert [path.name.split(".")[0] for path in folder.iterdir()] == ["incomplete"]
    assert not gtsrb.is_prepared(NAME, data_dir)

    gtsrb.prepare(NAME, data_dir, made_up_signs)
    assert [path.name for path in folder.iterdir()] == ["1.0.0"]
    assert gtsrb.load_gtsrb(NAME, data_dir).read("test").labels.tolist() == [0, 0, 1]


def test_a_process_that_would_prepare_as_well_waits_for_the_first(made_up_signs, tmp_path):
    data_dir = tmp_path / "data"
    first = _python(PAUSE_HALF_WAY.format(seconds=0.5), made_up_signs, data_dir)
    assert first.stdout.readline() == "half-way\n", first.stderr.read()
    gtsrb.prepare(NAME, data_dir, made_up_signs)
    assert first.wait() == 0, first.stderr.read()
    assert [path.name for path in (data_dir / "fidle_gtsrb" / NAME).iterdir()] == ["1.0.0"]


def test_a_disk_that_takes_no_more_is_named_and_nothing_counts_as_prepared(made_up_signs, tmp_path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
    last_line = _python(limit, made_up_signs, tmp_path / "data").communicate()[1].splitlines()[-1]
    assert f"InputError: GTSRB {NAME} cannot be prepared in" in last_line
    assert "File too large" in last_line
    assert last_line.endswith("make room there, or name another folder with --data-dir")
    assert not gtsrb.is_prepared(NAME, tmp_path / "data")


def test_copies_are_warned_of_in_one_line_and_the_published_files_are_not(
    made_up_signs, tmp_path, monkeypatch, caplog
):
    assert gtsrb.find_archives(made_up_signs, tmp_path) == made_up_signs
    (warning,) = caplog.records
    assert (warning.name, warning.levelno) == ("fidle_jax", logging.WARNING)
    assert all(name in warning.getMessage() for name in gtsrb.MD5)
    assert "\n" not in warning.getMessage()
    caplog.clear()
    monkeypatch.setattr(gtsrb, "MD5", _sums(made_up_signs))
    gtsrb.find_archives(made_up_signs, tmp_path)
    assert caplog.records == []


class _SilentHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def served(made_up_signs, monkeypatch):
    """The folder of the archives, which the server that stands in for the official one gives out."""
    monkeypatch.setenv("NO_PROXY", "*")
    handler = partial(_SilentHandler, directory=made_up_signs)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(gtsrb, "URL", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setattr(gtsrb, "MD5", _sums(made_up_signs))
        yield made_up_signs
        server.shutdown()


def test_the_archives_are_downloaded_once_where_none_are_given(served, tmp_path, caplog):
    data_dir = tmp_path / "data"
    assert len(gtsrb.load_gtsrb(NAME, data_dir).read("train").labels) == 89
    assert caplog.records == []
    for path in served.iterdir():
        path.unlink()
    gtsrb.prepare("24x24-L", data_dir, None)


def test_a_download_with_the_wrong_checksum_is_refused(served, tmp_path):
    (served / gtsrb_archives.TEST_LABELS).write_bytes(b"a login page")
    with pytest.raises(InputError, match=r"could not be downloaded \(.*--archives DIR") as caught:
        gtsrb.load_gtsrb(NAME, tmp_path / "data").read("train")
    assert "\n" not in str(caught.value)
    assert not gtsrb.is_prepared(NAME, tmp_path / "data")


def _damage(folder):
    """Other bytes where the member's are: its checksum does not hold."""
    path = folder / gtsrb_archives.TRAIN_IMAGES
    with open_archive(path) as archive:
        start = archive.getinfo(MEMBER).header_offset + 30 + len(MEMBER)
    content = bytearray(path.read_bytes())
    content[start + 50 : start + 60] = bytes(10)
    path.write_bytes(content)


def _rewrite(change):
    def damage(folder):
        members = made_up_gtsrb.members()
        change(members[gtsrb_archives.TRAIN_IMAGES])
        made_up_gtsrb.write(folder, members)

    return damage


FAULTS = {
    "damaged": (_damage, rf"{MEMBER} is damaged"),
    "no image": (_rewrite(lambda m: m.update({MEMBER: b"text"})), rf"{MEMBER} is no whole PPM"),
    "gone": (_rewrite(lambda m: m.pop(MEMBER)), rf"{MEMBER} is not there"),
    "no table": (_rewrite(lambda m: m.pop(TABLE)), "0 images of class 1, track 0, expected 30"),
    "outside": (_rewrite(lambda m: m.update({"../x": b""})), "leads out of it"),
    "cut off": (
        lambda folder: os.truncate(folder / gtsrb_archives.TRAIN_IMAGES, 5000),
        "truncated, or no zip file",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_archives_is_one_line_and_nothing_is_left(
    made_up_signs, tmp_path, monkeypatch, fault
):
    damage, named = FAULTS[fault]
    damage(made_up_signs)
    monkeypatch.setattr(gtsrb_photos, "CHUNK", 4)  # so that work is given out as results come in
    with pytest.raises(InputError, match=named) as caught:
        gtsrb.prepare(NAME, tmp_path / "data", made_up_signs)
    assert str(made_up_signs / gtsrb_archives.TRAIN_IMAGES) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not gtsrb.is_prepared(NAME, tmp_path / "data")
    assert _left_in(tmp_path / "data") == []
