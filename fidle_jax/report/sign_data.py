"""What the page about a set of traffic signs is made of: plain arrays."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped, UInt8

from fidle_jax.report.claims import Claim


@dataclass(frozen=True)
class Photographs:
    """A split, in the order of classes and tracks.

    Attributes:
      images: scaled to one size.
      labels: classes.
      sizes: width and height of the originals in pixels.
      digests: equal where all pixels of the files are.
    """

    images: UInt8[np.ndarray, "n h w 3"]
    labels: Int[np.ndarray, "n"]
    sizes: Int[np.ndarray, "n 2"]
    digests: Shaped[np.ndarray, "n"]


@dataclass(frozen=True)
class TrackedPhotographs(Photographs):
    """A training split, whose tracks are known.

    Attributes:
      groups: number of the track, counted over all classes.
    """

    groups: Int[np.ndarray, "n"]


@dataclass(frozen=True)
class Signs:
    """All that the page shows.

    Attributes:
      names: of the classes.
      mirrored: for each class the one that its mirror image is said to belong to, or -1.
      treated: some signs in each size and treatment, by the set's name.
      claims: of runs, perhaps none.
      commands: what to type for runs that the page could compare, a line each.
    """

    names: tuple[str, ...]
    mirrored: tuple[int, ...]
    train: TrackedPhotographs
    test: Photographs
    treated: dict[str, UInt8[np.ndarray, "sign h w c"]]
    claims: list[Claim]
    commands: str
