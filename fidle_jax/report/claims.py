"""What validation claimed of finished runs, beside what the test said, by the way examples were held out."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from fidle_jax.errors import InputError

WAYS = {"examples": "random examples", "groups": "whole tracks"}


@dataclass(frozen=True)
class Claim:
    """A run's accuracies, in [0, 1]: the best on validation, and that of the same weights on the test."""

    model: str
    dataset: str
    epochs: int
    hold_out: str
    seed: int
    validation: float
    test: float

    @property
    def setting(self) -> str:
        """What it has in common with those that stand in the same row, in words."""
        epochs = f"{self.epochs} epoch{'' if self.epochs == 1 else 's'}"
        return f"{self.model}, {self.dataset}, {epochs}, {WAYS[self.hold_out]} held out"


def by_setting(claims: list[Claim]) -> dict[str, list[Claim]]:
    """Claims by their setting; within it by seed."""
    settings: dict[str, list[Claim]] = {}
    for claim in sorted(claims, key=lambda c: (c.dataset, c.model, c.epochs, c.hold_out, c.seed)):
        settings.setdefault(claim.setting, []).append(claim)
    return settings


def read_claims(run_dirs: tuple[Path, ...]) -> list[Claim]:
    """A claim of each run.

    Raises:
      InputError: names the first that is no finished run, or had nothing to validate on.
    """
    return [_read_claim(run_dir) for run_dir in run_dirs]


def _read_claim(run_dir: Path) -> Claim:
    config, result = (_read(run_dir / name) for name in ("config.json", "result.json"))
    try:
        claim = Claim(
            model=str(config["model"]),
            dataset=str(result["dataset"]) + (" cropped" if config.get("crop") == "roi" else ""),
            epochs=int(result["epochs"]),
            hold_out=config["hold_out"],
            seed=int(result["seed"]),
            validation=float(result["best_validation_accuracy"]),
            test=float(result["test_accuracy"]),
        )
    except KeyError as error:
        raise InputError(
            f"{run_dir} does not tell its {error.args[0]}; give runs of gtsrb_cnn.py"
        ) from None
    except (TypeError, ValueError):
        raise InputError(
            f"{run_dir} has no accuracy on validation; give runs that held examples out"
        ) from None
    if claim.hold_out == "test":
        raise InputError(
            f"{run_dir} chose its epoch on the test set; give runs that held examples out"
        )
    if claim.hold_out not in WAYS or not all(
        math.isfinite(x) and 0 <= x <= 1 for x in (claim.validation, claim.test)
    ):
        raise InputError(f"{run_dir} is damaged: {claim}; give runs of gtsrb_cnn.py")
    return claim


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        if not path.parent.is_dir():
            raise InputError(
                f"{path.parent} is no run directory; give --runs finished runs"
            ) from None
        raise InputError(
            f"{path} cannot be read ({error.strerror}): the run is not finished, or no run; "
            "give --runs finished runs"
        ) from None
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}); give --runs finished runs") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is no JSON object; give --runs finished runs")
    return content
