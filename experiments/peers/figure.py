"""The benchmark of training steps as one figure."""

from typing import Any

from fidle_jax.report.style import BLUE, LINES, SMALL, VERMILLION, new_figure, png

PALE = "#C3C8CF"  # black text is read on it


def draw(results: dict[str, Any]) -> bytes:
    """Draw bars for each network and lines for the batch sizes. Return a PNG file."""
    networks, batches = results["networks"], results["batches"]
    heights = [0.7 + 0.42 * len(network["rows"]) for network in networks]
    heights += [3.2] if batches else []
    if not heights:
        heights = [0.5]
    figure = new_figure(sum(heights) + 0.3 * len(heights))
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    for place, network in enumerate(networks):
        _bars(figure.add_subplot(grid[place]), network)
    if batches:
        _lines(figure.add_subplot(grid[-1]), batches)
    return png(figure)


def _bars(axes, network):
    rows = network["rows"]
    medians = [row["median"] for row in rows]
    # A far longer bar would flatten the others. Cut it; its label states the value.
    limit = 1.1 * min(max(medians), 8 * medians[0])
    places = range(len(rows))
    axes.barh(places, medians, color=[BLUE] + [PALE] * (len(rows) - 1))
    for place, row in zip(places, rows, strict=True):
        inside = row["median"] > limit / 2  # a label takes nearly half the width
        axes.annotate(
            _label(row),
            (min(row["median"], limit), place),
            (-6 if inside else 6, 0),
            textcoords="offset points",
            ha="right" if inside else "left",
            va="center",
            fontsize=SMALL,
            color="white" if inside and place == 0 else "black",
        )
    axes.set(xlim=(0, limit), yticks=places, yticklabels=[row["framework"] for row in rows])
    what = "milliseconds per step, median (all turns), times ours"
    title = f"{network['result']}\n{network['title']}, batch {network['batch_size']}: {what}"
    axes.set_title(title, fontsize=SMALL, loc="left")
    axes.invert_yaxis()
    axes.tick_params(labelsize=SMALL, length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_xticks([])


def _label(row):
    turns = row["ms_per_step"]
    label = f"{row['median']:,.1f} ms ({min(turns):,.1f} to {max(turns):,.1f})"
    return label if row["times_ours"] == 1 else f"{label}, {row['times_ours']:.2f}×"


def _lines(axes, batches):
    sizes = [batch["batch_size"] for batch in batches]
    for number, (colour, marker) in enumerate([(BLUE, "o"), (VERMILLION, "s")]):
        rows = [batch["rows"][number] for batch in batches if number < len(batch["rows"])]
        if rows:
            medians = [row["median"] for row in rows]
            axes.plot(sizes, medians, color=colour, marker=marker, label=rows[0]["framework"])
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_title(
        f"{batches[0]['title']}: milliseconds a step by batch size", fontsize=SMALL, loc="left"
    )
    axes.tick_params(labelsize=SMALL)
    axes.grid(color=LINES)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=SMALL)
