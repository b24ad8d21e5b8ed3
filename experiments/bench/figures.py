"""Figures of the benchmarks of kernels and of training steps, as PNG files."""

import itertools
from collections.abc import Sequence
from typing import Any

from matplotlib.lines import Line2D

from fidle_jax.report.style import BLUE, GREEN, GREY, LINES, SMALL, VERMILLION, new_figure, png

PALE = "#C3C8CF"
COLOURS = (BLUE, VERMILLION, GREEN, "#E69F00", "#CC79A7", "#56B4E9")  # Okabe and Ito
CUT = 8  # times our median; longer bars would flatten the others


def draw_kernels(results: Sequence[dict[str, Any]], where: str) -> bytes:
    """Draw each method's speed relative to XLA's and its share of the matrix product's rate.

    A problem with gradients shows forward and backward together. A ring marks the choice of "auto".
    """
    figure = new_figure(height=1.6 + 0.21 * len(results), width=11)
    speed, share = figure.subplots(1, 2, sharey=True)
    baselines = {next(iter(result["forward"])) for result in results}
    others = {name: None for result in results for name in result["forward"]}.keys() - baselines
    styles = itertools.product("o^sD", COLOURS)
    marks = {name: {"color": GREY, "marker": "s"} for name in sorted(baselines)}
    marks |= {
        name: {"color": colour, "marker": shape}
        for name, (shape, colour) in zip(sorted(others), styles, strict=False)
    }
    for row, result in enumerate(results):
        methods = result["training" if "training" in result else "forward"]
        baseline = next(iter(methods.values()))["milliseconds"]
        for name, summary in methods.items():
            edge = {"markeredgecolor": "black"} if name == result.get("auto") else {}
            style = {"linestyle": "", **marks[name], **edge}
            speed.plot(baseline / summary["milliseconds"], row, **style)
            if "share_of_peak" in summary:
                share.plot(100 * summary["share_of_peak"], row, **style)
    speed.axvline(1, color=GREY, linewidth=1)
    speed.set_yticks(range(len(results)), [result["name"] for result in results])
    speed.set_ylim(len(results) - 0.5, -0.5)
    speed.set_xlabel("speed relative to XLA (dropout: to threefry)")
    share.set_xlabel("% of the rate of a 2048 x 2048 matrix product")
    for axes in (speed, share):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        _clean(axes)
    figure.suptitle(f"Forward and backward together, float32; ring: choice of auto\n{where}")
    handles = [Line2D([], [], linestyle="", label=name, **mark) for name, mark in marks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    return png(figure)


def draw_training(results: dict[str, Any]) -> bytes:
    """Draw the median step of each framework: bars for each network, lines for the batch sizes."""
    networks, batches = results["networks"], results["batches"]
    heights = [0.7 + 0.42 * len(network["rows"]) for network in networks] + [3.2] * bool(batches)
    figure = new_figure(sum(heights or [0.5]) + 0.3 * len(heights))
    axes = figure.subplots(max(len(heights), 1), squeeze=False, height_ratios=heights or None)[:, 0]
    for panel, network in zip(axes, networks, strict=False):
        _draw_bars(panel, network)
    if batches:
        _draw_batches(axes[-1], batches)
    return png(figure)


def _draw_bars(axes, network):
    rows = network["rows"]
    widths = [min(row["median"], CUT * rows[0]["median"]) for row in rows]
    labels = [
        f"{row['median']:,.1f} ms ({min(row['ms_per_step']):,.1f} to {max(row['ms_per_step']):,.1f})"
        + (f", {row['times_ours']:.2f}×" if row is not rows[0] else "")
        for row in rows
    ]
    colours = [BLUE] + [PALE] * (len(rows) - 1)
    bars = axes.barh([row["framework"] for row in rows], widths, color=colours)
    axes.bar_label(bars, labels, padding=6, fontsize=SMALL)
    axes.set_xlim(0, 2 * max(widths))  # room for the labels
    legend = "milliseconds per step, median (all turns), times ours"
    title = f"{network['result']}\n{network['title']}, batch {network['batch_size']}: {legend}"
    axes.set_title(title, fontsize=SMALL, loc="left")
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.tick_params(labelsize=SMALL, length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _draw_batches(axes, batches):
    names = dict.fromkeys(row["framework"] for batch in batches for row in batch["rows"])
    for name, style in zip(names, ("o-", "s-"), strict=False):
        points = [
            (batch["batch_size"], row["median"])
            for batch in batches
            for row in batch["rows"]
            if row["framework"] == name
        ]
        axes.plot(*zip(*points, strict=True), style, label=name)
    sizes = [batch["batch_size"] for batch in batches]
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_title(
        f"{batches[0]['title']}: milliseconds per step by batch size", fontsize=SMALL, loc="left"
    )
    axes.legend(frameon=False, fontsize=SMALL)
    _clean(axes)


def _clean(axes):
    axes.grid(color=LINES)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
