import pytest


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The folder of programs that the runs of a file compile."""
    return tmp_path_factory.mktemp("cache")
