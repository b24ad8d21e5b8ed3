"""Fusion of a convolution, bias, ReLU and max pooling in a jaxpr, with their gradients.

The equations between a convolution and its pooling may insert or remove axes of size 1 and transpose
axes, as `jax.vmap` and layers for other orders of axes do. If anything else uses one of the arrays in
between, the convolution is left alone.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn, Literal, Var

from fidle_jax.kernels import bilinear, forward
from fidle_jax.kernels.arrays import Array, same_varying
from fidle_jax.kernels.auto import Problem, problem_of
from fidle_jax.kernels.bilinear import ConvSpec
from fidle_jax.kernels.convolution import conv_max_p
from fidle_jax.kernels.general import ConvCall, transposed_geometry
from fidle_jax.kernels.geometry import resolve_geometry
from fidle_jax.kernels.jaxprs import Atom, Program, inner_jaxprs, open_jaxpr
from fidle_jax.kernels.materialize import add_bias

# Equations that only rearrange an array if they keep its values.
VIEWS = frozenset(
    {"reshape", "squeeze", "expand_dims", "broadcast_in_dim", "transpose", "reduce_sum", "copy"}
)


class View(NamedTuple):
    """The axes of an array in terms of (batch, *spatial, channel): their index, or None for size 1."""

    axes: tuple[int | None, ...]

    def restore(self, array: Array, shape: tuple[int, ...]) -> Array:
        """Return the array (batch, *spatial, channel) with these axes, in ``shape``."""
        order = [axis for axis in self.axes if axis is not None]
        unit = [axis for axis in range(array.ndim) if axis not in order]
        return array.transpose((*unit, *order)).reshape(shape)

    def canonical(self, array: Array, shape: tuple[int, ...]) -> Array:
        """Return an array with these axes as (batch, *spatial, channel) of ``shape``."""
        order = sorted(
            range(array.ndim), key=lambda i: (self.axes[i] is not None, self.axes[i] or 0)
        )
        return array.transpose(order).reshape(shape)


class NoMatch(Exception):
    """The program computes something else than the pattern."""


def fuse_conv_pools(program: Program, calls: dict[int, ConvCall]) -> dict[int, Problem]:
    """Replace each convolution with its max pooling, and the equations of their gradients.

    Args:
        program: Program to change.
        calls: Convolutions by the index of their equation.

    Returns:
        Problem of each replaced convolution and pooling by the index of its equation.
    """
    problems: dict[int, Problem] = {}
    for index, call in calls.items():
        if call.out == "y" and call.spec.groups == 1 and index not in program.replaced:
            try:
                pattern = Pattern(program, calls, index)
            except NoMatch:
                continue
            problems |= pattern.replace()
    return problems


class Pattern:
    """A convolution and the equations that depend on it, up to the pooling and the gradients."""

    def __init__(self, program: Program, calls: dict[int, ConvCall], index: int):
        self.program, self.calls, self.index = program, calls, index
        self.eqn, self.call = program.eqns[index], calls[index]
        self.bias: Var | None = None
        self.relu: str | None = None  # stage of the ReLU's input
        self.pool: Any = None  # geometry of the pooling, and stage of its input
        self.pools: dict[int, View] = {}  # equations of the pooling
        self.scatters: dict[int, View] = {}  # equations of its gradient
        self.masks: dict[Var, View] = {}  # comparisons of the ReLU's input or output with 0
        self.mask_stages: set[str] = set()  # stages of their inputs
        # Sums of the gradient, with the scatter's index.
        self.sums: dict[int, tuple[int, View]] = {}
        # Convolutions of the gradient, and their role.
        self.gradients: dict[int, tuple[int, str]] = {}
        output = self.eqn.outvars[0]
        order = self.call.out_axes
        axes = (order.index(axis) for axis in range(len(order)))
        view = _view(axes, shape_of(output))
        self._follow_forward(output, view, "conv")
        if not self.pools and not self.scatters:
            raise NoMatch
        for i, each in self.scatters.items():
            self._follow_gradient(i, each)
        has_relu = self.relu is not None
        if has_relu != (self.pool[1] == "relu") or self.mask_stages - {self.relu, "relu"}:
            raise NoMatch

    def _users(self, var):
        if var in self.program.is_output:
            raise NoMatch
        return [(i, self.program.eqns[i]) for i in self.program.users[var]]

    def _follow_forward(self, var, view, stage):
        for i, eqn in self._users(var):
            name, output = eqn.primitive.name, eqn.outvars[0]
            if (changed := _changed_view(eqn, view)) is not None:
                self._follow_forward(output, changed, stage)
            elif name == "add" and stage == "conv" and self.bias is None:
                self.bias = self._bias_of(eqn, var, view)
                self._follow_forward(output, view, "bias")
            elif is_relu(eqn, self.program):
                if stage == "relu" or self.relu not in (None, stage):
                    raise NoMatch
                self.relu = stage
                self._follow_forward(output, view, "relu")
            elif name == "gt" and _is_zero(eqn.invars[1], self.program):
                self.mask_stages.add(stage)
                self._follow_mask(output, view)
            elif name == "reduce_window_max":
                self._set_pool(eqn, view, stage)
                self.pools[i] = view
            elif name == "select_and_scatter_add" and eqn.invars[0] is not var:
                self._set_pool(eqn, view, stage)
                self.scatters[i] = view
            else:
                raise NoMatch

    def _follow_mask(self, var, view):
        self.masks[var] = view
        for _, eqn in self._users(var):
            if (changed := _changed_view(eqn, view)) is not None:
                self._follow_mask(eqn.outvars[0], changed)
            elif eqn.primitive.name != "select_n" or eqn.invars[0] is not var:
                raise NoMatch

    def _bias_of(self, eqn, var, view):
        """Return the variable of the bias, with one value per channel."""
        (other,) = [atom for atom in eqn.invars if atom is not var] or [None]
        channel = len(self.call.out_axes) - 1
        axis = view.axes.index(channel) if channel in view.axes else None
        if not isinstance(other, Var):
            raise NoMatch
        shape, source = shape_of(other), self.program.producer.get(other)
        if _is_bias(shape, axis):
            return other
        if source is None or source.primitive.name != "broadcast_in_dim":
            raise NoMatch
        bias, at = source.invars[0], [1] * len(shape)
        targets = source.params["broadcast_dimensions"]
        for size, target in zip(shape_of(bias), targets, strict=True):
            at[target] = size
        if not isinstance(bias, Var) or not _is_bias(at, axis):
            raise NoMatch
        return bias

    def _set_pool(self, eqn, view, stage):
        params, rank = eqn.params, len(self.call.spec.geometry.size)
        dilations = *params.get("base_dilation", ()), *params.get("window_dilation", ())
        window, strides = [1] * rank, [1] * rank
        columns = zip(
            view.axes,
            params["window_dimensions"],
            params["window_strides"],
            params["padding"],
            strict=True,
        )
        for axis, size, stride, padding in columns:
            is_spatial = axis is not None and 0 < axis <= rank
            if tuple(padding) != (0, 0) or (not is_spatial and (size, stride) != (1, 1)):
                raise NoMatch
            if axis is not None and is_spatial:
                window[axis - 1], strides[axis - 1] = size, stride
        if (
            any(factor != 1 for factor in dilations)
            or params.get("select_prim", lax.ge_p) is not lax.ge_p
        ):
            raise NoMatch
        try:
            pool = resolve_geometry(self.call.spec.geometry.count, window, strides), stage
        except ValueError:
            raise NoMatch from None
        if self.pool not in (None, pool):
            raise NoMatch
        self.pool = pool

    def _follow_gradient(self, scatter, view):
        """Follow the gradient of the pooling to the sums and the convolutions."""

        def follow(var, view, is_masked):
            for i, eqn in self._users(var):
                name, output = eqn.primitive.name, eqn.outvars[0]
                if (changed := _changed_view(eqn, view)) is not None:
                    follow(output, changed, is_masked)
                elif name == "select_n" and eqn.invars[0] in self.masks and not is_masked:
                    which, on_false, on_true = eqn.invars
                    if on_true is not var or not _is_zero(on_false, self.program):
                        raise NoMatch
                    if not isinstance(which, Var) or self.masks[which] != view:
                        raise NoMatch
                    follow(output, view, True)
                elif is_masked != (self.relu is not None):
                    raise NoMatch
                elif name == "reduce_sum" and _sums_all_pixels(eqn, view, self.pool[0]):
                    self.sums[i] = scatter, view
                elif i in self.calls:
                    self.gradients[i] = scatter, self._role_of(i, eqn, var, view)
                else:
                    raise NoMatch

        follow(self.program.eqns[scatter].outvars[0], view, False)

    def _role_of(self, index, eqn, var, view):
        """Return the role of a gradient of this convolution, "x" or "w"."""
        call, geometry = self.calls[index], self.call.spec.geometry
        lhs, rhs = eqn.invars
        if call.spec.groups != 1 or call.spec.precision != self.call.spec.precision or lhs is rhs:
            raise NoMatch
        if call.out == "w" and rhs is var:
            order, found = call.rhs_axes, call.spec.geometry
            order = (order[-2], *order[:-2], order[-1])
        elif call.out in ("x", "y") and lhs is var:
            order, found = call.lhs_axes, call.spec.geometry
            if call.out == "y":
                if set(found.strides) != {1}:
                    raise NoMatch
                lows = [low for low, _ in found.padding]
                sides = call.spec.spatial, found.count
                found = transposed_geometry(found.size, found.strides, found.dilation, lows, *sides)
        else:
            raise NoMatch
        expected = range(len(order))
        has_order = all(
            view.axes[axis] in (None, i) for axis, i in zip(order, expected, strict=True)
        )
        images = call.spec.geometry.count if call.out == "y" else call.spec.spatial
        if not has_order or images != self.call.spec.spatial or not _same_windows(found, geometry):
            raise NoMatch
        return "w" if call.out == "w" else "x"

    def replace(self) -> dict[int, Problem]:
        """Replace the equations. Return the problem by the index of each convolution and pooling."""
        program, pool = self.program, self.pool[0]
        relu = self.pool[1] == "relu"
        spec = self.call.spec._replace(pool=pool)
        bias = [] if self.bias is None or self.pool[1] == "conv" else [self.bias]

        def pooled(lhs, rhs, *bias):
            x, w = self.call.inputs(lhs, rhs)
            y, argmax = conv_max_p.bind(*same_varying(x, w), spec=spec)
            if bias or relu:
                b = bias[0].reshape(-1) if bias else jnp.zeros(y.shape[-1], y.dtype)
                y = add_bias(y, b, relu)
            return y, argmax

        shared: list[Var] = []  # pooled values and their argmax
        arguments = [*self.eqn.invars, *bias]
        gradients: dict[int, Var] = {}
        for i in sorted((*self.pools, *self.scatters)):
            eqn, is_pool = program.eqns[i], i in self.pools
            view = self.pools[i] if is_pool else self.scatters[i]

            out = shape_of(eqn.outvars[0])

            def result(y, *gradient, view=view, shape=out):
                if not gradient:
                    return view.restore(y, shape)
                values = view.canonical(gradient[0], y.shape)
                return jnp.where(y > 0, values, jnp.zeros((), y.dtype)) if relu else values

            def compute(*arrays, function=result):
                y, argmax = pooled(*arrays[: len(arguments)])
                return [function(y, *arrays[len(arguments) :]), y, argmax]

            inputs = [] if is_pool else [eqn.invars[0]]
            outputs = eqn.outvars if is_pool else []
            if shared:
                repeat = [shared[0], *inputs]
                again = functools.partial(lambda function, *a: [function(*a)], result)
                new = program.replace(i, again, repeat, outputs)
            else:
                new = program.replace(i, compute, [*arguments, *inputs], outputs)
            if not is_pool:
                gradients[i] = new.pop(0)
            shared = shared or new
        for i, (scatter, view) in self.sums.items():
            self._replace_sum(i, view, gradients[scatter])
        for i, (scatter, role) in self.gradients.items():
            self._replace_gradient(i, role, spec, gradients[scatter], shared[1])
        problem = self._problem(spec)
        return dict.fromkeys((self.index, *self.pools, *self.scatters, *self.gradients), problem)

    def _replace_sum(self, index, view, gradient):
        eqn = self.program.eqns[index]
        shape = [1 if axis is None else shape_of(gradient)[axis] for axis in view.axes]

        def add_up(gradient):
            return [view.restore(gradient, tuple(shape)).sum(axis=eqn.params["axes"])]

        self.program.replace(index, add_up, [gradient], eqn.outvars)

    def _replace_gradient(self, index, role, spec, gradient, argmax):
        eqn, call = self.program.eqns[index], self.calls[index]
        other = eqn.invars[0 if role == "w" else 1]

        def compute(other, gradient, argmax):
            if role == "w":
                lhs = other.transpose(call.lhs_axes)
                result = bilinear.bind("w", spec, jnp.swapaxes(lhs, 0, -1), gradient, argmax)
                return [call.result(result)]
            kernel = forward.reverse(other.transpose(call.rhs_axes), 1)
            result = bilinear.bind("x", spec, kernel, gradient, argmax)
            return [call._replace(out="x").result(result)]

        self.program.replace(index, compute, [other, gradient, argmax], eqn.outvars)

    def _problem(self, spec: ConvSpec) -> Problem:
        x, w = jax.eval_shape(self.call.inputs, *(atom.aval for atom in self.eqn.invars))
        return problem_of("conv_pool", x.shape, w.shape[-1], spec.geometry, 1, spec.pool)


def shape_of(atom: Any) -> tuple[Any, ...]:
    """Return the shape of a variable or a literal."""
    return atom.aval.shape


def is_relu(eqn: JaxprEqn, program: Program) -> bool:
    """Return True for ``max(x, 0)``, also inside of `jax.jit` and `jax.custom_jvp`."""
    if eqn.primitive.name == "max":
        return any(_is_zero(atom, program) for atom in eqn.invars)
    if eqn.primitive.name not in ("jit", "pjit", "custom_jvp_call"):
        return False
    inner = [open_jaxpr(each) for each in inner_jaxprs(eqn)]
    if len(inner) != 1 or len(inner[0].eqns) != 1 or len(eqn.invars) != 1:
        return False
    (only,) = inner[0].eqns
    return inner[0].outvars == only.outvars and is_relu(only, Program(inner[0].eqns, []))


def _is_zero(atom: Atom, program: Program) -> bool:
    """Return True for the literal 0, also broadcast."""
    if isinstance(atom, Literal):
        return jnp.ndim(atom.val) == 0 and bool(atom.val == 0)
    source = program.producer.get(atom)
    if source is None or source.primitive.name != "broadcast_in_dim":
        return False
    return _is_zero(source.invars[0], program)


def _is_bias(shape, axis):
    return all(size == 1 for i, size in enumerate(shape) if i != axis)


def _view(axes, shape):
    return View(tuple(None if size == 1 else axis for axis, size in zip(axes, shape, strict=True)))


def _changed_view(eqn: JaxprEqn, view: View) -> View | None:
    """Return the view of the result, or None if the equation does not only rearrange its input."""
    name = eqn.primitive.name
    if name not in VIEWS or not isinstance(eqn.invars[0], Var):
        return None
    before, after = shape_of(eqn.invars[0]), shape_of(eqn.outvars[0])
    if name == "transpose":
        return View(tuple(view.axes[axis] for axis in eqn.params["permutation"]))
    sizes = [size for size in before if size != 1]
    if sizes != [size for size in after if size != 1]:
        return None
    axes = iter([axis for axis in view.axes if axis is not None])
    return View(tuple(None if size == 1 else next(axes) for size in after))


def _sums_all_pixels(eqn, view, pool):
    """Return True for a sum over all spatial axes, which needs only the pooled gradient."""
    summed = {view.axes[axis] for axis in eqn.params["axes"]}
    spatial = {axis for axis in view.axes if axis is not None and 0 < axis <= len(pool.size)}
    return spatial <= summed


def _same_windows(a, b):
    return a is not None and (
        (a.size, a.strides, a.dilation, a.count) == (b.size, b.strides, b.dilation, b.count)
        and [low for low, _ in a.padding] == [low for low, _ in b.padding]
    )
