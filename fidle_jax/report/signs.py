"""The page about the traffic signs: what the data contains, and why random hold-out sets mislead.

Each section computes its figure and the numbers of its caption. The text is in signs.html.j2.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped, UInt8

from fidle_jax.report import likeness, sign_figures
from fidle_jax.report.html import page_template
from fidle_jax.report.sign_figures import evenly_spaced, two_lines
from fidle_jax.report.style import png, short
from fidle_jax.report.tiles import letters_of
from fidle_jax.report.validation_gap import gap_chart, gap_rows

EXAMPLES = 3  # per class
SHOWN_TRACKS = 5
SHOWN_EXTREMES = 6
SHOWN_PAIRS = 12
DARK = 40  # mean pixel of a photograph that is hard to see on a screen
CLEAR = 110  # mean pixel from which a photograph is clear
# Near-duplicates are as similar as the most similar tenth of successive frames.
NEAR_PERCENTILE = 90


@dataclass(frozen=True)
class Photographs:
    """A split, ordered by class and track.

    Attributes:
        images: Photographs, scaled to one size.
        labels: Classes.
        sizes: Width and height of the original photographs in pixels.
        digests: Digests of all pixels of the files.
    """

    images: UInt8[np.ndarray, "batch height width 3"]
    labels: Int[np.ndarray, " batch"]
    sizes: Int[np.ndarray, "batch 2"]
    digests: Shaped[np.ndarray, " batch"]

    @property
    def brightness(self) -> Float[np.ndarray, " batch"]:
        """Mean pixel of each photograph."""
        return self.images.mean(axis=(1, 2, 3))


@dataclass(frozen=True)
class Signs:
    """Content of the page.

    Attributes:
        names: Names of the classes.
        mirrored: Class of the mirror image of each class, or -1.
        train: Training photographs.
        groups: Track of each training photograph.
        test: Test photographs.
        treated: Maps the name of each data set to the same signs in its size and treatment.
        runs: Table of `fidle_jax.report.validation_gap.read_runs`, which may be empty.
        commands: Commands that train such runs.
    """

    names: tuple[str, ...]
    mirrored: tuple[int, ...]
    train: Photographs
    groups: Int[np.ndarray, " train"]
    test: Photographs
    treated: dict[str, UInt8[np.ndarray, "sign _ _ channel"]]
    runs: pd.DataFrame
    commands: str


def render_signs(signs: Signs) -> str:
    """Return the page as HTML that needs no other files."""
    labels = signs.train.labels
    tracks, lengths = np.unique(signs.groups, return_counts=True)
    copies, test_copies = (likeness.grey_copies(x.images) for x in (signs.train, signs.test))
    nearest = likeness.find_nearest(copies, signs.groups, test_copies)
    successive = likeness.successive_correlations(copies, signs.groups)
    threshold = float(np.percentile(successive, NEAR_PERCENTILE))
    return page_template("signs.html.j2").render(
        signs=signs,
        track_count=len(tracks),
        track_length=int(np.median(lengths)),
        sizes=_sizes(signs),
        classes=_classes(signs),
        brightness=_brightness(signs),
        examples=_examples(signs),
        treatments=png(sign_figures.treatments_sheet(signs.treated)),
        tracks=_tracks(signs, tracks),
        growth=_growth(signs, tracks[lengths == lengths.max()]),
        duplicates=_duplicates(signs),
        similar=_similar(signs, nearest, threshold),
        near=_near_duplicates(signs, nearest, threshold),
        mirrored=_mirrored(signs, copies),
        neighbours=[
            (labels[nearest.index] == labels).mean(),
            (labels[nearest.elsewhere] == labels).mean(),
            (labels[nearest.test_index] == signs.test.labels).mean(),
        ],
        gap=png(gap_chart(signs.runs)) if len(signs.runs) else None,
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
        "figure": png(sign_figures.histograms(panels)),
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
        "figure": png(sign_figures.class_counts(train, test, signs.names)),
        "largest": (signs.names[counts.argmax()], int(counts.max())),
        "rarest": [signs.names[k] for k in np.flatnonzero(counts == counts.min())],
        "least": int(counts.min()),
        "half": int((np.sort(counts)[::-1].cumsum() < len(train) / 2).sum()) + 1,
        "difference": np.abs(shares[0] - shares[1]).max(),
    }


def _brightness(signs: Signs) -> dict[str, Any]:
    both = signs.train.brightness, signs.test.brightness
    panel = ("mean of all pixels, 0 to 255", both, np.arange(0, 256, 5))
    # One frame per track, because the frames of a track look the same.
    order = np.argsort(both[0], kind="stable")
    rows = [likeness.first_of_each(signs.groups, way) for way in (order, order[::-1])]
    shown = np.concatenate([row[:SHOWN_EXTREMES] for row in rows])
    names = [two_lines(signs.names[k], SHOWN_EXTREMES) for k in signs.train.labels[shown]]
    texts = [f"{both[0][k]:.0f}\n{name}" for k, name in zip(shown, names, strict=True)]
    pictures = [[image] for image in signs.train.images[shown]]
    return {
        "figure": png(sign_figures.histograms([panel])),
        "medians": [np.median(values) for values in both],
        "dark": DARK,
        "dark_shares": [(values < DARK).mean() for values in both],
        "extremes": png(sign_figures.blocks(pictures, texts, across=SHOWN_EXTREMES, lines=3)),
    }


def _examples(signs: Signs) -> bytes:
    labels = signs.train.labels
    members = [np.flatnonzero(labels == label) for label in range(len(signs.names))]
    pictures = [list(signs.train.images[evenly_spaced(each, EXAMPLES)]) for each in members]
    texts = [f"{label} {name}" for label, name in enumerate(signs.names)]
    return png(sign_figures.blocks(pictures, texts, across=4))


def _tracks(signs: Signs, tracks: Int[np.ndarray, " tracks"]) -> bytes:
    train = signs.train
    members = [np.flatnonzero(signs.groups == k) for k in evenly_spaced(tracks, SHOWN_TRACKS)]
    titles = [
        f"{signs.names[train.labels[m[0]]]}: {len(m)} frames, {train.sizes[m[0], 0]} to "
        f"{train.sizes[m[-1], 0]} pixels wide"
        for m in members
    ]
    return png(sign_figures.filmstrips([train.images[m] for m in members], titles))


def _growth(signs: Signs, complete: Int[np.ndarray, " tracks"]) -> dict[str, Any]:
    members = np.isin(signs.groups, complete)
    widths = signs.train.sizes[members, 0].reshape(len(complete), -1)
    return {
        "figure": png(sign_figures.growth(widths)),
        "factor": np.median(widths[:, -1] / widths[:, 0]),
    }


def _duplicates(signs: Signs) -> dict[str, Any]:
    train, test = signs.train, signs.test
    found = likeness.first_index(test.digests, train.digests)
    same = np.flatnonzero(found >= 0)
    return {
        "within": [int(likeness.repeats(split.digests).sum()) for split in (train, test)],
        "both": len(same),
        "tracks": len(np.unique(signs.groups[found[same]])),
        "figure": _pairs(signs, same[:SHOWN_PAIRS], found[same]) if len(same) else None,
    }


def _pairs(signs: Signs, test_index: np.ndarray, train_index: np.ndarray) -> bytes:
    most, pictures, texts = letters_of(4), [], []
    for k, j in zip(test_index, train_index, strict=False):
        pictures.append([signs.test.images[k], signs.train.images[j]])
        first, second = signs.names[signs.test.labels[k]], signs.names[signs.train.labels[j]]
        texts.append(first if first == second else f"{short(first, most)}\n{short(second, most)}")
    return png(sign_figures.blocks(pictures, texts, across=4))


def _similar(signs: Signs, nearest: likeness.Nearest, threshold: float) -> dict[str, Any]:
    label = "correlation with the nearest other training photograph"
    both = nearest.correlation, nearest.test_correlation
    panel = (label, both, np.arange(0.4, 1.0001, 0.0125))
    return {
        "figure": png(sign_figures.histograms([panel], mark=threshold)),
        "own": (signs.groups[nearest.index] == signs.groups).mean(),
        "near": [(correlation >= threshold).mean() for correlation in both],
        "side": likeness.SIDE,
    }


def _near_duplicates(
    signs: Signs, nearest: likeness.Nearest, threshold: float
) -> dict[str, Any] | None:
    exact = np.isin(signs.test.digests, signs.train.digests)
    near = np.flatnonzero((nearest.test_correlation >= threshold) & ~exact)
    if not len(near):
        return None
    agree = signs.test.labels[near] == signs.train.labels[nearest.test_index[near]]
    order = near[np.argsort(-nearest.test_correlation[near], kind="stable")]
    shown = likeness.first_of_each(signs.groups[nearest.test_index], order)[:SHOWN_PAIRS]
    return {
        "figure": _pairs(signs, shown, nearest.test_index[shown]),
        "count": len(near),
        "agree": agree.mean(),
    }


def _mirrored(
    signs: Signs, copies: Float[np.ndarray, "train feature"]
) -> tuple[bytes | None, bytes | None]:
    """Return the figures of the signs whose mirror image is a sign, and of the others."""
    train, classes = signs.train, len(signs.names)
    scores = train.sizes.min(axis=1) * np.minimum(train.brightness, CLEAR)
    examples = train.images[likeness.clearest(copies, train.labels, scores, classes)]
    means = np.stack([train.images[train.labels == k].mean(axis=0) for k in range(classes)])
    means = (255 * means / means.max(axis=(1, 2, 3), keepdims=True)).astype(np.uint8)

    known, others = [], []
    for k, j in enumerate(signs.mirrored):
        text = f"{k} {signs.names[k]}"
        mirrors = [x[k][:, ::-1] for x in (examples, means)]
        if j >= 0:
            text += f" → {'itself' if j == k else f'{j} {signs.names[j]}'}"
            known.append(
                ([examples[k], mirrors[0], examples[j], means[k], mirrors[1], means[j]], text)
            )
        else:
            others.append(([examples[k], *mirrors], text))
    sheets = (
        png(sign_figures.blocks([x for x, _ in each], [text for _, text in each], across))
        if each
        else None
        for each, across in ((known, 2), (others, 4))
    )
    return next(sheets), next(sheets)
