import pytest


@pytest.fixture(scope="session")
def cache(programs):
    """The folder of programs that the runs compile."""
    return programs
