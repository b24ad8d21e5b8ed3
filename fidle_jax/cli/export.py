"""Export the network of a finished run: one file, a model card, and a short program that uses the file.

Before it is written, the exported network is compared with the run on the test images of the run. A page, the
format html, contains some of these images, and compares itself with the run when it is opened.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fidle_jax.cli.parse import parse_flags
from fidle_jax.cli.terminal import FAILED, exit_with, fail, start
from fidle_jax.errors import InputError
from fidle_jax.files import as_input_error, read_json, write_atomically
from fidle_jax.train.config import described
from fidle_jax.train.run_content import read_evaluation
from fidle_jax.train.signals import Stop

MODULES = {
    "onnx": ("onnx", "onnxruntime"),
    "html": (),
    "stablehlo": (),
    "safetensors": ("safetensors",),
}
CARD, EXAMPLE = "MODEL_CARD.md", "example.py"
PAGE_CHECK = (
    "When it is opened, the page compares itself with the run on the {} test images it contains."
)


@dataclasses.dataclass(frozen=True)
class Flags:
    """Run to export, and the format."""

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Directory of a finished run."""
    format: Literal["onnx", "html", "stablehlo", "safetensors"] = "onnx"
    """onnx: for onnxruntime and other software; html: a page that runs the network; stablehlo: for JAX on
    CPU, GPU and TPU; safetensors: the parameters only."""
    output: Annotated[Path | None, described("export/FORMAT in the directory of the run")] = None
    """Output directory."""
    check: bool = True
    """Compare the exported network with the run. If they differ, nothing is written."""
    debug: bool = False
    """Show the traceback of an error."""


def main(argv: list[str] | None = None) -> None:
    """Write the model, the model card and the example program; print the result of the comparison; exit."""
    exit_with(lambda stop: _export(argv, stop))


def _export(argv: list[str] | None, stop: Stop) -> int:
    flags = parse_flags(__doc__ or "", Flags, argv)
    folder = flags.output or flags.run_dir / "export" / flags.format
    file = f"model.{flags.format}"
    _check_folder(folder, file)
    try:
        start(stop, *MODULES[flags.format])
    except ImportError as error:
        raise InputError(
            f"--format {flags.format} needs a package that cannot be imported ({error}); install it: "
            "pip install 'fidle-jax[export]', or in a clone pip install -e '.[export]'"
        ) from error
    start(stop, "fidle_jax.inference.export")
    from fidle_jax.inference.export import (
        compare,
        convert,
        describe_network,
        example_program,
        model_card,
    )
    from fidle_jax.inference.load import load
    from fidle_jax.report.network_page import choose_examples, render_network

    trained = load(flags.run_dir)
    if flags.format == "html":
        examples = choose_examples(read_evaluation(flags.run_dir))
        data = render_network(describe_network(trained), examples).encode()
        check = PAGE_CHECK.format(len(examples.labels))
    else:
        data, predict = convert(trained, flags.format)
        check = "The exported network was not compared with the run."
        if flags.check:
            test = read_evaluation(flags.run_dir)
            agrees, check = compare(predict, trained, test.images, test.probabilities)
            if not agrees:
                return fail(RuntimeError(check), FAILED, "; nothing was written")
    described = read_json(flags.run_dir / "config.json", {"command": str})
    command, own = described["command"], described.get("own_images")
    card = model_card(trained, command, flags.format, file, check, own)
    files = {file: data, CARD: card.encode()}
    if flags.format != "html":
        files[EXAMPLE] = example_program(trained, flags.format, file).encode()
    with as_input_error(folder, "--output"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomically(folder / name, content)
    print(f"{folder / file}: {len(data):,} bytes, with {' and '.join([*files][1:])}")
    print(check)
    return 0


def _check_folder(folder: Path, file: str) -> None:
    """Raise InputError unless ``folder`` is new or contains only the files of an earlier export."""
    with as_input_error(folder, "--output"):
        files = list(folder.iterdir()) if folder.exists() else []
    names = {path.name for path in files if path.suffix != ".part"} - {file, CARD, EXAMPLE}
    if names:
        raise InputError(
            f"the directory {folder} contains other files, such as {min(names)}; give a new one as --output"
        )
