import os

import jax
import pytest
from hypothesis import settings

# The first example of each shape compiles, which says nothing about speed.
settings.register_profile("compiling", deadline=None)
settings.load_profile("compiling")


@pytest.fixture(autouse=True, scope="session")
def programs(tmp_path_factory):
    """The folder of programs that the tests compile, those of the runs that they start too."""
    folder = tmp_path_factory.getbasetemp() / "xla"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    return folder


@pytest.fixture(autouse=True)
def _programs_of_slow_tests_are_let_go(request):
    """Each compiled program maps some memory, and Linux gives a process 65,530 maps."""
    yield
    if request.node.get_closest_marker("slow"):
        jax.clear_caches()
