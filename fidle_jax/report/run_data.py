"""All that the report shows of a run, as it was read."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8


@dataclass(frozen=True)
class Groups:
    """Groups of like classes: their names, in order, and the place of each class's among them."""

    names: list[str]
    of_class: Int[np.ndarray, "classes"]


@dataclass(frozen=True)
class Evaluation:
    """The test split, and the probabilities that the model gave to each class.

    ``groups`` is None where the data set has none.
    """

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int[np.ndarray, "n"]
    probabilities: Float[np.ndarray, "n classes"]
    class_names: list[str]
    groups: Groups | None = None

    @property
    def predicted(self) -> Int[np.ndarray, "n"]:
        """The most probable class of each example."""
        return self.probabilities.argmax(axis=1)


@dataclass(frozen=True)
class Augmented:
    """A training image, and what augmentation made of it, with the class of each."""

    image: UInt8[np.ndarray, "h w c"]
    label: int
    versions: UInt8[np.ndarray, "n h w c"]
    labels: Int[np.ndarray, "n"]


@dataclass(frozen=True)
class Run:
    """All that the report shows of a run.

    ``metrics`` has a column per name in METRICS, a row per epoch, NaN where nothing was measured.
    ``kernels`` (by layer) and ``maps`` (by number and layer, "01 conv_1") are in the order of the
    network; ``maps`` are the activations of test example ``digit``. ``augmented`` is None where nothing
    was, or by an earlier version.
    """

    config: dict
    result: dict
    model: dict
    metrics: dict[str, Float[np.ndarray, "epochs"]]
    evaluation: Evaluation
    kernels: dict[str, Float[np.ndarray, "k1 k2 c_in c_out"]]
    maps: dict[str, np.ndarray]
    digit: int
    augmented: Augmented | None = None

    @property
    def chosen_epoch(self) -> int | None:
        """The epoch whose weights are the best on what the run validated on; None: on nothing."""
        validated = self.result["best_validation_accuracy"] is not None
        return self.result["best_epoch"] if validated else None

    @property
    def chosen_on_test(self) -> bool:
        """Whether that was the test set."""
        return self.config.get("hold_out") == "test"
