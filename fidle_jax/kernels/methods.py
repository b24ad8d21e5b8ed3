"""Methods of convolution by name: those of this package and registered ones."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable

from fidle_jax.kernels import forward, fused, pallas, reference, simple_methods, winograd
from fidle_jax.kernels.arrays import Array
from fidle_jax.kernels.geometry import ConvGeometry

# A function (kernel size, strides, dilation) -> bool.
Supports = Callable[[tuple[int, ...], tuple[int, ...], tuple[int, ...]], bool]


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to compute a convolution.

    Attributes:
        conv: Function (x, w, geometry, groups) -> y.
        supports: Function (kernel size, strides, dilation) -> bool.
        exact: Each output depends only on the values in its window, also for infinities and for
            numbers near the largest float. Other methods of this package are guarded.
        local: Rounding errors are relative to the values in the window. "auto" selects only these.
        image_gradient: Function (w, y, geometry, groups, spatial shape) -> x. It is called if
            `forward.has_image_gradient`.
        kernel_gradient: Function (x, y, geometry) -> w. It is called for one group.
        transposed: Function like ``conv``, by default ``conv``. Its transposes are the gradients for
            which no function is given.
    """

    conv: Callable[..., Array]
    supports: Supports = lambda size, strides, dilation: True
    exact: bool = True
    local: bool = True
    image_gradient: Callable[..., Array] | None = None
    kernel_gradient: Callable[..., Array] | None = None
    transposed: Callable[..., Array] | None = None


_METHODS = {
    "reference": Method(reference.conv),
    "xla": Method(simple_methods.xla),
    "forward": Method(
        forward.conv,
        image_gradient=forward.image_gradient,
        kernel_gradient=forward.kernel_gradient,
        transposed=simple_methods.im2col,
    ),
    "im2col": Method(simple_methods.im2col),
    "shifted": Method(simple_methods.shifted),
    "winograd": Method(
        winograd.conv, winograd.supports, exact=False, image_gradient=winograd.image_gradient
    ),
    "fft": Method(simple_methods.fft, exact=False, local=False),
    "pallas": Method(
        pallas.conv,
        image_gradient=pallas.image_gradient,
        kernel_gradient=pallas.kernel_gradient,
        transposed=simple_methods.im2col,
    ),
}
# Methods of this package that are primitives for JAX; the others are plain JAX functions.
OPAQUE = frozenset({"forward", "im2col", "shifted", "winograd", "fft", "pallas"})
_OWN = frozenset(_METHODS)


def conv_methods() -> dict[str, Method]:
    """Return all methods by name, registered ones last."""
    return dict(_METHODS)


@typing.no_type_check  # the function checks its arguments itself
def register(name: str, conv: Callable[..., Array], supports: Supports = Method.supports) -> None:
    """Make ``kernels.conv(..., method=name)`` call ``conv``. A second call replaces the first.

    Args:
        name: Name of the method.
        conv: Function called as ``conv(x, w, strides=, padding=, dilation=, groups=)``. The arrays
            have one floating-point type. The arguments are validated: one integer per spatial axis
            (padding: one pair), and one integer for groups.
        supports: Function (kernel size, strides, dilation) -> bool. It accepts everything by default.
            Unsupported arguments raise an error before ``conv`` is called.

    Raises:
        TypeError: ``name`` is not a string, or ``conv`` or ``supports`` is not a function.
        ValueError: ``name`` belongs to this package.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"the name of a method is {name!r}; it must be a non-empty string")
    for label, function in (("conv", conv), ("supports", supports)):
        if not callable(function):
            raise TypeError(f"{label} is {function!r}; it must be a function")
    if name in _OWN or name == "auto":
        raise ValueError(f"method {name!r} belongs to fidle_jax; choose another name")

    def call(x, w, geometry, groups):
        names = ("strides", "padding", "dilation")
        return conv(x, w, groups=groups, **{name: getattr(geometry, name) for name in names})

    _METHODS[name] = Method(call, supports)


def find_method(name: str, geometry: ConvGeometry) -> Method:
    """Return the method ``name``. Raise ValueError if it is unknown or does not support the geometry."""
    if name not in _METHODS:
        known = ", ".join(map(repr, _METHODS))
        raise ValueError(f"unknown method {name!r}; it must be 'auto', {known}")
    method = _METHODS[name]
    if not method.supports(geometry.size, geometry.strides, geometry.dilation):
        raise ValueError(
            f"method {name!r} does not support windows of {geometry.size}, strides {geometry.strides}, "
            f"dilation {geometry.dilation}; use method='auto' or another one"
        )
    return method


@dataclasses.dataclass(frozen=True)
class PoolMethod:
    """A way to compute a convolution and the max pooling of it in one step. All of them are guarded.

    Attributes:
        conv_pool: Function (x, w, geometry, pool, argmax=None), see `fidle_jax.kernels.fused`.
        supports: Function (geometry of the convolution, geometry of the pooling) -> bool.
    """

    conv_pool: Callable[..., fused.Pooled]
    supports: Callable[[ConvGeometry, ConvGeometry], bool]


_POOL_METHODS = {
    "fused": PoolMethod(fused.conv_pool, lambda geometry, pool: True),
    "winograd_pool": PoolMethod(winograd.conv_pool, winograd.supports_pool),
    "winograd_1d": PoolMethod(winograd.conv_pool_1d, winograd.supports_pool_1d),
}


def conv_pool_methods() -> dict[str, PoolMethod]:
    """Return the methods that compute a convolution and its pooling in one step, by name."""
    return dict(_POOL_METHODS)
