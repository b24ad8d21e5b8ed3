"""What every framework is given: a network, a batch size, and images."""

import dataclasses
from collections.abc import Callable

import numpy as np

LEARNING_RATE = 1e-3
EXAMPLES = 8192


@dataclasses.dataclass(frozen=True)
class Case:
    """A network to train, in numbers that any framework can build it from.

    Attributes:
        model: its name here (`fidle_jax.nn.MODELS`).
        image_shape: height, width, channels.
        batch_size: images a step.
        classes: neurons of the last layer.
        blocks: kernels of each 3x3 convolution, block by block: all but a block's last are padded,
            and after it comes a 2x2 max pooling.
        hidden: neurons of the hidden dense layer.
        dropout: rates after each block and after the hidden layer.
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
    """A network in training.

    Attributes:
        train: (steps) -> None, when they are done; sent to another process, None.
        parameters: how many the network has.
        setting: what was chosen where the framework leaves a choice.
        version: of the framework.
        at_once: steps come in multiples of this.
    """

    train: Callable[[int], None] | None
    parameters: int
    setting: str
    version: str
    at_once: int = 1


def made_up_images(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images (example, height, width, channel) and int32 labels, always the same."""
    examples = max(EXAMPLES, 2 * case.batch_size)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (examples, *case.image_shape), dtype=np.uint8)
    return images, rng.integers(0, case.classes, examples, dtype=np.int32)
