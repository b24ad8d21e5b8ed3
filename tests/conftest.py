import os

import jax
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# Check the annotations while the tests run. This must precede the first import of fidle_jax.
# As in PEP 484, an int is a valid float.
_TYPECHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
install_import_hook("fidle_jax", _TYPECHECKER)

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
