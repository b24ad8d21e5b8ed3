"""A network for small colour images that two CPU cores train in minutes."""

import itertools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from fidle_jax.nn.contrast import normalize_contrast
from fidle_jax.nn.layers import BatchNorm, Conv, Dense, Dropout, Flatten, MaxPool


class Compact(nn.Module):
    """Blocks of convolutions with batch norms, the first of each pooled; then two dense layers.

    On few pixels and many channels a convolution is computed at up to twice the rate, on a CPU, of one
    on many pixels and few channels. So every block begins with the pooled convolution, which one
    kernel computes, and further ones come after it, on a quarter of the pixels; these are residual
    (He et al., 2016) where they keep the number of channels. Pooling comes before the normalization
    and the ReLU, which then have a quarter to do, too. The network sees an image with its local
    contrast normalized, and beside that its grey copy as it is.

    Attributes:
        classes: number of classes.
        blocks: kernels of each convolution, block by block.
        stem: side of the first convolution's window.
        hidden: neurons of the hidden dense layer.
        width: of all these numbers of kernels and neurons, what multiple there is.
        dropout: rates before the two dense layers.
        momentum: of the batch norms' running statistics.
        fuse: compute a convolution and its pooling by one kernel; the result is the same.
        method: how convolutions are computed (see `Conv`).
        axis_name: of the mapped axis that batches are spread over, if there is one.
    """

    classes: int = 43
    blocks: tuple[tuple[int, ...], ...] = ((32,), (64, 96), (128, 128))
    stem: int = 5
    hidden: int = 256
    width: float = 1.0
    dropout: tuple[float, ...] = (0.3, 0.5)
    momentum: float = 0.95
    fuse: bool = True
    method: str = "auto"
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channel"],
        *,
        train: bool = False,
        example_index: Int[Array, " batch"] | None = None,
    ) -> Float[Array, "batch class"]:
        """The logits."""
        how = {"train": train, "example_index": example_index}
        numbers = itertools.count(1)

        def normalized(x, residual=None):
            number = next(numbers)
            norm = BatchNorm(self.axis_name, self.momentum, name=f"norm_{number}")
            x = norm(x, **how)
            return jax.nn.relu(x if residual is None else x + residual)

        side = self.stem
        light = x.mean(-1, keepdims=True) - 0.5
        x = jnp.concatenate([normalize_contrast(x) / 2, light], axis=-1)
        for i, block in enumerate(self.blocks, start=1):
            first, *others = map(self._widened, block)
            conv, pool = self._conv(i, 1, first, side), MaxPool(name=f"pool_{i}")
            x = normalized(conv(x, pool=pool.window) if self.fuse else pool(conv(x)))
            for j, features in enumerate(others, start=2):
                y = self._conv(i, j, features, 3)(x)
                x = normalized(y, x if features == x.shape[-1] else None)
            side = 3
        x = Flatten(name="flatten")(x)
        x = Dropout(self.dropout[0], name="dropout_1")(x, **how)
        x = normalized(Dense(self._widened(self.hidden), name="dense_1")(x))
        x = Dropout(self.dropout[1], name="dropout_2")(x, **how)
        return Dense(self.classes, name="dense_2")(x)

    def _widened(self, number: int) -> int:
        return round(self.width * number)

    def _conv(self, block: int, number: int, features: int, side: int) -> Conv:
        return Conv(
            features,
            (side, side),
            padding="same",
            plain=True,
            kernel_init=nn.initializers.he_normal(),
            method=self.method,
            name=f"conv_{block}_{number}",
        )

    def smallest_image(self) -> int:
        """Height and width of the smallest images that leave something after the last pooling."""
        return 2 ** len(self.blocks)
