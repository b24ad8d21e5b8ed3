"""The flags of each lesson, with their ranges. Importing this module imports no JAX: --help is fast."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from fidle_jax.errors import InputError, Range, check_range
from fidle_jax.train.config import described

Pixels = Annotated[int, Range(1, 10_000)]


@dataclasses.dataclass(frozen=True)
class Flags:
    """Flags of every lesson."""

    run_dir: Annotated[Path | None, described("runs/lesson/NAME/UTC time")] = None
    """Output directory of the page, its figures and numbers."""
    debug: bool = False
    """Show the traceback of an error."""

    def check(self) -> None:
        """Raise InputError if flags are incompatible. The parser checks the range of each flag."""


@dataclasses.dataclass(frozen=True)
class Budget(Flags):
    """Flags of every lesson that has a smaller budget."""

    quick: bool = False
    """Use a smaller budget, for a first look."""


@dataclasses.dataclass(frozen=True)
class Perceptron(Budget):
    """One neuron, its decision boundary, and the effect of a hidden layer."""

    points: Literal["xor", "moons", "rings"] = "xor"
    """Points that the hidden layers separate."""
    epochs: Annotated[int, Range(1, 2000)] = 200
    """Training epochs of each network."""
    learning_rate: Annotated[float, Range(0.001, 2)] = 0.2
    """Learning rate of gradient descent, in batches of 20 points."""
    seed: Annotated[int, Range(0, 2**31)] = 0
    """Seed of the points and of the first network; each further network uses the next seed."""


@dataclasses.dataclass(frozen=True)
class GradientDescent(Budget):
    """Gradient descent on a loss surface of two parameters: batch size, learning rate, optimizer."""

    epochs: Annotated[int, Range(20, 1000)] = 300
    """Training epochs; with all points in one batch, an epoch is one step."""
    batch_size: Annotated[int, Range(2, 99)] = 20
    """Batch size that is compared with 1 and with all 100 points."""
    # A step on a single point at x = 4 diverges above 2 / (2 (4² + 1)) = 0.059.
    learning_rate: Annotated[float, Range(0.001, 0.05)] = 0.03
    """Learning rate of gradient descent, with and without momentum."""
    seed: Annotated[int, Range(0, 2**31)] = 0
    """Seed of the points and of the shuffling."""


@dataclasses.dataclass(frozen=True)
class Activations(Flags):
    """The usual activation functions, their derivatives, and where they saturate."""

    span: Annotated[float, Range(1, 20)] = 5.0
    """Draw the functions from minus this to this."""
    layers: Annotated[int, Range(2, 100)] = 10
    """Number of layers through which a gradient is followed."""


@dataclasses.dataclass(frozen=True)
class Losses(Flags):
    """Cross-entropy and squared error step by step, and why networks are trained on logits."""

    logits: tuple[float, ...] = (2.0, 1.0, 0.1)
    """Logits of the worked example, one for each class."""
    label: int = 0
    """Label of the worked example, starting at 0."""

    def check(self) -> None:
        if not 2 <= len(self.logits) <= 6:
            raise InputError(
                f"--logits has {len(self.logits)} numbers; expected 2 to 6, one for each class"
            )
        for logit in self.logits:
            # A probability of exp(-80) is still a float32.
            check_range("logits", logit, -40, 40)
        check_range("label", self.label, 0, len(self.logits) - 1)


@dataclasses.dataclass(frozen=True)
class OfTables(Budget):
    """Flags of the lessons that train on the rows of a table."""

    epochs: Annotated[int, Range(1, 1000)] = 40
    """Training epochs."""
    learning_rate: Annotated[float, Range(1e-5, 0.1)] = 0.002
    """Learning rate of Adam; ten times as high without a hidden layer."""
    batch_size: Annotated[int, Range(1, 128)] = 16
    """Rows per step."""
    seed: Annotated[int, Range(0, 999_999)] = 0
    """Seed for the splits, the initial weights and the shuffling."""


@dataclasses.dataclass(frozen=True)
class Regression(OfTables):
    """Predict a number from a table row: the fuel economy of cars, or the progression of an illness."""

    table: Literal["autompg", "diabetes"] = "autompg"
    """autompg: fuel economy of cars; diabetes: progression of the illness within a year."""
    epochs: Annotated[int, Range(1, 1000)] = 150
    learning_rate: Annotated[float, Range(1e-5, 0.1)] = 0.001


@dataclasses.dataclass(frozen=True)
class Classification(OfTables):
    """Classify table rows: tumours as benign or malignant with a sigmoid, digits with a softmax."""


@dataclasses.dataclass(frozen=True)
class Overfitting(Budget):
    """Under-fitting and over-fitting: polynomials of increasing degree, then a neural network."""

    points: Annotated[int, Range(10, 200)] = 20
    """Number of training points."""
    noise: Annotated[float, Range(0.01, 1)] = 0.3
    """Standard deviation of the noise of the points."""
    degree_max: Annotated[int, Range(10, 100)] = 40
    """Highest degree of the polynomials; the lowest is 0."""
    seed: Annotated[int, Range(0, 2**31 - 5)] = 0
    """Seed for the points, the initial weights and dropout."""


@dataclasses.dataclass(frozen=True)
class Convolution(Flags):
    """Computation of a convolution, its image sizes, and its difference from a dense layer."""

    height: Pixels = 200
    """Height of the image of the layer that is compared with a dense layer."""
    width: Pixels = 200
    """Width of that image."""
    planes: Pixels = 3
    """Channels of that image: 1 for grey, 3 for colour."""
    kernels: Pixels = 8
    """Number of kernels, which is the number of output channels."""
    kernel_size: int = 3
    """Side of the square kernels."""

    def check(self) -> None:
        check_range("kernel-size", self.kernel_size, 1, min(self.height, self.width))


@dataclasses.dataclass(frozen=True)
class DenseVsCNN(Budget):
    """Compare a dense and a convolutional network with nearly the same number of parameters on digits."""

    data: Literal["sample", "full", "auto"] = "sample"
    """sample: the embedded digits; full: all of MNIST; auto: full if available, otherwise sample."""
    archives: Annotated[Path | None, described("$FIDLE_JAX_ARCHIVES")] = None
    """Directory with the official archive files."""
    data_dir: Annotated[Path | None, described("~/tensorflow_datasets")] = None
    """Directory of prepared data."""
    steps: Annotated[int, Range(1, 100_000)] = 400
    """Training steps of 128 digits for each training set size."""
    seeds: Annotated[int, Range(1, 100)] = 3
    """Number of networks of each kind and size, with the seeds 0, 1, ..."""


@dataclasses.dataclass(frozen=True)
class All(Flags):
    """Run every lesson, one after the other, and write a page with links to their pages."""

    quick: bool = True
    """Use the smaller budget of the lessons that have one."""


LESSONS: dict[str, type[Flags]] = {
    "perceptron": Perceptron,
    "gradient_descent": GradientDescent,
    "activations": Activations,
    "losses": Losses,
    "regression": Regression,
    "classification": Classification,
    "overfitting": Overfitting,
    "convolution": Convolution,
    "dense_vs_cnn": DenseVsCNN,
}
