"""Why a finished run's network answers what it answers: one page, of image files or of a test example.

It has gradients, integrated gradients, Grad-CAM, occlusion, feature maps and kernels.
"""

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import tyro

from fidle_jax.cli.terminal import (
    FAILED,
    enable_compilation_cache,
    exit_with,
    fail,
    parse_flags,
    set_up_output,
)
from fidle_jax.errors import InputError, check_name
from fidle_jax.files import write_atomically, write_json
from fidle_jax.train import run_dir as run_dirs
from fidle_jax.train.signals import Stop

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8
    from matplotlib.figure import Figure
    from PIL import Image

    from fidle_jax.inference.attribution import Explanation
    from fidle_jax.inference.load import Trained
    from fidle_jax.report.lesson import Section


@dataclasses.dataclass(frozen=True)
class Flags:
    """Which images, and which class."""

    run: Annotated[Path, tyro.conf.Positional]
    """The directory of a finished run."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Image files."""
    test: int | None = None
    """Number of an example of the run's test split, from 0."""
    target: str | None = None
    """The class to explain, by its name or number (default: what the network answers)."""
    run_dir: Path | None = None
    """Where the page, its figures and numbers are written (default: runs/explain/UTC time)."""
    debug: bool = False
    """Show the traceback of an error."""


class Example(NamedTuple):
    """An image as the network is given it, its name, and its class where that is known."""

    name: str
    pixels: "UInt8[np.ndarray, 'height width channel']"
    truth: int | None = None


def main(stop: Stop) -> int:
    """Writes the page, and says what the answers are and where it is."""
    flags = parse_flags(__doc__, Flags(run=tyro.MISSING))
    if not flags.images and flags.test is None:
        raise InputError("there is no image; give image files, or --test with an example's number")
    run_dir = flags.run_dir or run_dirs.default_run_dir("explain")
    run_dirs.check_new(run_dir)
    set_up_output()
    with stop.defer():
        from fidle_jax.inference.attribution import explain
        from fidle_jax.inference.files import read_image
        from fidle_jax.inference.load import load
    stop.check()
    enable_compilation_cache()
    images = {path: read_image(path) for path in flags.images}
    trained = load(flags.run)
    target = _class_of(flags.target, trained)
    examples = [_prepared(path, image, trained) for path, image in images.items()]
    if flags.test is not None:
        examples.append(_test_example(flags.run, flags.test))
    found = [explain(trained, each.pixels, target) for each in examples]
    sections = _sections(examples, found, trained.class_names)
    pairs = zip(examples, found, strict=True)
    numbers = {
        "run": _text(str(flags.run)),
        "command": _text(shlex.join(["python", *sys.argv])),
        "images": [_numbers(*pair, trained.class_names) for pair in pairs],
    }
    try:
        with run_dirs.hold(run_dir):
            _write(run_dir, trained, sections, numbers)
    except OSError as error:
        return fail(error, FAILED)
    for each in numbers["images"]:
        print(f"{each['name']}: {each['answer']}, {100 * each['probability']:.1f} %")
    print(f"page: {run_dir / 'report.html'}")
    return 0


def _class_of(target: str | None, trained: "Trained") -> int | None:
    """Its number, by name or number; names count first, as those of digits are numbers."""
    names = trained.class_names
    if target is None:
        return None
    if target not in names and target.isdecimal() and int(target) < len(names):
        return int(target)
    check_name("class of --target", target, names)
    return names.index(target)


def _prepared(path: Path, image: "Image.Image", trained: "Trained") -> Example:
    from fidle_jax.inference.prepare import prepare

    try:
        return Example(_text(path.name), prepare(image, trained))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _test_example(run: Path, number: int) -> Example:
    from fidle_jax.train.run_dir import read_run

    test = read_run(run).evaluation
    if not 0 <= number < (examples := len(test.labels)):
        raise InputError(f"--test is {number}; expected 0 to {examples - 1}, an example of {run}")
    return Example(f"test example {number}", test.images[number], int(test.labels[number]))


def _text(name: str) -> str:
    """A name or command that may be written anywhere: those of files may hold any bytes."""
    return name if name.isprintable() else name.encode("unicode_escape").decode("ascii")


def _sections(
    examples: "list[Example]", found: "list[Explanation]", class_names: tuple[str, ...]
) -> "list[Section]":
    """One for each method, with a picture of each image, and one of the kernels."""
    from fidle_jax.inference.attribution import STEPS
    from fidle_jax.report import explain_figures as words
    from fidle_jax.report.lesson import Section, picture
    from fidle_jax.report.network import learned_kernels

    layer, kernels = found[0].layer, found[0].inside.kernels
    how = {"steps": STEPS, "layer": layer, "side": found[0].side}
    methods = {name: (title, text.format(**how)) for name, (title, text) in words.METHODS.items()}
    if layer is None:
        methods["grad_cam"] = ("Grad-CAM", words.NO_CAM)
    pictures = {name: [] for name in methods}
    for number, (example, one) in enumerate(zip(examples, found, strict=True), start=1):
        whose = f"{example.name}, the class {class_names[one.target]}"
        for name, (figure, more) in _figures(example, one, class_names).items():
            title = f"{methods[name][0]} of {whose}"
            pictures[name].append(picture(f"{name}_{number}", title, f"{whose}{more}.", figure))
    sections = [Section(*methods[name], pictures[name]) for name in methods]
    if kernels:
        shown = picture("kernels", "The kernels", "By convolution.", learned_kernels(kernels))
        sections.append(Section("The kernels", words.KERNELS, [shown]))
    return sections


def _figures(
    example: Example, one: "Explanation", class_names: tuple[str, ...]
) -> "dict[str, tuple[Figure, str]]":
    """By method, with what its caption says of this image."""
    from fidle_jax.report import explain_figures as figures
    from fidle_jax.report.network import feature_maps

    pixels, numbers = example.pixels, _numbers(example, one, class_names)
    truth = "" if example.truth is None else f", the truth {numbers['truth']}"
    answer = (
        f"; the answer is {numbers['answer']}, with {100 * numbers['probability']:.1f} %{truth}"
    )
    sums = numbers["integrated_gradients"]
    completeness = (
        f"; the values sum up to {sums['sum']:.4f}, the logits of image and start differ by "
        f"{sums['difference']:.4f}: an error of {sums['error']:.4f}"
    ).replace("-", "−")
    changes = numbers["occlusion"]["answer_changes"]
    bars = figures.answer_figure(pixels, one.logits, class_names, one.target, example.truth)
    shares = figures.integrated_figure(pixels, one.integrated.values)
    hidden = figures.occlusion_figure(pixels, one.logits, one.occluded, one.target)
    drawn = {
        "answer": (bars, answer),
        "saliency": (figures.saliency_figure(pixels, one.gradient), ""),
        "integrated_gradients": (shares, completeness),
        "occlusion": (hidden, f"; the answer is another at {100 * changes:.0f} % of the places"),
        "layers": (feature_maps(one.inside.maps, list(class_names)), ""),
    }
    if one.cam is not None:
        drawn["grad_cam"] = figures.cam_figure(pixels, one.cam), ""
    return drawn


def _numbers(example: Example, one: "Explanation", class_names: tuple[str, ...]) -> dict[str, Any]:
    """What explanation.json holds of an image."""
    from scipy.special import softmax

    probabilities = softmax(one.logits)
    answer = int(one.logits.argmax())
    fall = one.logits[one.target] - one.occluded[..., one.target]
    return {
        "name": example.name,
        "truth": None if example.truth is None else class_names[example.truth],
        "answer": class_names[answer],
        "probability": float(probabilities[answer]),
        "target": class_names[one.target],
        "probabilities": dict(zip(class_names, map(float, probabilities), strict=True)),
        "integrated_gradients": {
            "start": one.start.tolist(),
            "sum": float(one.integrated.values.sum()),
            "difference": one.integrated.difference,
            "error": one.integrated.error,
        },
        "grad_cam": {"layer": one.layer},
        "occlusion": {
            "side": one.side,
            "most_fall": float(fall.max()),
            "answer_changes": float((one.occluded.argmax(-1) != answer).mean()),
        },
    }


def _write(
    run_dir: Path, trained: "Trained", sections: "list[Section]", numbers: dict[str, Any]
) -> None:
    from fidle_jax.report.html import brief_percent
    from fidle_jax.report.lesson import render_lesson

    facts = {
        each["name"]: f"{each['answer']}, {brief_percent(each['probability'])}"
        for each in numbers["images"]
    }
    facts["network"] = trained.config.model.name
    facts["its test accuracy"] = brief_percent(trained.result["test_accuracy"])
    page = render_lesson(
        "What the answer depends on",
        f"The network of the run {numbers['run']}, from inside. Every map answers a question of its own, and "
        "none of them says why the network answers what it answers.",
        facts,
        sections,
        numbers["command"],
    )
    (run_dir / "figures").mkdir(exist_ok=True)
    for picture in (each for section in sections for each in section.shown):
        write_atomically(run_dir / "figures" / f"{picture.name}.png", picture.png)
    write_json(run_dir / "explanation.json", numbers)
    write_atomically(run_dir / "report.html", page)


if __name__ == "__main__":
    exit_with(main, "interrupted; nothing was written")
