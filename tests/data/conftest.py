import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _no_archives_from_outside(monkeypatch):
    monkeypatch.delenv("FIDLE_JAX_ARCHIVES", raising=False)


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """A folder with small archives that pass for the official ones."""
    import made_up_mnist

    folder = tmp_path / "archives"
    made_up_mnist.write(folder)
    made_up_mnist.install(folder, setattr=monkeypatch.setattr)
    return folder


@pytest.fixture
def made_up_signs(tmp_path, monkeypatch):
    """A folder with small archives that pass for GTSRB's, but for their checksums."""
    import made_up_gtsrb

    from fidle_jax.data import gtsrb

    folder = tmp_path / "sign archives"
    folder.mkdir()
    made_up_gtsrb.install(monkeypatch)
    monkeypatch.setattr(gtsrb, "EXAMPLES", made_up_gtsrb.EXAMPLES)
    made_up_gtsrb.write(folder, made_up_gtsrb.members())
    return folder
