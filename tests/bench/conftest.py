"""Fixtures for the tests of the benchmarks, which import their modules by name."""

import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "experiments" / "bench"
sys.path.insert(0, str(BENCH))


@pytest.fixture
def run_main(monkeypatch):
    """Return a function that runs a benchmark's command in this process and returns its exit status."""
    import timing

    def run(module, *flags):
        monkeypatch.setattr(sys, "argv", [module.__file__, *map(str, flags)])
        with pytest.raises(SystemExit) as leave:
            timing.run(module.main, module.Config(), module.__doc__)
        return leave.value.code

    return run
