"""Photographs come in order, worked on by processes that end when they are not wanted any more."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import made_up_gtsrb
import numpy as np
import pytest

from fidle_jax.data import gtsrb_archives, gtsrb_photos
from fidle_jax.data.gtsrb_photos import each_photo
from fidle_jax.errors import InputError

PARENT = """
import sys, types
from pathlib import Path
sys.path.insert(0, {here!r})
import made_up_gtsrb
from fidle_jax.data import gtsrb_photos
made_up_gtsrb.install(types.SimpleNamespace(setattr=setattr))
gtsrb_photos.CHUNK = 4

def process(pixels):
    import os
    return os.getpid()

photos = gtsrb_photos.each_photo(Path({archives!r}), "train", process, title="")
print(*{{next(photos)[1] for _ in range(8)}}, flush=True)
sys.stdin.read()
"""


def test_every_photograph_comes_in_order_whatever_the_chunks(made_up_signs, monkeypatch):
    monkeypatch.setattr(gtsrb_photos, "CHUNK", 7)
    photos, sums = zip(*each_photo(made_up_signs, "train", np.sum, title=""), strict=True)
    assert photos == tuple(gtsrb_archives.read_photos(made_up_signs, "train"))
    assert sums[30] == made_up_gtsrb.image((1, 0, 0)).sum()


def test_one_that_is_left_half_way_is_ended_without_a_warning(made_up_signs, monkeypatch, recwarn):
    monkeypatch.setattr(gtsrb_photos, "CHUNK", 4)
    photos = each_photo(made_up_signs, "train", np.sum, title="")
    next(photos)
    photos.close()
    assert len(list(each_photo(made_up_signs, "test", np.sum, title=""))) == 3
    assert [str(warning.message) for warning in recwarn if warning.category is UserWarning] == []


def _die(pixels):
    os._exit(1)


def test_a_process_that_is_killed_is_said_in_one_line(made_up_signs):
    with pytest.raises(InputError, match="was killed, perhaps for want of memory; run again"):
        list(each_photo(made_up_signs, "train", _die, title=""))
    assert len(list(each_photo(made_up_signs, "test", np.sum, title=""))) == 3


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="no /proc that tells of processes"
)
def test_processes_end_soon_after_a_parent_that_is_killed(made_up_signs):
    code = PARENT.format(here=str(Path(__file__).parent), archives=str(made_up_signs))
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    workers = parent.stdout.readline().split()
    assert workers
    assert all(_runs(pid) for pid in workers)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while any(_runs(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_runs(pid) for pid in workers)


def _runs(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
