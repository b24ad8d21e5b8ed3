"""The methods of convolution by name, those of this package and those registered."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from fidle_jax.kernels import fft, fused, im2col, reference, shifted, winograd, winograd_1d, xla
from fidle_jax.kernels.filtering import FOURS
from fidle_jax.kernels.windows import Windows

if TYPE_CHECKING:
    from jaxtyping import Array


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to compute a convolution.

    Attributes:
        conv: the function, called as ``conv(x, w, strides=, padding=, dilation=, groups=)`` with a
            tuple of one whole number for each spatial axis (padding: of pairs) and a number of groups.
        supports: (window sizes, strides, dilation) -> whether it computes such windows.
    """

    conv: Callable[..., Array]
    supports: Callable[[tuple[int, ...], tuple[int, ...], tuple[int, ...]], bool]


def _everything(size, strides, dilation):
    return True


_METHODS = {
    "reference": Method(reference.conv, _everything),
    "xla": Method(xla.conv, _everything),
    "im2col": Method(im2col.conv, _everything),
    "shifted": Method(shifted.conv, _everything),
    "winograd": Method(winograd.conv, winograd.supports),
    "winograd_4": Method(
        functools.partial(winograd.conv, filtering=FOURS), winograd.supports_fours
    ),
    "fft": Method(fft.conv, _everything),
}
_OWN = frozenset(_METHODS)


def conv_methods() -> dict[str, Method]:
    """All methods by name, the registered ones last."""
    return dict(_METHODS)


def register(
    name: str,
    conv: Callable[..., Array],
    supports: Callable[[tuple[int, ...], tuple[int, ...], tuple[int, ...]], bool] = _everything,
) -> None:
    """Makes ``kernels.conv(..., method=name)`` call ``conv``; again with the same name replaces it.

    Args:
        name: of the method.
        conv: called as `Method` says, with arrays of one floating-point type and arguments that
            have been checked.
        supports: which windows it computes; all, if left out. Others are refused before it is called.

    Raises:
        ValueError: the name of a method of this package.
    """
    if name in _OWN or name == "auto":
        raise ValueError(f"method {name!r} is this package's own; expected another name")
    _METHODS[name] = Method(conv, supports)


def find_method(name: str, windows: Windows) -> Callable[..., Array]:
    """The function of the method ``name``, which is to compute ``windows``.

    Raises:
        ValueError: there is no such method, or it does not compute such windows.
    """
    if name not in _METHODS:
        known = ", ".join(map(repr, _METHODS))
        raise ValueError(f"unknown method {name!r}; expected 'auto', {known}")
    method = _METHODS[name]
    if not method.supports(windows.size, windows.strides, windows.dilation):
        raise ValueError(
            f"method {name!r} does not do windows of {windows.size}, strides {windows.strides}, "
            f"dilation {windows.dilation}; expected method='auto' or another"
        )
    return method.conv


@dataclasses.dataclass(frozen=True)
class PoolMethod:
    """A way to compute a convolution and the maximum over a pool of it as one.

    Attributes:
        conv_pool: (x, w, b, windows of the convolution, those of the pool, whether there is a ReLU).
        supports: (windows of the convolution, those of the pool) -> whether it computes them.
    """

    conv_pool: Callable[..., Array]
    supports: Callable[[Windows, Windows], bool]


_POOL_METHODS = {
    "fused": PoolMethod(fused.conv_pool, lambda windows, pool: True),
    "winograd_pool": PoolMethod(winograd.conv_pool, winograd.supports_pool),
    "winograd_pool_4": PoolMethod(
        functools.partial(winograd.conv_pool, filtering=FOURS), winograd.supports_pool_fours
    ),
    "winograd_1d": PoolMethod(winograd_1d.conv_pool, winograd_1d.supports),
}


def conv_pool_methods() -> dict[str, PoolMethod]:
    """The methods that compute a convolution and its pooling as one, by name."""
    return dict(_POOL_METHODS)
