"""What each ingredient of a recipe for traffic signs gives: the recipe whole, and without one at a time.

A run for each and each seed, one after the other, through `gtsrb_cnn.py`; those that are finished are not
run again. The differences in validation accuracy are what the recipe was made by; those in test accuracy
stand beside them for the reader. `tensorboard --logdir` on the folder shows all curves together.
"""

import dataclasses
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Literal

import tyro

WHOLE = "the whole recipe"
# What to leave out, or to add, and the flags that do it.
CHANGES = {
    WHOLE: "",
    "without the warp": "--shift 0 --rotation 0 --scaling 0 --shear 0 --elastic 0",
    "without flips": "--flips 0",
    "without brightness, contrast and colour": "--brightness 0 --contrast 0 --colour 0",
    "without any augmentation": "--augmentation none",
    "without label smoothing": "--label-smoothing 0",
    "without averaging of weights": "--ema-decay 0",
    "with a constant learning rate": "--schedule constant",
    "with weights of the classes": "--class-weights effective",
    "without cutout": "--cutout 0",
    "without shadows": "--shadow 0",
    "without dropout": "--dropout 0 0",
    "with half as many kernels and neurons again": "--width 1.5",
    "with the usual number of kernels and neurons": "--width 1",
    "with the whole photographs": "--crop full",
    "with grey images": "--dataset 32x32-L",
    "with equalised colours": "--dataset 32x32-RGB-HE",
}
# What a recipe has anyway.
NO_CHANGE = {
    "best": "with half as many kernels and neurons again",
    "fast": "with the usual number of kernels and neurons",
}
KINDS = ("best_validation_accuracy", "test_accuracy")


@dataclasses.dataclass(frozen=True)
class Options:
    """Which recipe, how often."""

    recipe: Literal["fast", "best"] = "fast"
    """Recipe to take apart."""
    seeds: int = 3
    """Runs of each."""
    epochs: int | None = None
    """Epochs of each run, to be quicker than the recipe."""
    only: tuple[str, ...] = ()
    """Some of the changes alone, by name."""
    archives: Path | None = None
    """As of gtsrb_cnn.py."""
    data_dir: Path | None = None
    """As of gtsrb_cnn.py."""
    runs: Path = Path("runs/gtsrb_ingredients")
    """Folder of the runs, in which each recipe and number of epochs has its own."""


def main(options: Options) -> None:
    """Runs what is not finished, and prints a Markdown table."""
    if unknown := [name for name in options.only if name not in CHANGES]:
        print(
            f"error: --only {unknown[0]!r}; expected one of {', '.join(CHANGES)}", file=sys.stderr
        )
        sys.exit(2)
    for flag in ("seeds", "epochs"):
        if (value := getattr(options, flag)) is not None and value < 1:
            print(f"error: --{flag} is {value}; expected 1 or more", file=sys.stderr)
            sys.exit(2)
    skipped = (WHOLE, NO_CHANGE[options.recipe])
    names = [WHOLE, *(name for name in options.only or CHANGES if name not in skipped)]
    results = {name: [_run(options, name, seed) for seed in range(options.seeds)] for name in names}
    print("| | validation | difference | test | difference | seconds |\n|" + " --- |" * 6)
    for name, each in results.items():
        seconds = statistics.median(result["train_seconds"] for result in each)
        cells = [cell for kind in KINDS for cell in _cells(each, results[WHOLE], kind)]
        print(f"| {name} | {' | '.join(cells)} | {seconds:.0f} |")


def _run(options: Options, name: str, seed: int) -> dict:
    """What result.json says of the run, which is begun, or gone on with, where it is not finished."""
    setting = options.recipe if options.epochs is None else f"{options.recipe}-{options.epochs}"
    run_dir = options.runs / setting / name.replace(" ", "_") / str(seed)
    result = run_dir / "result.json"
    if not result.exists():
        command = [sys.executable, str(Path(__file__).with_name("gtsrb_cnn.py"))]
        if (run_dir / "config.json").exists():
            command += ["--resume"]
        else:
            command += _flags(options, name, seed)
        status = _status_of([*command, "--run-dir", str(run_dir)])
        if status:
            print(f"error: the run in {run_dir} ended with status {status}", file=sys.stderr)
            sys.exit(status)
        print(f"{run_dir} is finished", file=sys.stderr)
    return json.loads(result.read_text())


def _status_of(command: list[str]) -> int:
    """The exit status of a run; one that is interrupted, as this process is then, saves its state first."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()
            print("interrupted; the same command goes on", file=sys.stderr)
            sys.exit(130)


def _flags(options: Options, name: str, seed: int) -> list[str]:
    flags = ["--recipe", options.recipe, "--seed", str(seed), *CHANGES[name].split()]
    for flag in ("epochs", "archives", "data_dir"):
        if (value := getattr(options, flag)) is not None:
            flags += [f"--{flag.replace('_', '-')}", str(value)]
    return flags


def _cells(each: list[dict], whole: list[dict], kind: str) -> tuple[str, str]:
    """Mean and spread over the seeds, and the mean difference, seed by seed, from the whole recipe."""
    shares, others = ([100 * result[kind] for result in results] for results in (each, whole))
    spread = f" ± {statistics.stdev(shares):.2f}" if len(shares) > 1 else ""
    difference = statistics.mean(a - b for a, b in zip(shares, others, strict=True))
    return f"{statistics.mean(shares):.2f}{spread} %", f"{difference:+.2f}" if each != whole else ""


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
