import functools

import pytest

from tests.made_up_run import write_run


@pytest.fixture
def make_run(tmp_path):
    """``make_run(**options)`` writes a run directory and returns it."""
    return functools.partial(write_run, tmp_path)
