import pytest


@pytest.fixture(scope="session")
def cache(compilation_cache):
    """Directory of the compilation cache that the runs share."""
    return compilation_cache
