"""Time the gradients of networks of many sizes: XLA's convolutions, ours as a drop-in, and PyTorch.

One figure shows the time per image for batch sizes, image sizes, channels and depths, and the time to
compile for depths. The cases resnet_13 and resnet_50 are residual networks. Each framework runs in its
own process, alternately, and is called from Python. PyTorch needs the extra "bench"; it is left out if
it is not installed.
"""

import dataclasses
import functools
import importlib.util
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from peers import Peer, RunFailed, Worker
from timing import check_positive, run, save

CLASSES = 10
# Block, stages and stem of `bench_accelerate.resnet`, image size, batch size.
RESNETS = {
    "resnet_13": (((3, 1), (3, 1)), ((2, 32), (2, 64), (1, 128), (1, 256)), 3, 56, 32),
    "resnet_50": (
        ((1, 1), (3, 1), (1, 4)),
        ((3, 64), (4, 128), (6, 256), (3, 512)),
        7,
        224,
        8,
    ),
}
# Values of each axis, and the network that the axis changes.
AXES = {
    "batch": ([4**i for i in range(7)], {"size": 16, "channels": 16, "depth": 4}),
    "size": ([16, 24, 32, 48, 64, 96, 128, 160, 224], {"batch": 4, "channels": 32, "depth": 4}),
    "channels": (
        [8, 16, 32, 64, 96, 128, 192, 256, 384, 512],
        {"batch": 16, "size": 16, "depth": 4},
    ),
    "depth": ([2, 4, 8, 16, 32, 50], {"batch": 16, "size": 16, "channels": 64}),
}
LABELS = {"xla": "XLA", "drop_in": "XLA with our drop-in", "torch": "PyTorch"}
COLOURS = {"xla": "C1", "drop_in": "C0", "torch": "C2"}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    cases: tuple[Literal[(*RESNETS, *AXES)], ...] = (*RESNETS, *AXES)
    """Networks, and axes of the figure."""
    frameworks: tuple[Literal[tuple(LABELS)], ...] = tuple(LABELS)
    """Frameworks."""
    rounds: int = 5
    """Turns of each framework on each network."""
    seconds: float = 0.5
    """Minimum length of a turn."""
    output: Path = Path("runs/bench_scaling")
    """Directory for scaling.json and scaling.png."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A residual network by name, or ``depth`` convolutions of 3x3 with ReLU."""

    name: str
    batch: int
    size: int
    channels: int = 3  # of the images and of plain convolutions
    depth: int = 0

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Return float32 images and labels, always the same."""
        rng = np.random.default_rng(0)
        shape = (self.batch, self.size, self.size, self.channels)
        labels = rng.integers(0, CLASSES, self.batch)
        return rng.normal(size=shape).astype(np.float32), labels


def main(config: Config) -> None:
    """Measure, print a line per network, and write the numbers and the figure."""
    from fidle_jax.kernels.turns import machine  # imports JAX

    check_positive(config, "rounds", "seconds")
    frameworks = [
        name for name in config.frameworks if name != "torch" or importlib.util.find_spec("torch")
    ]
    print(f"{machine()}; gradients of a batch: ms (s to compile, peak of memory in GB)")
    results = []
    for case in config.cases:
        if case in RESNETS:
            *_, size, batch = RESNETS[case]
            networks = [Network(case, batch, size)]
        else:
            values, usual = AXES[case]
            networks = [Network(case, **usual | {case: value}) for value in values]
        for network in networks:
            results.append(measure(network, frameworks, config))
            print(format_result(results[-1]), flush=True)
    save(config.output / "scaling.json", {"machine": machine(), "results": results})
    plot(results, config.output / "scaling.png")


def measure(network: Network, frameworks: list[str], config: Config) -> dict[str, Any]:
    """Time a network in each framework, each in a new process."""
    from fidle_jax.kernels.turns import time_in_turns  # imports JAX

    rows, workers = {}, {}
    for name in frameworks:
        worker = Worker(Peer(name, _start))
        try:
            rows[name] = {"compile_seconds": worker.ask(_start, name, network)}
            workers[name] = worker
        except RunFailed as error:
            print(f"left out: {error}")
    runs = {name: functools.partial(worker.ask, _run) for name, worker in workers.items()}
    for name, turns in time_in_turns(runs, config.rounds, config.seconds).items():
        peak = workers[name].ask(_peak_gigabytes)
        rows[name] |= {"milliseconds": statistics.median(turns), "turns": turns, "gigabytes": peak}
        workers[name].close()
    return {**dataclasses.asdict(network), "frameworks": rows}


def format_result(result: dict[str, Any]) -> str:
    """Format a line with the time, compile time and memory of each framework."""
    shape = f"{result['batch']}x{result['size']}x{result['size']}x{result['channels']}"
    title = f"{result['name']} {shape}" + (f", depth {result['depth']}" if result["depth"] else "")
    cells = [
        f"{name} {row['milliseconds']:.2f} ({row['compile_seconds']:.1f} s, {row['gigabytes']:.2f})"
        for name, row in result["frameworks"].items()
    ]
    return f"{title:34} " + "   ".join(cells)


_step: Callable[[], Any] | None = None  # of this process: computes the gradients and waits


def _start(framework, network):
    """Build the network and compile its gradients. Return the seconds to compile; 0 for PyTorch."""
    global _step
    _step, compile_seconds = (_start_torch if framework == "torch" else _start_jax)(
        framework, network
    )
    return compile_seconds


def _run(calls):
    for _ in range(calls):
        _step()


def _peak_gigabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _start_jax(framework, network):
    import flax.linen as nn
    import jax
    from bench_accelerate import CONVOLUTIONS, Network, resnet

    def plain(conv, x):
        for _ in range(network.depth):
            x = nn.relu(conv(network.channels, (3, 3))(x))
        return nn.Dense(CLASSES)(x.mean(axis=(1, 2)))

    function = plain
    if network.name in RESNETS:
        block, stages, stem, *_ = RESNETS[network.name]
        function = functools.partial(resnet, stages=stages, block=block, stem=stem)
    model = Network(function, CONVOLUTIONS[framework])
    x, labels = jax.device_put(network.data())
    init = Network(function, CONVOLUTIONS["xla"]).init
    params = jax.jit(init)(jax.random.key(0), x[:1])["params"]
    began = time.perf_counter()
    compiled = jax.jit(jax.value_and_grad(model.loss)).lower(params, x, labels).compile()
    compile_seconds = time.perf_counter() - began
    return lambda: jax.block_until_ready(compiled(params, x, labels)), compile_seconds


def _start_torch(_, network):
    import torch
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, block, inputs, channels, strides):
            super().__init__()
            layers, last, self.skip = [], inputs, nn.Identity()
            for index, (k, share) in enumerate(block):
                step = strides if k == 3 and (3, 1) not in block[:index] else 1
                layers += [nn.Conv2d(last, channels * share, k, step, k // 2, bias=False)]
                last = channels * share
                layers += [nn.BatchNorm2d(last), nn.ReLU()]
            self.layers = nn.Sequential(*layers[:-1])
            if inputs != last or strides > 1:
                skip = nn.Conv2d(inputs, last, 1, strides, bias=False)
                self.skip = nn.Sequential(skip, nn.BatchNorm2d(last))

        def forward(self, x):
            return torch.relu(self.skip(x) + self.layers(x))

    layers, last = [], network.channels
    if network.depth:
        for _ in range(network.depth):
            layers += [nn.Conv2d(last, last, 3, padding=1), nn.ReLU()]
    else:
        block, stages, stem, *_ = RESNETS[network.name]
        strides = 1 if stem == 3 else 2
        layers += [nn.Conv2d(last, stages[0][1], stem, strides, stem // 2, bias=False)]
        layers += [nn.BatchNorm2d(stages[0][1]), nn.ReLU()]
        layers += [nn.MaxPool2d(3, 2, 1)] if stem == 7 else []
        last = stages[0][1]
        for stage, (blocks, channels) in enumerate(stages):
            for number in range(blocks):
                strides = 2 if stage > 0 and number == 0 else 1
                layers.append(Residual(block, last, channels, strides))
                last = channels * block[-1][1]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, CLASSES))
    order = torch.channels_last  # faster than the default on a CPU
    model = model.to(memory_format=order)
    x, labels = map(torch.from_numpy, network.data())
    x = x.permute(0, 3, 1, 2).contiguous(memory_format=order)
    cross_entropy = nn.CrossEntropyLoss()

    def step():
        model.zero_grad()
        cross_entropy(model(x), labels).backward()

    return step, 0.0


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Draw the time per image along each axis, and the time to compile by depth."""
    from matplotlib.figure import Figure

    axes = [name for name in AXES if any(result["name"] == name for result in results)]
    if not axes:
        return
    panels = [(name, "milliseconds") for name in axes]
    panels += [("depth", "compile_seconds")] if "depth" in axes else []
    figure = Figure(figsize=(3.4 * len(panels), 3.4), layout="constrained")
    for plot_axes, (name, quantity) in zip(
        np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True
    ):
        rows = [result for result in results if result["name"] == name]
        for framework, label in LABELS.items():
            if framework == "torch" and quantity == "compile_seconds":
                continue  # nothing is compiled
            measured = [row for row in rows if framework in row["frameworks"]]
            xs = [row[name] for row in measured]
            ys = np.array([row["frameworks"][framework][quantity] for row in measured])
            if quantity == "milliseconds":
                ys = ys / [row["batch"] for row in measured]
            plot_axes.plot(xs, ys, "o-", markersize=3, color=COLOURS[framework], label=label)
        logarithmic = quantity == "milliseconds"
        plot_axes.set(xlabel=name, ylabel="ms per image" if logarithmic else "seconds to compile")
        if logarithmic:
            plot_axes.set(xscale="log", yscale="log")
            plot_axes.set_xticks([row[name] for row in rows][:: -(-len(rows) // 6)])
            plot_axes.get_xaxis().set_major_formatter("{x:.0f}")
            plot_axes.minorticks_off()
        else:
            plot_axes.set_ylim(bottom=0)
        plot_axes.grid(alpha=0.3)
    figure.axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"written: {path}")


if __name__ == "__main__":
    run(main, Config(), __doc__)
