"""An experiment that trains nothing. Its accuracy depends on its flags, and some learning rates end badly."""

import csv
import json
import os
import signal
import sys
import time
from pathlib import Path

from fidle_jax.train.config import Config, resolve, to_json
from fidle_jax.train.run_content import METRICS

DEFAULTS = Config().replace(model="dnn")

FAILS, DIES_ONCE, DIES, STOPS_ONCE, ENDS_BADLY, HAS_NO_RESULT = 2.0, 3.0, 4.0, 5.0, 6.0, 7.0


def _parse(words):
    found, name = {}, None
    for word in words:
        if word.startswith("--"):
            name = word[2:].replace("-", "_")
            found[name] = True
        else:
            try:
                found[name] = json.loads(word)
            except ValueError:
                found[name] = word
    return found


def _main():
    given = _parse(sys.argv[1:])
    run_dir, resumed = Path(given.pop("run_dir")), given.pop("resume", False)
    if resumed:
        config = json.loads((run_dir / "config.json").read_text())
        given = {k: config[k] for k in ("learning_rate", "optimizer", "epochs", "seed")}
    config = resolve(DEFAULTS.replace(**given), "sample")
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "calls").open("a") as calls:
        print(os.getpid(), *sys.argv[1:], file=calls)
    described = to_json(config) | {"command": " ".join(["python", *sys.argv])}
    (run_dir / "gpus").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "as they are"))
    if not resumed:
        (run_dir / "config.json").write_text(json.dumps(described))
    rate = config.optimisation.learning_rate
    if rate == FAILS:
        print("error: this learning rate fails", file=sys.stderr)
        sys.exit(1)
    if rate == DIES or (rate == DIES_ONCE and not resumed):
        os.kill(os.getpid(), signal.SIGKILL)
    if rate == STOPS_ONCE and not resumed:
        sys.exit(130)
    if rate == HAS_NO_RESULT:
        print("that was all")
        return
    time.sleep(float(os.environ.get("MADE_UP_SECONDS", 0)))
    accuracy = 1 / (2 + rate) + 0.001 * config.optimisation.seed
    with (run_dir / "metrics.csv").open("w") as file:
        table = csv.writer(file)
        table.writerow(METRICS)
        table.writerows((k + 1, 1, 0.5, 1, accuracy) for k in range(config.optimisation.epochs))
    result = {
        "epochs": config.optimisation.epochs,
        "seed": config.optimisation.seed,
        "hold_out": config.data.hold_out,
        "best_validation_accuracy": accuracy,
        "test_accuracy": accuracy - 0.01,
        "train_seconds": 0.5,
        "parameters": 7,
        "versions": {"python": "3"},
    }
    (run_dir / "result.json").write_text(json.dumps(result))
    (run_dir / "report.html").write_text("")
    print(f"made up: test accuracy {accuracy}")
    if rate == ENDS_BADLY:
        sys.exit(1)


if __name__ == "__main__":
    _main()
