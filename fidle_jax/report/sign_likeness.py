"""Figures of photographs that are alike, and of mirror images, with what each caption tells to look for."""

import numpy as np
from jaxtyping import Float, UInt8

from fidle_jax.report import likeness, sign_charts, sign_pictures
from fidle_jax.report.html import Picture, brief_percent
from fidle_jax.report.likeness import Nearest
from fidle_jax.report.sign_data import Signs
from fidle_jax.report.style import png

SHOWN_PAIRS = 12
# Photographs are near-duplicates where they are as alike as the likest tenth of successive frames.
LIKEST = 90  # percent
LIGHT = 110  # a mean pixel of which a photograph is clear to the eye


Copies = Float[np.ndarray, "train features"]
Examples = UInt8[np.ndarray, "classes h w 3"]


def draw_likeness(signs: Signs, copies: Copies, nearest: Nearest) -> list[Picture]:
    """Duplicates, near-duplicates and mirror images; ``copies`` are the training set's grey ones."""
    successive = likeness.of_successive_frames(copies, signs.train.groups)
    threshold = float(np.percentile(successive, LIKEST))
    return [
        _duplicates(signs),
        _likeness(signs, nearest, threshold),
        _near_duplicates(signs, nearest, threshold),
        *_mirrors(signs, copies),
    ]


def _duplicates(signs: Signs) -> Picture:
    train, test = signs.train, signs.test
    found = likeness.where_first(test.digests, train.digests)
    same = np.flatnonzero(found >= 0)
    within = [int(likeness.repeats(split.digests).sum()) for split in (train, test)]
    caption = (
        f"Photographs whose pixels are all those of another: {within[0]} within the training set, "
        f"{within[1]} within the test set, and {len(same)} of the test set that training has as well."
    )
    if not len(same):
        return Picture("duplicates", "Duplicates", caption, None)
    shown = same[:SHOWN_PAIRS]
    pairs = [[test.images[k], train.images[found[k]]] for k in shown]
    names = [(signs.names[test.labels[k]], signs.names[train.labels[found[k]]]) for k in shown]
    tracks = len(np.unique(train.groups[found[same]]))
    caption += (
        f" These {len(same)} (left: test, right: training) are frames of {tracks} training "
        f"track{'' if tracks == 1 else 's'}: too few to move an accuracy by more than "
        f"{100 * len(same) / len(test.labels):.2f} percentage points, but the two sets are not wholly apart."
    )
    return Picture(
        "duplicates", "Duplicates", caption, png(sign_pictures.pairs_sheet(pairs, names))
    )


def _likeness(signs: Signs, nearest: Nearest, threshold: float) -> Picture:
    groups = signs.train.groups
    own = (groups[nearest.index] == groups).mean()
    near = [(c >= threshold).mean() for c in (nearest.correlation, nearest.test_correlation)]
    caption = (
        "How much each photograph is like the most similar other one of the training set: the correlation of "
        f"their grey copies, {likeness.SIDE} pixels a side. Near-duplicates are as alike as the likest tenth "
        f"of successive frames of a track. Of the training photographs {brief_percent(own)} have their most "
        f"similar one in their own track, {brief_percent(near[0])} as a near-duplicate; of the test "
        f"photographs {brief_percent(near[1])} have a near-duplicate."
    )
    chart = sign_charts.likeness_histogram(nearest.correlation, nearest.test_correlation, threshold)
    return Picture("likeness", "How alike photographs are", caption, png(chart))


def _near_duplicates(signs: Signs, nearest: Nearest, threshold: float) -> Picture:
    train, test = signs.train, signs.test
    title = "Near-duplicates of training in the test set"
    exact = np.isin(test.digests, train.digests)
    near = np.flatnonzero((nearest.test_correlation >= threshold) & ~exact)
    if not len(near):
        return Picture("near", title, "There are none.", None)
    agree = test.labels[near] == train.labels[nearest.test_index[near]]
    order = near[np.argsort(-nearest.test_correlation[near], kind="stable")]
    shown = likeness.first_of_each(train.groups[nearest.test_index], order)[:SHOWN_PAIRS]
    partner = nearest.test_index[shown]
    pairs = [[test.images[k], train.images[j]] for k, j in zip(shown, partner, strict=True)]
    names = [
        (signs.names[test.labels[k]], signs.names[train.labels[j]])
        for k, j in zip(shown, partner, strict=True)
    ]
    caption = (
        "The likest pairs, one of each training track (left and first name: test, right and second name: "
        f"training). Of the {len(near)} test photographs that have a near-duplicate, beyond those with the "
        f"very same pixels, {brief_percent(agree.mean())} are of its class: two signs may be as alike as two "
        "frames of one, and differ in a few pixels."
    )
    return Picture("near", title, caption, png(sign_pictures.pairs_sheet(pairs, names)))


def _mirrors(signs: Signs, copies: Copies) -> list[Picture]:
    train, classes = signs.train, len(signs.names)
    light = train.images.mean(axis=(1, 2, 3))
    merits = train.sizes.min(axis=1) * np.minimum(light, LIGHT)
    examples = train.images[likeness.clearest(copies, train.labels, merits, classes)]
    means = np.stack([train.images[train.labels == k].mean(axis=0) for k in range(classes)])
    means = (255 * means / means.max(axis=(1, 2, 3), keepdims=True)).astype(np.uint8)
    return [_mirrored(signs, examples, means), _unmirrored(signs, examples, means)]


def _mirrored(signs: Signs, examples: Examples, means: Examples) -> Picture:
    pairs = [(k, other) for k, other in enumerate(signs.mirrored) if other >= 0]
    pictures = [
        [x for of in (examples, means) for x in (of[k], of[k][:, ::-1], of[j])] for k, j in pairs
    ]
    words = [
        f"{k} {signs.names[k]} → {'itself' if j == k else f'{j} {signs.names[j]}'}"
        for k, j in pairs
    ]
    caption = (
        "Left and right of these may be swapped, if the label changes with them. Of each: a clear example, "
        "its mirror image, an example of the class that it becomes; then the same of the mean of all "
        "photographs. The second and the third of each three have to be the same sign."
    )
    drawn = png(sign_pictures.mirrors_sheet(pictures, words, across=2)) if pairs else None
    return Picture("mirrored", "Mirror images that are signs", caption, drawn)


def _unmirrored(signs: Signs, examples: Examples, means: Examples) -> Picture:
    alone = [k for k, other in enumerate(signs.mirrored) if other < 0]
    pictures = [[examples[k], examples[k][:, ::-1], means[k][:, ::-1]] for k in alone]
    words = [f"{k} {signs.names[k]}" for k in alone]
    caption = (
        "Of each: a clear example, its mirror image, and the mirrored mean. Digits and letters, diagonal "
        "bars, what walks or drives to one side, arrows that turn: the mirror image is no sign of the "
        "benchmark, and these are not to be flipped."
    )
    drawn = png(sign_pictures.mirrors_sheet(pictures, words, across=4)) if alone else None
    return Picture("unmirrored", "Mirror images that are none", caption, drawn)
