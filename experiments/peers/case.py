"""Network, batch size and images that every framework trains with."""

import dataclasses
from collections.abc import Callable

import numpy as np

LEARNING_RATE = 1e-3
EXAMPLES = 8192


@dataclasses.dataclass(frozen=True)
class Case:
    """Network to train, described by numbers that any framework can build it from.

    Attributes:
        model: Name in `fidle_jax.nn.MODELS`.
        image_shape: Height, width, channels.
        batch_size: Images per step.
        classes: Units of the last layer.
        blocks: Number of kernels of each 3x3 convolution, block by block. All convolutions but the
            last of a block are padded. A 2x2 max pooling ends the block.
        hidden: Units of the hidden dense layer.
        dropout: Rates after each block and after the hidden layer.
    """

    model: str
    image_shape: tuple[int, int, int]
    batch_size: int
    classes: int
    blocks: tuple[tuple[int, ...], ...]
    hidden: int
    dropout: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Network in training.

    Attributes:
        train: Function that trains for a number of steps, waits, and returns the loss: that of the
            last step or the mean since the start. None in another process.
        parameters: Number of parameters of the network.
        setting: Chosen configuration, if the framework leaves a choice.
        version: Version of the framework.
        at_once: The number of steps is a multiple of this.
    """

    train: Callable[[int], float] | None
    parameters: int
    setting: str
    version: str
    at_once: int = 1


def made_up_images(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 images (example, height, width, channel) and int32 labels, always the same."""
    examples = max(EXAMPLES, 2 * case.batch_size)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (examples, *case.image_shape), dtype=np.uint8)
    return images, rng.integers(0, case.classes, examples, dtype=np.int32)
