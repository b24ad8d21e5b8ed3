"""The kernels' benchmark as lines of text and as a figure."""

from collections.abc import Sequence
from typing import Any

from _bench_measure import PHASES, medians
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fidle_jax.report.style import BLUE, GREEN, GREY, LINES, SMALL, TEXT, VERMILLION, new_figure

ORANGE, SKY, PURPLE = "#E69F00", "#56B4E9", "#CC79A7"  # the palette's others
COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY)
SHAPES = "o^sD"
LINE = 0.21  # inches, of one problem


def lines(result: dict[str, Any]) -> str:
    """A problem's line, then one for each phase: milliseconds and share of the peak, fastest first."""
    gradients = f"   (gradients: {', '.join(result['gradients'])})" if "gradients" in result else ""
    text = [result["name"] + gradients]
    for phase in PHASES:
        if phase in result:
            ranked = sorted(result[phase].items(), key=lambda item: item[1]["milliseconds"])
            text.append(f"  {phase:9}{'   '.join(_cell(*item) for item in ranked)}")
    if "auto" in result:
        text[-1] += f"   auto: {result['auto']} ({result['auto_over_best']:.2f} x best)"
    return "\n".join(text)


def _cell(method, summary):
    share = f" ({summary['share_of_peak']:.1%})" if "share_of_peak" in summary else ""
    return f"{method} {summary['milliseconds']:.4g} ms{share}"


def figure_of(results: Sequence[dict[str, Any]], where: str) -> Figure:
    """For each problem, how much faster each method is than XLA's own, and what share of the peak it reaches.

    Forward and backward together where there is a backward pass; what "auto" takes has a ring.
    """
    figure = new_figure(height=1.6 + LINE * len(results), width=11)
    ratio, share = figure.subplots(1, 2, sharey=True)
    marks = _marks(results)
    for place, result in enumerate(results):
        phase = "training" if "training" in result else "forward"
        times = medians(result, phase)
        baseline = times[next(iter(times))]
        for method, time in times.items():
            ring = {"markeredgecolor": "black"} if method == result.get("auto") else {}
            style = {"linestyle": "", "label": method, **marks[method], **ring}
            ratio.plot(baseline / time, place, **style)
            if "share_of_peak" in result[phase][method]:
                share.plot(100 * result[phase][method]["share_of_peak"], place, **style)
    _axis(ratio, "times as fast as XLA's (dropout: threefry)")
    _axis(share, "% of the 2048-cube matmul's rate")
    ratio.axvline(1, color=GREY, linewidth=1)
    ratio.set_yticks(
        range(len(results)), [result["name"] for result in results], fontsize=SMALL - 2
    )
    ratio.set_ylim(len(results) - 0.5, -0.5)
    figure.suptitle(
        f"Forward and backward together, float32; ring: auto's choice\n{where}", fontsize=TEXT
    )
    samples = [Line2D([], [], linestyle="", label=name, **mark) for name, mark in marks.items()]
    figure.legend(
        handles=samples, loc="outside lower center", ncols=6, fontsize=SMALL, frameon=False
    )
    return figure


def _marks(results):
    """Colour and shape for each method; grey squares are those that the others are compared with."""
    marks = {}
    for result in results:
        first, *others = result["forward"]
        marks.setdefault(first, {"color": GREY, "marker": "s"})
        for method in others:
            number = sum(mark["color"] != GREY for mark in marks.values())
            colour, shape = COLOURS[number % len(COLOURS)], SHAPES[number // len(COLOURS)]
            marks.setdefault(method, {"color": colour, "marker": shape})
    return marks


def _axis(axes, label):
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel(label, fontsize=SMALL)
    axes.grid(color=LINES)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
