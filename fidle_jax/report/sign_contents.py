"""Figures of the photographs themselves, and what each caption tells to look for."""

import numpy as np

from fidle_jax.report import sign_charts, sign_pictures
from fidle_jax.report.html import Picture, brief_percent
from fidle_jax.report.likeness import first_of_each
from fidle_jax.report.sign_data import Signs
from fidle_jax.report.style import png

SHOWN_TRACKS = 5
SHOWN_EXTREMES = 6
DARK = 40  # a mean pixel, of 255


def draw_photographs(signs: Signs) -> list[Picture]:
    """Sizes, classes, brightness, examples, treatments and tracks."""
    return [
        _sizes(signs),
        _classes(signs),
        _brightness(signs),
        _darkest_and_brightest(signs),
        _examples(signs),
        _treatments(signs),
        _tracks(signs),
        _growth(signs),
    ]


def _sizes(signs: Signs) -> Picture:
    train, test = signs.train.sizes, signs.test.sizes
    ratio = np.divide(*np.concatenate([train, test]).T)
    caption = (
        f"Half of the training photographs are {np.median(train[:, 0]):.0f} pixels wide or less, the "
        f"widest {train[:, 0].max()}: what is scaled to 48 pixels is more often enlarged than reduced. "
        f"Of both sets {brief_percent((np.abs(ratio - 1) < 0.1).mean())} are square within a tenth, so that "
        f"making them square distorts little; the narrowest is {ratio.min():.2f} times as wide as high, the "
        f"widest {ratio.max():.2f} times (all below 0.6 stand in the bar at the left). The sizes are those "
        "that the benchmark's tables give of the originals."
    )
    return Picture(
        "sizes", "Sizes of the originals", caption, png(sign_charts.size_histograms(train, test))
    )


def _classes(signs: Signs) -> Picture:
    counts = np.bincount(signs.train.labels)
    shares = counts / counts.sum(), np.bincount(signs.test.labels) / len(signs.test.labels)
    rarest = ", ".join(signs.names[k] for k in np.flatnonzero(counts == counts.min()))
    common = np.sort(counts)[::-1]
    half = int((common.cumsum() < counts.sum() / 2).sum()) + 1
    caption = (
        f"The commonest class ({signs.names[counts.argmax()]}) has {counts.max():,} training photographs, "
        f"the rarest ({rarest}) {counts.min():,}; {half} of the {len(counts)} classes "
        "make up half of the set. The test set has the same shares, within "
        f"{100 * np.abs(shares[0] - shares[1]).max():.1f} percentage points: accuracy there weighs the "
        "common signs as much as training does."
    )
    chart = sign_charts.class_counts(signs.train.labels, signs.test.labels, signs.names)
    return Picture("classes", "Classes", caption, png(chart))


def _brightness(signs: Signs) -> Picture:
    train, test = _light(signs.train.images), _light(signs.test.images)
    caption = (
        f"The median photograph has a mean of {np.median(train):.0f} in training and {np.median(test):.0f} "
        f"in the test; {brief_percent((train < DARK).mean())} and {brief_percent((test < DARK).mean())} are "
        f"below {DARK}, where a sign is hardly seen on a screen. Where the two lie on one another, training "
        "has seen the light of the test."
    )
    chart = sign_charts.brightness_histogram(train, test)
    return Picture("brightness", "Brightness", caption, png(chart))


def _light(images: np.ndarray) -> np.ndarray:
    return images.mean(axis=(1, 2, 3))


def _darkest_and_brightest(signs: Signs) -> Picture:
    light = _light(signs.train.images)
    order = np.argsort(light, kind="stable")
    # One of each track: frames of the same would fill the line.
    both = (first_of_each(signs.train.groups, way) for way in (order, order[::-1]))
    shown = np.concatenate([line[:SHOWN_EXTREMES] for line in both])
    texts = [f"{light[k]:.0f}\n{signs.names[signs.train.labels[k]]}" for k in shown]
    figure = sign_pictures.rows_of(list(signs.train.images[shown]), texts, SHOWN_EXTREMES)
    caption = (
        "The darkest and the brightest tracks of the training set, a frame of each, with the mean of its "
        "pixels. What the eye cannot tell apart in the dark is still there in the numbers, as the "
        "treatments below bring out; what is white is lost."
    )
    return Picture("extremes", "The darkest and the brightest", caption, png(figure))


def _examples(signs: Signs) -> Picture:
    figure = sign_pictures.class_examples(signs.train.images, signs.train.labels, signs.names)
    caption = (
        "Three training photographs of each class, evenly spaced through its tracks. Many classes differ in "
        "a few pixels at the centre alone: the digits of the speed limits, the symbols in the triangles."
    )
    return Picture("examples", "Examples of every class", caption, png(figure))


def _treatments(signs: Signs) -> Picture:
    caption = (
        "The same signs, from bright to dark, in every size and treatment. RGB is as photographed, L is its "
        "grey; HE makes the histogram of the whole photograph even, LHE that around each pixel, CLAHE that "
        "of tiles an eighth as wide as the photograph: three pixels of 24, where it brings out more noise "
        "than sign. Look at the dark columns: without treatment they are nearly black."
    )
    figure = sign_pictures.treatments_sheet(signs.treated)
    return Picture("treatments", "Every treatment side by side", caption, png(figure))


def _tracks(signs: Signs) -> Picture:
    train = signs.train
    tracks, lengths = np.unique(train.groups, return_counts=True)
    chosen = tracks[((np.arange(SHOWN_TRACKS) + 0.5) * len(tracks) / SHOWN_TRACKS).astype(int)]
    members = [np.flatnonzero(train.groups == track) for track in chosen]
    titles = [
        f"{signs.names[train.labels[m[0]]]}: {len(m)} frames, from {train.sizes[m[0], 0]} to "
        f"{train.sizes[m[-1], 0]} pixels wide"
        for m in members
    ]
    figure = sign_pictures.filmstrips([train.images[m] for m in members], titles)
    usual = int(np.median(lengths))
    caption = (
        f"The training set is {len(tracks):,} tracks: a car drives by a sign, and its camera takes {usual} "
        f"frames ({(lengths != usual).sum()} track of {lengths.min()}). The frames of a track are nearly "
        "the same photograph: the set has many photographs, and few signs."
    )
    return Picture("tracks", "Tracks: one sign, thirty photographs", caption, png(figure))


def _growth(signs: Signs) -> Picture:
    train = signs.train
    tracks, lengths = np.unique(train.groups, return_counts=True)
    whole = tracks[lengths == lengths.max()]  # a shorter one has no frame at some place
    widths = train.sizes[np.isin(train.groups, whole), 0].reshape(len(whole), -1)
    times = np.median(widths[:, -1] / widths[:, 0])
    caption = (
        f"As the car comes nearer, the sign grows: the last frame is {times:.1f} times as wide as the first, "
        "in the median. The first frames of every track are small and blurred, whatever the sign."
    )
    return Picture("growth", "Signs that grow", caption, png(sign_charts.growth(widths)))
