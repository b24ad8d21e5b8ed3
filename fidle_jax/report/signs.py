"""The page about the traffic signs: what the data contains, and why random hold-out sets mislead.

Each section computes its figure and the numbers of its caption. The text is in signs.html.j2.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped, UInt8
from matplotlib.figure import Figure
from sklearn.neighbors import NearestNeighbors

from fidle_jax.report import style, tables
from fidle_jax.report.html import load_template
from fidle_jax.report.pictures import draw_gallery
from fidle_jax.train.command_line import format_flags

EXAMPLES = 3  # per class
SIDE = 16  # pixels of the grey copies
FRAMES = 30  # most photographs of a track
SHOWN_TRACKS = 5
SHOWN_PAIRS = 12
GAP_FLAGS = ("model", "dataset", "crop", "epochs", "hold_out")
HOLD_OUT = {"examples": "random examples held out", "groups": "whole tracks held out"}
CLEAR = 110  # mean pixel from which a photograph is clear

Panel = tuple[str, tuple[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Photographs:
    """A split, ordered by class and track."""

    images: UInt8[np.ndarray, "batch height width 3"]  # scaled to one size
    labels: Int[np.ndarray, " batch"]
    sizes: Int[np.ndarray, "batch 2"]  # original width and height in pixels
    digests: Shaped[np.ndarray, " batch"]  # of all pixels of the files

    @property
    def brightness(self) -> Float[np.ndarray, " batch"]:
        """Mean pixel of each photograph."""
        return self.images.mean(axis=(1, 2, 3))


@dataclass(frozen=True)
class Signs:
    """Content of the page."""

    names: tuple[str, ...]  # of the classes
    mirrored: tuple[int, ...]  # class of the mirror image of each class, or -1
    train: Photographs
    groups: Int[np.ndarray, " train"]  # track of each training photograph
    test: Photographs
    # The same signs in the size and treatment of each data set, by its name.
    treated: dict[str, UInt8[np.ndarray, "sign _ _ channel"]]
    runs: pd.DataFrame  # of `fidle_jax.report.tables.read_runs`; may be empty
    commands: str  # that train such runs


class Nearest(NamedTuple):
    """Most similar training photographs, by the correlation of small grey copies."""

    index: Int[np.ndarray, " train"]  # of the nearest other one, for each training photograph
    correlation: Float[np.ndarray, " train"]  # with that one
    elsewhere: Int[np.ndarray, " train"]  # index of the nearest one of another track
    test_index: Int[np.ndarray, " test"]  # of the nearest one, for each test photograph
    test_correlation: Float[np.ndarray, " test"]


def render_signs(signs: Signs) -> str:
    """Return the page as HTML that needs no other files."""
    labels = signs.train.labels
    tracks, lengths = np.unique(signs.groups, return_counts=True)
    copies, test_copies = (grey_copies(x.images) for x in (signs.train, signs.test))
    nearest = find_nearest(copies, signs.groups, test_copies)
    return load_template("signs.html.j2").render(
        signs=signs,
        track_count=len(tracks),
        track_length=int(np.median(lengths)),
        sizes=_sizes(signs),
        classes=_classes(signs),
        examples=_examples(signs),
        treatments=style.png(
            draw_gallery(
                list(signs.treated.values()), [[name] for name in signs.treated], columns=1
            )
        ),
        tracks=_tracks(signs, tracks),
        duplicates=_duplicates(signs),
        similar=_similar(signs, nearest),
        mirrored=_mirrored(signs, copies),
        neighbours=[
            (labels[nearest.index] == labels).mean(),
            (labels[nearest.elsewhere] == labels).mean(),
            (labels[nearest.test_index] == signs.test.labels).mean(),
        ],
        gap_rows=gap_rows(signs.runs) if len(signs.runs) else [],
    )


def _sizes(signs: Signs) -> dict[str, Any]:
    train, test = signs.train.sizes, signs.test.sizes
    ratios = train[:, 0] / train[:, 1], test[:, 0] / test[:, 1]
    both = np.concatenate(ratios)
    panels = [
        ("width in pixels", (train[:, 0], test[:, 0]), np.arange(15, 260, 5)),
        ("width / height", ratios, np.arange(0.59, 1.42, 0.02)),
    ]
    return {
        "figure": style.png(histograms(panels)),
        "least": min(train.min(), test.min()),
        "most": max(train.max(), test.max()),
        "median": np.median(train[:, 0]),
        "widest": train[:, 0].max(),
        "square": (np.abs(both - 1) < 0.1).mean(),
        "ratios": (both.min(), both.max()),
    }


def _classes(signs: Signs) -> dict[str, Any]:
    train, test = signs.train.labels, signs.test.labels
    counts = np.bincount(train)
    shares = counts / len(train), np.bincount(test) / len(test)
    return {
        "figure": style.png(class_counts(train, test, signs.names)),
        "largest": (signs.names[counts.argmax()], int(counts.max())),
        "rarest": [signs.names[k] for k in np.flatnonzero(counts == counts.min())],
        "least": int(counts.min()),
        "half": int((np.sort(counts)[::-1].cumsum() < len(train) / 2).sum()) + 1,
        "difference": np.abs(shares[0] - shares[1]).max(),
    }


def _examples(signs: Signs) -> bytes:
    labels = signs.train.labels
    members = [np.flatnonzero(labels == label) for label in range(len(signs.names))]
    pictures = [list(signs.train.images[evenly_spaced(each, EXAMPLES)]) for each in members]
    texts = [[f"{label} {name}"] for label, name in enumerate(signs.names)]
    return style.png(draw_gallery(pictures, texts, columns=4))


def _tracks(signs: Signs, tracks: Int[np.ndarray, " tracks"]) -> bytes:
    train = signs.train
    members = [np.flatnonzero(signs.groups == k) for k in evenly_spaced(tracks, SHOWN_TRACKS)]
    texts = [
        [
            f"{signs.names[train.labels[m[0]]]}: {len(m)} frames, {train.sizes[m[0], 0]} to "
            f"{train.sizes[m[-1], 0]} pixels wide"
        ]
        for m in members
    ]
    pictures = [train.images[m[::2]] for m in members]
    return style.png(draw_gallery(pictures, texts, columns=1))


def _duplicates(signs: Signs) -> dict[str, Any]:
    train, test = signs.train, signs.test
    first = {digest: k for k, digest in reversed(list(enumerate(train.digests)))}
    pairs = [(k, first[digest]) for k, digest in enumerate(test.digests) if digest in first]
    pictures = [[test.images[k], train.images[j]] for k, j in pairs[:SHOWN_PAIRS]]
    names = [(signs.names[test.labels[k]], signs.names[train.labels[j]]) for k, j in pairs]
    texts = [[a if a == b else f"{a} / {b}"] for a, b in names[:SHOWN_PAIRS]]
    return {
        "within": [len(x.digests) - len(np.unique(x.digests)) for x in (train, test)],
        "both": len(pairs),
        "tracks": len({signs.groups[j] for _, j in pairs}),
        "figure": style.png(draw_gallery(pictures, texts, columns=4)) if pairs else None,
    }


def _similar(signs: Signs, nearest: Nearest) -> dict[str, Any]:
    label = "correlation with the nearest other training photograph"
    both = nearest.correlation, nearest.test_correlation
    panel = (label, both, np.arange(0.4, 1.0001, 0.0125))
    return {
        "figure": style.png(histograms([panel])),
        "own": (signs.groups[nearest.index] == signs.groups).mean(),
        "median": [np.median(correlation) for correlation in both],
        "side": SIDE,
    }


def _mirrored(
    signs: Signs, copies: Float[np.ndarray, "train feature"]
) -> tuple[bytes | None, bytes | None]:
    """Return the figures of the signs whose mirror image is a sign, and of the others."""
    train = signs.train
    clear = train.sizes.min(axis=1) * np.minimum(train.brightness, CLEAR)
    examples = []
    for label in range(len(signs.names)):
        members = np.flatnonzero(train.labels == label)
        # Among the clearer half of a class, the photograph that is most similar to the class mean.
        better = members[clear[members] >= np.median(clear[members])]
        typical = (copies[better] @ copies[members].mean(axis=0)).argmax()
        examples.append(train.images[better[typical]])
    known, others = [], []
    for k, j in enumerate(signs.mirrored):
        text, pictures = f"{k} {signs.names[k]}", [examples[k], examples[k][:, ::-1]]
        if j >= 0:
            text += f" → {'itself' if j == k else f'{j} {signs.names[j]}'}"
            known.append(([*pictures, examples[j]], [text]))
        else:
            others.append((pictures, [text]))
    return _draw_pairs(known, 3), _draw_pairs(others, 4)


def _draw_pairs(pairs: list[tuple[list[np.ndarray], list[str]]], columns: int) -> bytes | None:
    if not pairs:
        return None
    pictures, texts = zip(*pairs, strict=True)
    return style.png(draw_gallery(pictures, texts, columns=columns))


def grey_copies(
    images: UInt8[np.ndarray, "batch height width 3"],
) -> Float[np.ndarray, "batch feature"]:
    """Return block means with SIDE blocks per side, scaled to mean 0 and norm 1.

    Products of copies are correlations. The height and width are multiples of SIDE. The copy of an image
    with a single grey level is 0.
    """
    n, height, width, _ = images.shape
    blocks = images.reshape(n, SIDE, height // SIDE, SIDE, width // SIDE, 3)
    copies = blocks.mean(axis=(2, 4, 5), dtype=np.float32).reshape(n, -1)
    copies -= copies.mean(axis=1, keepdims=True)
    return copies / np.maximum(np.linalg.norm(copies, axis=1, keepdims=True), 1e-6)


def find_nearest(
    train: Float[np.ndarray, "train feature"],
    groups: Int[np.ndarray, " train"],
    test: Float[np.ndarray, "test feature"],
) -> Nearest:
    """Find the nearest photographs, given grey copies and the tracks of the training photographs."""
    # A track has at most FRAMES - 1 other photographs, so one of FRAMES neighbours is elsewhere.
    search = NearestNeighbors(n_neighbors=min(FRAMES, len(train) - 1), algorithm="brute").fit(train)
    distances, neighbours = search.kneighbors()
    elsewhere = (groups[neighbours] != groups[:, None]).argmax(axis=1)
    test_distances, test_neighbours = search.kneighbors(test, n_neighbors=1)
    return Nearest(
        index=neighbours[:, 0],
        correlation=1 - distances[:, 0] ** 2 / 2,
        elsewhere=neighbours[np.arange(len(train)), elsewhere],
        test_index=test_neighbours[:, 0],
        test_correlation=1 - test_distances[:, 0] ** 2 / 2,
    )


def gap_rows(runs: pd.DataFrame) -> list[dict[str, str]]:
    """Return the cells of a table that compares validation and test accuracy, one row per setting."""
    rows, table = [], tables.average_over_seeds(runs)
    others = tables.ambiguous_flags(table["flags"], GAP_FLAGS)
    for _, row in table.iterrows():
        flags, s = row["flags"], "s" * (row["epochs"] != 1)
        setting = [flags["model"], flags["dataset"] + " cropped" * (flags["crop"] == "roi")]
        setting += [f"{row['epochs']} epoch{s}", HOLD_OUT[flags["hold_out"]]]
        setting += [format_flags(flags, others)] if others else []
        gap = f"{100 * (row[tables.VALIDATION] - row[tables.TEST]):+.2f}"
        seeds = runs["seed"][runs["setting"] == row["setting"]]
        rows.append(
            {
                "setting": ", ".join(setting),
                "seeds": ", ".join(map(str, sorted(seeds))),
                "validation": tables.percent(row, tables.VALIDATION),
                "test": tables.percent(row, tables.TEST),
                "gap": gap.replace("-", "\N{MINUS SIGN}"),
            }
        )
    return sorted(rows, key=lambda row: row["setting"])


def histograms(panels: list[Panel]) -> Figure:
    """Draw histograms of training and test photographs in percent.

    Args:
        panels: Axis label, training and test values, and bin edges of each panel. The first and the last
            bin include all values outside of the edges.
    """
    figure = style.new_figure(height=3.2)
    looks = (
        {"color": style.BLUE, "label": "training", "fill": True, "alpha": 0.35, "lw": 0},
        {"color": style.VERMILLION, "label": "test", "lw": 1.8},
    )
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (label, both, edges) in zip(all_axes, panels, strict=True):
        for values, look in zip(both, looks, strict=True):
            counts, _ = np.histogram(np.clip(values, edges[0], edges[-1] - 1e-6), edges)
            axes.stairs(100 * counts / len(values), edges, **look)
        axes.set_xlim(edges[0], edges[-1])
        style.finish(axes, x=label, y="% of the photographs", grid="y")
    style.legend_below(figure, columns=3)
    return figure


def class_counts(
    train: Int[np.ndarray, " train"], test: Int[np.ndarray, " test"], names: tuple[str, ...]
) -> Figure:
    """Draw the number of training and test photographs of each class, the largest class first."""
    counts = np.stack([np.bincount(labels, minlength=len(names)) for labels in (train, test)])
    order = np.argsort(-counts[0], kind="stable")
    figure = style.new_figure(height=0.6 + 0.24 * len(names))
    axes = figure.subplots()
    rows = np.arange(len(names))
    bars = axes.barh(rows - 0.2, counts[0, order], 0.4, color=style.BLUE, label="training")
    axes.barh(rows + 0.2, counts[1, order], 0.4, color=style.VERMILLION, label="test")
    both = [f"{a:,} / {b:,}" for a, b in counts[:, order].T]
    axes.bar_label(bars, both, fontsize=style.SMALL - 1, padding=3, color=style.GREY)
    axes.set_yticks(rows, [f"{names[k]}  {k}" for k in order])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, counts[0].max() * 1.2)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    style.finish(axes, grid="x")
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="lower right", fontsize=style.TEXT, frameon=False)
    return figure


def evenly_spaced(
    members: Int[np.ndarray, " n"] | Float[np.ndarray, " n"], most: int
) -> np.ndarray:
    """Divide ``members`` into ``most`` equal intervals and return the middle element of each."""
    return members[((np.arange(most) + 0.5) * len(members) / most).astype(int)]
