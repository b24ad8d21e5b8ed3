"""Finished runs side by side: a row for each setting, with mean and spread over its seeds."""

import json
import statistics
import sys
from pathlib import Path
from typing import Annotated

import tyro

SAME = ("experiment", "dataset", "variant", "recipe", "epochs", "parameters")
# What runs of earlier versions do not tell, and how it was then.
SINCE = {"crop": "full", "hold_out": "groups"}
HEAD = ("experiment", "data", "recipe", "epochs", "trained on", "seeds", "test accuracy", "seconds")


def main(runs: Annotated[list[Path], tyro.conf.Positional]) -> None:
    """Prints a Markdown table of RUNS.

    Args:
        runs: run directories.
    """
    settings: dict[tuple, list[dict]] = {}
    for run in runs:
        path = run / "result.json"
        try:
            result = SINCE | json.loads(path.read_text())
            key = *(result[name] for name in (*SAME, *SINCE)), _held_out(result)
            settings.setdefault(key, []).append(result)
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
            print(f"error: {path} is no result of a finished run: {error!r}", file=sys.stderr)
            sys.exit(2)
    print(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}")
    for results in settings.values():
        print(f"| {' | '.join(_cells(results))} |")


def _held_out(result: dict) -> float:
    """The share of the examples; whole tracks and classes make it differ a little from seed to seed."""
    train, validation = (result[f"{split}_examples"] for split in ("train", "validation"))
    return round(validation / (train + validation), 2)


def _cells(results: list[dict]) -> list[str]:
    first = results[0]
    accuracies = [100 * result["test_accuracy"] for result in results]
    spread = f" ± {statistics.stdev(accuracies):.3f}" if len(accuracies) > 1 else ""
    each = ", ".join(f"{accuracy:.2f}" for accuracy in accuracies)
    return [
        first["experiment"],
        f"{first['dataset']} {first['variant']}{' cropped' if first['crop'] == 'roi' else ''}",
        first["recipe"],
        str(first["epochs"]),
        f"{statistics.median_low(result['train_examples'] for result in results):,}",
        str(len(results)),
        f"{statistics.mean(accuracies):.3f}{spread} % ({each})"
        f"{', chosen on it' if first['hold_out'] == 'test' else ''}",
        f"{statistics.median(result['train_seconds'] for result in results):.0f}",
    ]


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
