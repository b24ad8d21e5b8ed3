"""Time whole training steps of the course's networks: ours, Flax, Keras and PyTorch.

All train the same network with the same batch size, dropout, Adam and images. Each framework runs in
its fastest configuration, in its own process, in turns. The competitors need the extra "bench". A
competitor that is not installed or fails is left out.
"""

import dataclasses
import importlib.util
import json
import os
import platform
import statistics
import sys
from pathlib import Path
from typing import Any, Literal, get_args

import tyro
from peers.case import Case
from peers.turns import time_compilation, time_steps
from peers.worker import Framework, Worker

KERAS, KERAS_TF = ("keras",), ("keras", "tensorflow")
# By default, XLA runs matrix products, reductions and all convolutions but those of the input gradient
# in YNNPACK. oneDNN receives only what YNNPACK leaves. Which is fastest depends on the network.
ONEDNN = "--xla_cpu_experimental_onednn_custom_call=true"
ONLY_ONEDNN = f"{ONEDNN} --xla_cpu_experimental_ynn_fusion_type="
YNNPACK = (
    "--xla_cpu_experimental_ynn_fusion_type="
    "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"
)
FRAMEWORKS = {
    "ours": Framework("fidle-jax", "peers.fidle"),
    "keras": Framework(
        "Keras on TensorFlow", "peers.keras_tf", needs=KERAS_TF, backend="tensorflow"
    ),
    "keras-jax": Framework("Keras on JAX", "peers.keras_jax", needs=KERAS, backend="jax"),
    "keras-jax-only-onednn": Framework(
        "Keras on JAX, only oneDNN",
        "peers.keras_jax",
        needs=KERAS,
        xla_flags=ONLY_ONEDNN,
        backend="jax",
    ),
    "torch": Framework("PyTorch", "peers.torch_eager", needs=("torch",)),
    "torch-compile": Framework("PyTorch, compiled", "peers.torch_compiled", needs=("torch",)),
    "flax": Framework("Flax, XLA", "peers.flax_xla"),
    "flax-onednn": Framework("Flax, XLA and oneDNN", "peers.flax_xla", xla_flags=ONEDNN),
    "flax-only-onednn": Framework("Flax, only oneDNN", "peers.flax_xla", xla_flags=ONLY_ONEDNN),
    "flax-ynnpack": Framework("Flax, YNNPACK, no reductions", "peers.flax_xla", xla_flags=YNNPACK),
    "scan": Framework("Flax, XLA in lax.scan", "peers.flax_xla", "prepare_scan"),
}

# Name: title, model, image shape, batch size, classes.
NETWORKS = {
    "mnist": ("MNIST CNN", "cnn", (28, 28, 1), 512, 10),
    "v1": ("GTSRB v1", "v1", (24, 24, 1), 64, 43),
    "v2": ("GTSRB v2", "v2", (48, 48, 3), 64, 43),
}


Peer = Literal[
    "keras",
    "keras-jax",
    "keras-jax-only-onednn",
    "torch",
    "torch-compile",
    "flax",
    "flax-onednn",
    "flax-only-onednn",
    "flax-ynnpack",
    "scan",
]


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    cases: tuple[Literal["mnist", "v1", "v2", "batches", "compile"], ...] = (
        "mnist",
        "v1",
        "v2",
        "batches",
        "compile",
    )
    """Networks; "batches": the MNIST CNN at several batch sizes, ours and Flax; "compile": compile time."""
    peers: tuple[Peer, ...] = get_args(Peer)
    """Competitors."""
    batch_sizes: tuple[int, ...] = tuple(2**i for i in range(13))
    """Batch sizes of the case "batches"."""
    rounds: int = 7
    """Turns of each framework."""
    seconds: float = 2.0
    """Minimum length of a turn. (Costs per call, such as memory allocation, matter less in an epoch.)"""
    output: Path = Path("runs/bench_training")
    """Directory for bench_training.json and bench_training.png."""


def main(config: Config) -> None:
    """Measure, print the tables, and write the numbers and the figure."""
    wrong = _find_wrong(config)
    if wrong:
        print(f"error: {wrong}", file=sys.stderr)
        sys.exit(2)
    names, left_out = find_installed(config.peers)
    for title, reason in left_out.items():
        print(f"{title}: left out, {reason}")
    try:
        config.output.mkdir(parents=True, exist_ok=True)
        workers = {name: Worker(FRAMEWORKS[name]) for name in names}
        results = _measure(config, workers)
        _write(config, left_out, results)
    except (OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")


def _find_wrong(config: Config) -> str | None:
    for flag, value in [
        ("rounds", config.rounds),
        *(("batch-sizes", b) for b in config.batch_sizes),
    ]:
        if value < 1:
            return f"--{flag} {value}; expected 1 or more"
    if not 0 < config.seconds < 1000:
        return f"--seconds {config.seconds}; expected more than 0 and less than 1000"
    return None


def find_installed(peers: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
    """Return the names of the installed frameworks, ours first, and map other titles to the reason."""
    missing = {
        name: [need for need in FRAMEWORKS[name].needs if not importlib.util.find_spec(need)]
        for name in ("ours", *peers)
    }
    reasons = {
        FRAMEWORKS[name].title: f"{' and '.join(packages)} not installed"
        for name, packages in missing.items()
        if packages
    }
    return [name for name, packages in missing.items() if not packages], reasons


def make_case(name: str, batch_size: int | None = None) -> Case:
    """Return the case of a network. The default batch size is the course's."""
    # JAX takes a second to import. Import it here so that --help is fast.
    from fidle_jax.nn import MODELS

    _, model_name, image_shape, course_batch_size, classes = NETWORKS[name]
    model = MODELS[model_name]
    return Case(
        model=model_name,
        image_shape=image_shape,
        batch_size=batch_size or course_batch_size,
        classes=classes,
        blocks=model.blocks,
        hidden=model.hidden,
        dropout=model.dropout,
    )


def _measure(config: Config, workers: dict[str, Worker]) -> dict[str, Any]:
    def timed(name, workers, batch_size=None):
        case = make_case(name, batch_size)
        steps = time_steps(case, workers, config.rounds, config.seconds)
        result = {"title": NETWORKS[name][0], "result": summarize(steps["rows"]), **steps}
        for failure in steps["failed"].values():
            print(f"left out: {failure}")
        print(format_table(result), end="\n\n", flush=True)
        return result

    results: dict[str, Any] = {"networks": [], "batches": [], "compile_seconds": {}}
    for name in config.cases:
        if name == "compile":
            seconds = time_compilation(make_case("mnist"), workers["ours"], config.rounds)
            auto, xla = map(statistics.median, seconds.values())
            print(f"compiling the MNIST CNN's chunk of steps: {auto:.2f} s, with XLA's ", end="")
            print(f"convolutions {xla:.2f} s: {auto / xla:.2f} times as long\n", flush=True)
            results["compile_seconds"] = seconds
        elif name == "batches":
            pair = [workers[name] for name in ("ours", "flax") if name in workers]
            results["batches"] = [timed("mnist", pair, size) for size in config.batch_sizes]
        else:
            results["networks"].append(timed(name, list(workers.values())))
    return results


def summarize(rows: list[dict[str, Any]]) -> str:
    """Compare our framework, the first row, with the fastest competitor."""
    if len(rows) == 1:
        return "no competitor"
    fastest = min(rows[1:], key=lambda row: row["median"])
    ratio = f"{fastest['times_ours']:.2f} times as fast"
    return f"{ratio} as the fastest competitor, {fastest['framework']}"


def format_table(result: dict[str, Any]) -> str:
    """Format a result of `time_steps` as aligned text."""
    size = "x".join(map(str, result["image_shape"]))
    lines = [
        f"{result['title']}, {size}, batch {result['batch_size']}, {result['parameters']:,} parameters",
        f"{'':<30}{'ms per step':>12}{'fastest to slowest turn':>26}{'times ours':>12}",
    ]
    for row in result["rows"]:
        turns = f"{min(row['ms_per_step']):.2f} to {max(row['ms_per_step']):.2f}"
        lines.append(
            f"{row['framework']:<30}{row['median']:>12.2f}{turns:>26}{row['times_ours']:>12.2f}"
            f"  {row['setting']}".rstrip()
        )
    lines.append(f"fidle-jax: {result['result']}")
    return "\n".join(lines)


def _write(config: Config, left_out: dict[str, str], results: dict[str, Any]) -> None:
    from peers.figure import draw

    report = {
        "machine": f"{platform.platform()}, {os.cpu_count()} CPUs",
        "rounds": config.rounds,
        "seconds_a_turn": config.seconds,
        "left_out": left_out,
        **results,
    }
    path = config.output / "bench_training.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    path.with_suffix(".png").write_bytes(draw(results))
    print(f"numbers and figure: {path}, {path.with_suffix('.png').name}")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
