import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

import tests.typechecker

# Train on two simulated devices. JAX reads this variable when it is imported.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
import jax

# Check the annotations while the tests run. This must precede the first import of fidle_jax.
install_import_hook("fidle_jax", f"{tests.typechecker.__name__}.check")

from tests.trained import evaluation, trained, trained_run  # noqa: E402, F401 - fixtures

# The first example of each shape compiles, which says nothing about speed. The default suite draws the same
# examples each time, so that it passes or fails for one commit; the slow suite draws new ones.
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None)
settings.load_profile("fixed")


def pytest_configure(config):
    """Draw new examples in the slow suite."""
    if config.option.markexpr == "slow":
        settings.load_profile("random")


def pytest_report_header(config):
    """State how long the slow tests take. This was measured with one worker, without tests/kernels."""
    if config.option.markexpr == "slow":
        return "slow tests: all of them take two to three hours; name files to run fewer"
    return None


@pytest.fixture(autouse=True, scope="session")
def compilation_cache(tmp_path_factory, worker_id):
    """Directory of the compilation cache that all workers and the processes they start share.

    The environment variable JAX_COMPILATION_CACHE_DIR overrides it.
    """
    base = tmp_path_factory.getbasetemp()
    own = (base if worker_id == "master" else base.parent) / "xla"
    directory = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(own))
    jax.config.update("jax_compilation_cache_dir", directory)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    return Path(directory)


@pytest.fixture(scope="session")
def browser():
    """Chromium, driven by playwright. The test is skipped if one of them is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def _clear_caches_after_slow_tests(request):
    """Free compiled programs: each maps memory, and Linux limits a process to 65,530 maps."""
    yield
    if request.node.get_closest_marker("slow"):
        jax.clear_caches()
