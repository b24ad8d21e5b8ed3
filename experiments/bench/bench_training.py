"""Time whole training steps of the course's networks: ours, Flax, Keras and PyTorch.

All train the same network with the same batch size, dropout, Adam and images. Each framework runs in
its fastest configuration, in its own process, alternately. The competitors need the extra "bench". A
competitor that is not installed or fails is left out. Two more cases measure only our own steps: on
several devices, and with augmentation.
"""

import dataclasses
import functools
import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any, Literal

from frameworks import (
    NETWORKS,
    make_case,
    train_fidle,
    train_flax,
    train_keras_jax,
    train_keras_tf,
    train_torch,
)
from peers import Peer, Worker, time_steps
from timing import check_positive, run, save

# By default, XLA runs matrix products, reductions and all convolutions but those of the input gradient
# in YNNPACK. oneDNN receives only what YNNPACK leaves. Which is fastest depends on the network.
ONEDNN = "--xla_cpu_experimental_onednn_custom_call=true"
ONLY_ONEDNN = f"{ONEDNN} --xla_cpu_experimental_ynn_fusion_type="
YNNPACK = (
    "--xla_cpu_experimental_ynn_fusion_type="
    "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"
)
ON_TF, ON_JAX = {"KERAS_BACKEND": "tensorflow"}, {"KERAS_BACKEND": "jax"}
OURS = Peer("fidle-jax", train_fidle)
PEERS = {
    "keras": Peer("Keras on TensorFlow", train_keras_tf, ("keras", "tensorflow"), ON_TF),
    "keras-jax": Peer("Keras on JAX", train_keras_jax, ("keras",), ON_JAX),
    "keras-jax-only-onednn": Peer(
        "Keras on JAX, only oneDNN",
        train_keras_jax,
        ("keras",),
        {**ON_JAX, "XLA_FLAGS": ONLY_ONEDNN},
    ),
    "torch": Peer("PyTorch", train_torch, ("torch",)),
    "torch-compile": Peer(
        "PyTorch, compiled", functools.partial(train_torch, compiled=True), ("torch",)
    ),
    "flax": Peer("Flax, XLA", train_flax),
    "flax-onednn": Peer("Flax, XLA and oneDNN", train_flax, (), {"XLA_FLAGS": ONEDNN}),
    "flax-only-onednn": Peer("Flax, only oneDNN", train_flax, (), {"XLA_FLAGS": ONLY_ONEDNN}),
    "flax-ynnpack": Peer("Flax, YNNPACK, no reductions", train_flax, (), {"XLA_FLAGS": YNNPACK}),
    "scan": Peer("Flax, XLA in lax.scan", functools.partial(train_flax, scan=True)),
}
COMPARED, OURS_ALONE = ("mnist", "v1", "v2", "batches"), ("devices", "augmentation")
NOT_WARPS = ("blur", "brightness", "contrast", "colour", "shadow", "cutout", "flips")
AUGMENTATIONS = {
    "no augmentation": {"augmentation": "none"},
    "shift, rotation, scaling, shear": dict.fromkeys(NOT_WARPS, 0.0),
    "all of the recipe fast": {},
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    cases: tuple[Literal[COMPARED + OURS_ALONE], ...] = COMPARED
    """Networks; batches: the MNIST CNN at several batch sizes, ours and Flax; devices: ours on several
    devices, by jit and by pmap; augmentation: ours, compact with the recipe fast."""
    peers: tuple[Literal[tuple(PEERS)], ...] = tuple(PEERS)
    """Competitors."""
    batch_sizes: tuple[int, ...] = tuple(2**i for i in range(13))
    """Batch sizes of the case "batches"."""
    devices: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of devices of the case "devices". On a CPU they are simulated and share its cores, so more of
    them show the overhead and no speed-up. On other platforms all devices are used."""
    rounds: int = 7
    """Turns of each framework."""
    seconds: float = 2.0
    """Minimum length of a turn. (Costs per call, such as memory allocation, matter less in an epoch.)"""
    output: Path = Path("runs/bench_training")
    """Directory for bench_training.json."""


def main(config: Config) -> None:
    """Measure, print the tables, and write the numbers."""
    from fidle_jax.kernels.turns import machine  # imports JAX

    check_positive(config, "rounds", "batch_sizes", "devices", "seconds")
    chosen, left_out = find_installed(config.peers if set(config.cases) & set(COMPARED) else ())
    for title, reason in left_out.items():
        print(f"{title}: left out, {reason}")
    workers = [Worker(peer) for peer in (OURS, *chosen)]

    def timed(name, workers, batch_size=None):
        steps = time_steps(make_case(name, batch_size), workers, config.rounds, config.seconds)
        result = {"title": NETWORKS[name][0], **steps}
        if workers[0].peer is OURS:
            result["result"] = compare(steps["rows"])
        for failure in steps["failed"].values():
            print(f"left out: {failure}")
        print(format_table(result), end="\n\n", flush=True)
        return result

    results: dict[str, Any] = {"networks": []}
    for name in config.cases:
        if name == "batches":
            pair = [worker for worker in workers if worker.peer in (OURS, PEERS["flax"])]
            results[name] = [timed("mnist", pair, size) for size in config.batch_sizes]
        elif name == "devices":
            results[name] = timed("mnist", list(map(Worker, devices_peers(config.devices))))
        elif name == "augmentation":
            peers = [
                Peer(title, functools.partial(train_fidle, recipe="fast", **settings))
                for title, settings in AUGMENTATIONS.items()
            ]
            results[name] = timed("compact", list(map(Worker, peers)))
        else:
            results["networks"].append(timed(name, workers))
    packages = filter(importlib.util.find_spec, ("jax", "flax", "keras", "tensorflow", "torch"))
    versions = {name: importlib.metadata.version(name) for name in packages}
    about = {"machine": machine(), "versions": versions, "seconds_per_turn": config.seconds}
    save(config.output / "bench_training.json", {**about, "left_out": left_out, **results})


def devices_peers(counts: tuple[int, ...]) -> list[Peer]:
    """Return our framework on each number of devices, by jit and by pmap."""
    return [
        Peer(
            f"{parallel}, {count} device{'s' * (count > 1)}",
            functools.partial(train_fidle, parallel=parallel),
            environment={"JAX_NUM_CPU_DEVICES": str(count)},
        )
        for count in counts
        for parallel in ("jit", "pmap")
    ]


def find_installed(names: tuple[str, ...]) -> tuple[list[Peer], dict[str, str]]:
    """Return the installed competitors, and map the titles of the others to the reason."""
    chosen, left_out = [], {}
    for peer in map(PEERS.__getitem__, names):
        missing = [package for package in peer.needs if not importlib.util.find_spec(package)]
        if missing:
            left_out[peer.title] = f"{' and '.join(missing)} not installed"
        else:
            chosen.append(peer)
    return chosen, left_out


def compare(rows: list[dict[str, Any]]) -> str:
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
        f"{'':<32}{'ms per step':>12}{'fastest to slowest turn':>26}{'times first':>12}",
    ]
    for row in result["rows"]:
        turns = f"{min(row['ms_per_step']):.2f} to {max(row['ms_per_step']):.2f}"
        lines.append(
            f"{row['framework']:<32}{row['median']:>12.2f}{turns:>26}{row['times_ours']:>12.2f}"
            f"  {row['setting']}".rstrip()
        )
    if "result" in result:
        lines.append(f"fidle-jax: {result['result']}")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main, Config(), __doc__)
