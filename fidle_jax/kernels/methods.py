"""Methods of convolution by name: those of this package and registered ones."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable

from fidle_jax.kernels import fft, fused, im2col, reference, shifted, winograd, winograd_1d, xla
from fidle_jax.kernels.arrays import Array
from fidle_jax.kernels.filtering import FOURS
from fidle_jax.kernels.windows import Windows


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to compute a convolution.

    Attributes:
        conv: Function called as ``conv(x, w, strides=, padding=, dilation=, groups=)``. All arguments
            are tuples with one integer per spatial axis (padding: one pair), and groups an integer.
        supports: Function (window size, strides, dilation) -> bool.
        exact: Each output depends only on the values in its window, also for infinities and for
            numbers near the largest float. Other methods of this package are guarded.
        local: Rounding errors are relative to the values in the window. "auto" selects only these.
    """

    conv: Callable[..., Array]
    supports: Callable[[tuple[int, ...], tuple[int, ...], tuple[int, ...]], bool]
    exact: bool = True
    local: bool = True


def supports_everything(size, strides, dilation) -> bool:
    """Accept all windows."""
    return True


_METHODS = {
    "reference": Method(reference.conv, supports_everything),
    "xla": Method(xla.conv, supports_everything),
    "im2col": Method(im2col.conv, supports_everything),
    "shifted": Method(shifted.conv, supports_everything),
    "winograd": Method(winograd.conv, winograd.supports, exact=False),
    "winograd_4": Method(
        functools.partial(winograd.conv, filtering=FOURS),
        winograd.supports_fours,
        exact=False,
        local=False,
    ),
    "fft": Method(fft.conv, supports_everything, exact=False, local=False),
}
# Methods of this package that are primitives for JAX; the others are plain JAX functions.
OPAQUE = frozenset({"im2col", "shifted", "winograd", "winograd_4", "fft"})
_OWN = frozenset(_METHODS)


def conv_methods() -> dict[str, Method]:
    """Return all methods by name, registered ones last."""
    return dict(_METHODS)


@typing.no_type_check  # the function checks its arguments itself
def register(
    name: str,
    conv: Callable[..., Array],
    supports: Callable[
        [tuple[int, ...], tuple[int, ...], tuple[int, ...]], bool
    ] = supports_everything,
) -> None:
    """Make ``kernels.conv(..., method=name)`` call ``conv``. A second call replaces the first.

    Args:
        name: Name of the method.
        conv: Function as described in `Method`. It receives arrays of one floating-point type and
            validated arguments.
        supports: Function that says which windows the method computes; all by default. Other windows
            are refused before ``conv`` is called.

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
    _METHODS[name] = Method(conv, supports)


def find_method(name: str, windows: Windows) -> Method:
    """Return the method ``name`` for ``windows``.

    Raises:
        ValueError: There is no such method, or it does not support such windows.
    """
    if name not in _METHODS:
        known = ", ".join(map(repr, _METHODS))
        raise ValueError(f"unknown method {name!r}; it must be 'auto', {known}")
    method = _METHODS[name]
    if not method.supports(windows.size, windows.strides, windows.dilation):
        raise ValueError(
            f"method {name!r} does not support windows of {windows.size}, strides {windows.strides}, "
            f"dilation {windows.dilation}; use method='auto' or another one"
        )
    return method


@dataclasses.dataclass(frozen=True)
class PoolMethod:
    """A way to compute a convolution and the maximum over pools of it in one step.

    Attributes:
        conv_pool: Function (x, w, windows, pool, winner=None), see `fidle_jax.kernels.fused`.
        supports: Function (windows of the convolution, windows of the pooling) -> bool.
        local: As in `Method`. All of these methods are guarded.
    """

    conv_pool: Callable[..., fused.Pooled]
    supports: Callable[[Windows, Windows], bool]
    local: bool = True


_POOL_METHODS = {
    "fused": PoolMethod(fused.conv_pool, lambda windows, pool: True),
    "winograd_pool": PoolMethod(winograd.conv_pool, winograd.supports_pool),
    "winograd_pool_4": PoolMethod(
        functools.partial(winograd.conv_pool, filtering=FOURS),
        winograd.supports_pool_fours,
        local=False,
    ),
    "winograd_1d": PoolMethod(winograd_1d.conv_pool, winograd_1d.supports),
}


def conv_pool_methods() -> dict[str, PoolMethod]:
    """Return the methods that compute a convolution and its pooling in one step, by name."""
    return dict(_POOL_METHODS)
