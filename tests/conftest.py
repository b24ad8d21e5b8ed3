import jax
import pytest
from hypothesis import settings

# The first example of each shape compiles, which says nothing about speed.
settings.register_profile("compiling", deadline=None)
settings.load_profile("compiling")


@pytest.fixture(autouse=True)
def _programs_of_slow_tests_are_let_go(request):
    """Each compiled program maps some memory, and Linux gives a process 65,530 maps."""
    yield
    if request.node.get_closest_marker("slow"):
        jax.clear_caches()
