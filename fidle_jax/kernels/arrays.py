"""Array types for annotations, with or without jaxtyping installed.

The kernels need only JAX. Without jaxtyping, the annotations say no more than `jax.Array`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Key, Shaped, UInt32
else:
    try:
        from jaxtyping import Array, Bool, Float, Int, Key, Shaped, UInt32
    except ImportError:
        from jax import Array

        class Float:
            """Stand-in for jaxtyping's types: ``Float[Array, "axes"]`` is ``Array``."""

            def __class_getitem__(cls, item):
                return item[0]

        Bool = Int = Key = Shaped = UInt32 = Float

# Public functions also accept NumPy arrays.
AnyArray = Array | np.ndarray

__all__ = ["AnyArray", "Array", "Bool", "Float", "Int", "Key", "Shaped", "UInt32", "sum_dtype"]


def sum_dtype(dtype: jax.typing.DTypeLike) -> np.dtype:
    """Return the type that sums are computed in: float64 for float64, otherwise float32.

    Unlike `jax.numpy.promote_types` this also works with strict promotion.
    """
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)
