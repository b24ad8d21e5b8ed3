"""A finished run's network for other programs: one file, its model card, and a short program that uses it.

Before it is written, the network is compared with the run on all of the run's test images.
"""

import contextlib
import dataclasses
import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from fidle_jax.cli.terminal import (
    FAILED,
    enable_compilation_cache,
    exit_with,
    fail,
    parse_flags,
    set_up_output,
)
from fidle_jax.errors import InputError
from fidle_jax.train.signals import Stop

if TYPE_CHECKING:
    from fidle_jax.inference.agreement import Agreement, Predict
    from fidle_jax.inference.load import Trained

FILES = {"onnx": "model.onnx", "stablehlo": "model.stablehlo", "safetensors": "model.safetensors"}
NEEDS = {"onnx": ("onnx", "onnxruntime"), "stablehlo": (), "safetensors": ("safetensors",)}
CARD, EXAMPLE = "MODEL_CARD.md", "example.py"


@dataclasses.dataclass(frozen=True)
class Flags:
    """Which run, and what to make of it."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    """The directory of a finished run."""
    format: Literal["onnx", "stablehlo", "safetensors"] = "onnx"
    """onnx: for onnxruntime and much else; stablehlo: for JAX on CPU, GPU and TPU; safetensors: the weights
    alone."""
    output: Path | None = None
    """Folder to write (default: export/FORMAT in the run's directory)."""
    check: bool = True
    """Compare the exported network with the run, and write nothing where it differs."""
    debug: bool = False
    """Show the traceback of an error."""


def main(stop: Stop) -> int:
    """Writes the three files, and prints how the exported network compares with the run."""
    flags = parse_flags(__doc__, Flags(run_dir=tyro.MISSING))
    folder = flags.output or flags.run_dir / "export" / flags.format
    file = FILES[flags.format]
    _check_folder(folder, file)
    _check_installed(flags.format, stop)
    set_up_output()
    with stop.defer():
        from fidle_jax.inference.agreement import compare
        from fidle_jax.inference.load import load
    stop.check()
    enable_compilation_cache()
    trained = load(flags.run_dir)
    data, predict = EXPORTERS[flags.format](trained)
    check = "The exported network was not compared with the run's."
    if flags.check:
        agreement = compare(predict, trained, flags.run_dir)
        if not agreement.holds():
            return fail(_Differs(_in_words(agreement)), FAILED, "; nothing is written")
        check = _in_words(agreement)
    _write(folder, {file: data, **_texts(trained, flags, check)})
    print(f"{folder / file}: {len(data):,} bytes; {CARD} and {EXAMPLE} are beside it")
    print(check)
    return 0


class _Differs(Exception):
    """An exported network gives other answers than the run's."""


def _check_installed(format_: str, stop: Stop) -> None:
    for module in NEEDS[format_]:
        try:
            with stop.defer():
                importlib.import_module(module)
        except ImportError as error:
            raise InputError(
                f"--format {format_} needs {module}, which cannot be imported ({error}); install it: "
                "pip install 'fidle-jax[export]', or in the project's folder pip install -e '.[export]'"
            ) from error
        stop.check()


def _check_folder(folder: Path, file: str) -> None:
    """Raises InputError where ``folder`` cannot be made, or holds anything but an earlier export's files."""
    with _as_input_error(folder):
        others = {path.name for path in folder.iterdir()} if folder.exists() else set()
    others = sorted(name for name in others - {file, CARD, EXAMPLE} if not name.endswith(".part"))
    if others:
        more = ", ..." if len(others) > 3 else ""
        raise InputError(
            f"the folder {folder} holds other files ({', '.join(others[:3])}{more}); "
            "give a new one as --output"
        )


@contextlib.contextmanager
def _as_input_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be used: {error.strerror}; take another --output"
        ) from error


def _export_onnx(trained: "Trained") -> "tuple[bytes, Predict]":
    from fidle_jax.inference.onnx_graph import from_onnx, to_onnx

    data = to_onnx(trained)
    return data, from_onnx(data)


def _export_stablehlo(trained: "Trained") -> "tuple[bytes, Predict]":
    from fidle_jax.inference.stablehlo import from_stablehlo, to_stablehlo

    data = to_stablehlo(trained)
    return data, from_stablehlo(data)


def _export_safetensors(trained: "Trained") -> "tuple[bytes, Predict]":
    from fidle_jax.inference.stablehlo import plain_predict
    from fidle_jax.inference.weights import from_safetensors, to_safetensors

    data = to_safetensors(trained)
    return data, plain_predict(trained.model, from_safetensors(data))


# What gives a file's content, and the function that is read back from it.
EXPORTERS: "dict[str, Callable[[Trained], tuple[bytes, Predict]]]" = {
    "onnx": _export_onnx,
    "stablehlo": _export_stablehlo,
    "safetensors": _export_safetensors,
}


def _in_words(agreement: "Agreement") -> str:
    same = "the same class for each"
    if agreement.other_classes:
        same = f"another class for {agreement.other_classes:,}"
    return (
        f"On the run's {agreement.images:,} test images the exported network's probabilities differ by "
        f"{agreement.difference:.1e} at most from the run's, and it names {same}."
    )


def _texts(trained: "Trained", flags: Flags, check: str) -> dict[str, bytes]:
    """The model card and the example."""
    from fidle_jax.inference.example import example_program
    from fidle_jax.inference.model_card import model_card

    command = json.loads((flags.run_dir / "config.json").read_text()).get("command", "not known")
    file = FILES[flags.format]
    return {
        CARD: model_card(trained, command, flags.format, file, check).encode(),
        EXAMPLE: example_program(trained, flags.format, file).encode(),
    }


def _write(folder: Path, files: dict[str, bytes]) -> None:
    from fidle_jax.files import write_atomically

    with _as_input_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomically(folder / name, content)


if __name__ == "__main__":
    exit_with(main, "interrupted; nothing is written")
