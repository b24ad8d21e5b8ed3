"""An experiment's file, as a sweep uses it: its defaults, and the command that runs a config."""

import importlib.util
import sys
from pathlib import Path
from typing import NamedTuple

from fidle_jax.errors import InputError
from fidle_jax.train.config import Config
from fidle_jax.train.words import as_words


class Experiment(NamedTuple):
    """A file that trains, and the config that it has where no flag is given."""

    file: Path
    defaults: Config

    def command(self, config: Config, run_dir: Path) -> list[str]:
        """What runs ``config`` in ``run_dir``, or goes on with the run that is there."""
        begun = (run_dir / "config.json").exists()
        words = ["--resume"] if begun else as_words(config, self.defaults)
        return [sys.executable, str(self.file), *words, "--run-dir", str(run_dir)]


def load_experiment(file: Path) -> Experiment:
    """The experiment of that file.

    Raises:
      InputError: there is no such file, or it does not train.
    """
    file = file.expanduser().absolute()
    if not file.is_file():
        raise InputError(f"there is no experiment {file}; give a file, as experiments/mnist_cnn.py")
    sys.path.insert(0, str(file.parent))  # where what it imports is
    try:
        spec = importlib.util.spec_from_file_location(f"_experiment_{file.stem}", file)
        if spec is None or spec.loader is None:
            raise ImportError("not a Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{file} is no experiment: {error!r}") from error
    finally:
        sys.path.remove(str(file.parent))
    defaults = getattr(module, "DEFAULTS", None)
    if not isinstance(defaults, Config):
        raise InputError(f"{file} does not train: it has no DEFAULTS; take one as mnist_cnn.py")
    return Experiment(file, defaults)
