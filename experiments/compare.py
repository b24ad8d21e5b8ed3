"""Finished runs side by side: a row for each setting, with mean and spread over its seeds.

Rows that look alike differ in other flags, which then have a column.
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from fidle_jax.cli.settings import as_flags, read_settings

HEAD = ("experiment", "data", "recipe", "epochs", "trained on", "seeds", "test accuracy", "seconds")
SHOWN = ("dataset", "data", "crop", "recipe", "epochs", "hold_out", "validation_fraction")


def main(runs: Annotated[list[Path], tyro.conf.Positional]) -> None:
    """Prints a Markdown table of RUNS.

    Args:
        runs: run directories.
    """
    found: dict[tuple, list[dict]] = {}
    for run in runs:
        try:
            result = json.loads((run / "result.json").read_text())
            settings = read_settings(run)
            key = result["experiment"], result["parameters"], *settings.items()
            found.setdefault(key, []).append(result | {"settings": settings})
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(f"error: {run} is no finished run: {error!r}", file=sys.stderr)
            sys.exit(2)
    others = _unlike([results[0]["settings"] for results in found.values()])
    head = (*HEAD, "other flags") if others else HEAD
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for results in found.values():
        cells = _cells(results)
        if others:
            cells.append(as_flags(results[0]["settings"], others))
        print(f"| {' | '.join(cells)} |")


def _unlike(rows: list[dict[str, Any]]) -> list[str]:
    """Settings in which rows differ that look alike by those which are shown."""
    alike: dict[tuple, list[dict[str, Any]]] = {}
    for settings in rows:
        alike.setdefault(tuple(settings[name] for name in SHOWN), []).append(settings)
    return [
        name
        for name in dict.fromkeys(name for settings in rows for name in settings)
        if any(len({settings[name] for settings in same}) > 1 for same in alike.values())
    ]


def _cells(results: list[dict]) -> list[str]:
    first, settings = results[0], results[0]["settings"]
    accuracies = [100 * result["test_accuracy"] for result in results]
    spread = f" ± {statistics.stdev(accuracies):.3f}" if len(accuracies) > 1 else ""
    each = ", ".join(f"{accuracy:.2f}" for accuracy in accuracies)
    return [
        first["experiment"],
        f"{first['dataset']} {first['variant']}{' cropped' if settings['crop'] == 'roi' else ''}",
        first["recipe"],
        str(first["epochs"]),
        f"{statistics.median_low(result['train_examples'] for result in results):,}",
        str(len(results)),
        f"{statistics.mean(accuracies):.3f}{spread} % ({each})"
        f"{', chosen on it' if settings['hold_out'] == 'test' else ''}",
        f"{statistics.median(result['train_seconds'] for result in results):.0f}",
    ]


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
