"""Save checkpoints with faults of `faults.c`: ``python save_faults.py FOLDER kill|full FIRST EVERY``.

For the calls FIRST, FIRST + EVERY, ... of the second save, this program kills a process, or fills the disk.
It then restores, and checks the bits. It prints the number of calls.
"""

import ctypes
import logging
import os
import shutil
import sys
from pathlib import Path

import numpy as np

from fidle_jax.train.checkpoints import Checkpoints

faults = ctypes.CDLL(None)
KILL, FULL = 1, 2


def state_of(step):
    """Return a state and the best variables of a step."""
    rng = np.random.default_rng(step)
    arrays = {"kernel": rng.normal(size=(40, 30)), "bias": rng.normal(size=30)}
    return {"params": arrays, "step": np.int32(step)}, {"params": {"bias": arrays["bias"]}}


def save(checkpoints, step):
    """Save the state of a step, and wait until it is on disk."""
    checkpoints.save(step, *state_of(step), {"step": step})
    checkpoints.wait()


def in_child(work):
    """Call ``work`` in a process of its own, so that this one stays without threads. Return its status."""
    if not (child := os.fork()):
        try:
            work()
        except BaseException as error:
            print(type(error).__name__, error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def save_with_fault(directory, n, mode):
    """Save step 2 with a fault at call ``n``. A full disk must raise an OSError."""
    checkpoints = Checkpoints(directory)
    faults.fault_arm(n, mode)
    try:
        save(checkpoints, 2)
        checkpoints.close()
    except OSError as error:
        if mode == KILL or "No space left" not in str(error):
            raise
    reached = faults.fault_count() >= n
    faults.fault_arm(0, 0)
    (directory.parent / "ended").write_text("reached" if reached else "complete")


def check(directory):
    """Check that step 1 or 2 is restored with its bits, and that saving goes on."""
    checkpoints = Checkpoints(directory)
    state, best, facts = checkpoints.restore(*state_of(0))
    assert facts["step"] in (1, 2), facts
    for found, expected in zip((state, best), state_of(facts["step"]), strict=True):
        for (path, a), b in zip(leaves(found), dict(leaves(expected)).values(), strict=True):
            np.testing.assert_array_equal(a, b, err_msg=str(path))
    save(checkpoints, 3)
    assert checkpoints.restore(*state_of(0))[2] == {"step": 3}
    checkpoints.close()


def leaves(tree):
    """Return paths and arrays of a tree."""
    import jax

    return jax.tree_util.tree_leaves_with_path(tree)


def main():
    """Try the calls."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    folder, mode = Path(sys.argv[1]), {"kill": KILL, "full": FULL}[sys.argv[2]]
    first, every = map(int, sys.argv[3:])
    assert in_child(lambda: save(Checkpoints(folder / "first"), 1)) == 0
    n, ended = first, ""
    while ended != "complete":
        directory, record = folder / "run" / "checkpoints", folder / "run" / "ended"
        shutil.rmtree(folder / "run", ignore_errors=True)
        shutil.copytree(folder / "first", directory)
        status = in_child(lambda d=directory, k=n: save_with_fault(d, k, mode))
        ended = record.read_text() if record.exists() else "killed"
        assert status == (-9 if ended == "killed" else 0), f"call {n}: status {status}"
        assert (ended == "killed") <= (mode == KILL), f"call {n}: {ended}"
        assert in_child(lambda d=directory: check(d)) == 0, f"call {n}"
        n += every
    print(n - every)


if __name__ == "__main__":
    main()
