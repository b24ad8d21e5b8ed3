"""Replacement of equations in a jaxpr, also in the jaxprs of loops, conditionals and other calls.

A jaxpr is copied, not traced again. So all equations that are not replaced keep their parameters,
effects, types and source lines.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
from jax._src import config as jax_config
from jax._src import core as jax_core
from jax.extend.core import (
    ClosedJaxpr,  # pyright: ignore[reportPrivateImportUsage]
    Jaxpr,
    JaxprEqn,
    Literal,
    Var,
)
from jax.extend.core.primitives import convert_element_type_p

from fidle_jax.kernels.arrays import varying_axes

# Primitives that evaluate the jaxprs in their parameters. Jaxprs of others, such as kernels of Pallas,
# are not changed.
LOOPS = frozenset({"scan", "while"})
CALLS = LOOPS | {
    "checkpoint",
    "closed_call",
    "cond",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vmap_call",
    "jit",
    "pjit",
    "remat",
    "remat2",
    "shard_map",
    "xla_pmap",
}
# Functions that return the jaxpr of a derivative.
THUNKS = ("jvp_jaxpr_fun", "fwd_jaxpr_thunk")

SMALL = 16  # equations of a jitted function that is inlined, for example an activation

Atom = Var | Literal
AnyJaxpr = Jaxpr | ClosedJaxpr


class Thunk:
    """A function of JAX that returns (jaxpr, ...), with a changed jaxpr."""

    def __init__(self, function: Any, change: Callable[[AnyJaxpr], AnyJaxpr]):
        self._function, self._change = function, change
        self.debug_info = function.debug_info

    def call_wrapped(self, *arguments: Any) -> Any:
        """Return the changed jaxpr and the other results."""
        jaxpr, *rest = self._function.call_wrapped(*arguments)
        return (self._change(jaxpr), *rest)


def is_jaxpr(value: Any) -> bool:
    """Return True for a jaxpr with or without constants."""
    return isinstance(value, (Jaxpr, ClosedJaxpr))


def open_jaxpr(jaxpr: AnyJaxpr) -> Jaxpr:
    """Return the jaxpr without the values of its constants."""
    return jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr


def inner_jaxprs(eqn: JaxprEqn) -> list[AnyJaxpr]:
    """Return the jaxprs that a call evaluates."""
    if eqn.primitive.name not in CALLS:
        return []
    values = (v if isinstance(v, tuple) else (v,) for v in eqn.params.values())
    return [each for value in values for each in value if is_jaxpr(each)]


def map_inner(eqn: JaxprEqn, change: Callable[[AnyJaxpr], AnyJaxpr]) -> JaxprEqn:
    """Return the equation with changed inner jaxprs."""
    if eqn.primitive.name not in CALLS:
        return eqn

    def change_value(name, value):
        if is_jaxpr(value):
            return change(value)
        if isinstance(value, tuple) and any(map(is_jaxpr, value)):
            return tuple(change_value(name, each) for each in value)
        if name in THUNKS and hasattr(value, "call_wrapped"):
            return Thunk(value, change)
        return value

    params = {name: change_value(name, value) for name, value in eqn.params.items()}
    if all(params[name] is eqn.params[name] for name in params):
        return eqn
    return eqn.replace(params=params)


def with_equations(jaxpr: AnyJaxpr, eqns: Sequence[JaxprEqn], outvars: Sequence[Atom]) -> AnyJaxpr:
    """Return the jaxpr with other equations."""
    changed = open_jaxpr(jaxpr).replace(eqns=list(eqns), outvars=list(outvars))
    if isinstance(jaxpr, ClosedJaxpr) and not isinstance(jaxpr, Jaxpr):
        return jaxpr.replace(jaxpr=changed)
    return changed


def contains(jaxpr: AnyJaxpr, names: frozenset[str]) -> bool:
    """Return True if the jaxpr or an inner one has a primitive with one of the names."""
    return any(
        eqn.primitive.name in names or any(contains(each, names) for each in inner_jaxprs(eqn))
        for eqn in open_jaxpr(jaxpr).eqns
    )


class Names(dict[Var, Atom]):
    """New atoms of replaced variables."""

    def of(self, atom: Atom) -> Atom:
        """Return the new atom, or ``atom`` itself."""
        while isinstance(atom, Var) and atom in self:
            atom = self[atom]
        return atom

    def rename(self, eqn: JaxprEqn) -> JaxprEqn:
        """Return the equation with new inputs."""
        return eqn.replace(invars=[self.of(atom) for atom in eqn.invars])


def inline(jaxpr: AnyJaxpr, names: frozenset[str]) -> tuple[list[JaxprEqn], list[Atom]]:
    """Return the equations and outputs of a jaxpr without calls of `jax.jit`.

    Calls are kept if they say more than what to compute, for example shardings, or if they are neither
    small nor contain a primitive with one of the ``names``.
    """
    eqns: list[JaxprEqn] = []

    def add(jaxpr, known):
        for eqn in jaxpr.eqns:
            eqn = known.rename(eqn)
            inner = _plain_jit(eqn, names)
            if inner is not None:
                outer = Names(zip(inner.invars, eqn.invars, strict=True))
                results = add(inner, outer)
                known.update(zip(eqn.outvars, results, strict=True))
            elif known is top:
                eqns.append(eqn)
            else:
                fresh = [Var(var.aval) for var in eqn.outvars]
                known.update(zip(eqn.outvars, fresh, strict=True))
                eqns.append(eqn.replace(outvars=fresh))
        return [known.of(atom) for atom in jaxpr.outvars]

    top = Names()
    return eqns, add(open_jaxpr(jaxpr), top)


def _plain_jit(eqn, names):
    """Return the jaxpr of a call of `jax.jit` that can be inlined, or None."""
    if eqn.primitive.name not in ("jit", "pjit") or eqn.effects:
        return None
    jaxpr, params = eqn.params["jaxpr"], eqn.params
    shardings = (*params.get("in_shardings", ()), *params.get("out_shardings", ()))
    if (
        any(params.get("donated_invars", ()))
        or params.get("compiler_options_kvs")
        or any(type(each).__name__ != "UnspecifiedValue" for each in shardings)
        or jaxpr.consts
    ):
        return None
    inner = open_jaxpr(jaxpr)
    is_small = len(inner.eqns) <= SMALL and not any(e.primitive.name in LOOPS for e in inner.eqns)
    return inner if is_small or contains(inner, names) else None


class Program:
    """The equations of a jaxpr, and where its variables are produced and used.

    Attributes:
        eqns: Equations before replacement.
        outvars: Outputs of the jaxpr.
        producer: Equation that computes each variable.
        users: Indices of the equations that use each variable.
        replaced: New equations by the index of the old one.
        names: New atoms of variables that are copies.
    """

    def __init__(self, eqns: Sequence[JaxprEqn], outvars: Sequence[Atom]):
        self.eqns, self.outvars = list(eqns), list(outvars)
        self.producer: dict[Var, JaxprEqn] = {}
        self.users: dict[Var, list[int]] = collections.defaultdict(list)
        for index, eqn in enumerate(self.eqns):
            self.producer |= dict.fromkeys(eqn.outvars, eqn)
            for atom in dict.fromkeys(a for a in eqn.invars if isinstance(a, Var)):
                self.users[atom].append(index)
        self.is_output = {atom for atom in outvars if isinstance(atom, Var)}
        self.replaced: dict[int, list[JaxprEqn]] = {}
        self.names = Names()

    def replace(
        self,
        index: int,
        function: Callable[..., Any],
        inputs: Sequence[Atom],
        outputs: Sequence[Var],
    ) -> list[Var]:
        """Replace an equation by those of a function of arrays without constants.

        Args:
            index: Index of the equation.
            function: Function that returns a list of arrays.
            inputs: Arguments of the function, variables or literals of this jaxpr.
            outputs: Variables for its first results.

        Returns:
            New variables for its other results.
        """
        old = self.eqns[index]

        def with_weak_types(*arrays):
            results = function(*arrays)
            like = [_like(array, var.aval) for array, var in zip(results, outputs, strict=False)]
            return like + results[len(outputs) :]

        with _tracing(old, inputs):
            closed = jax.make_jaxpr(with_weak_types)(*(atom.aval for atom in inputs))
        assert not closed.consts
        traced = closed.jaxpr
        new = [Var(atom.aval) for atom in traced.outvars[len(outputs) :]]
        outputs = [*outputs, *new]
        names = Names(zip(traced.invars, inputs, strict=True))
        produced = {var for eqn in traced.eqns for var in eqn.outvars}
        targets: dict[Any, Var] = {}
        for atom, output in zip(traced.outvars, outputs, strict=True):
            if isinstance(atom, Var) and atom in produced and atom not in targets:
                targets[atom] = output
            elif isinstance(atom, Var):
                self.names[output] = names.of(targets.get(atom, atom))
            else:
                self.names[output] = atom
        names |= targets
        self.replaced[index] = [
            names.rename(eqn).replace(
                outvars=[targets.get(var, var) for var in eqn.outvars], source_info=old.source_info
            )
            for eqn in traced.eqns
        ]
        return new

    def remaining(self) -> tuple[list[JaxprEqn], list[Atom]]:
        """Return the equations after replacement, without those that nothing needs, and the outputs."""
        groups = (self.replaced.get(i, [eqn]) for i, eqn in enumerate(self.eqns))
        eqns = [self.names.rename(eqn) for group in groups for eqn in group]
        outvars = [self.names.of(atom) for atom in self.outvars]
        needed = {atom for atom in outvars if isinstance(atom, Var)}
        kept = []
        for eqn in reversed(eqns):
            if eqn.effects or needed.intersection(eqn.outvars):
                kept.append(eqn)
                needed.update(_variables(eqn.invars))
        return kept[::-1], outvars


@contextlib.contextmanager
def _tracing(eqn, atoms):
    """Trace as where the equation was traced, for example inside of `jax.shard_map`."""
    axes = frozenset().union(*(varying_axes(atom.aval) for atom in atoms))
    with eqn.ctx.manager:
        if not axes:
            yield
            return
        mesh = eqn.ctx.cur_abstract_mesh
        sizes = [(axis, mesh.shape[axis]) for axis in sorted(axes)]
        with jax_core.extend_axis_env_nd(sizes), jax_config._check_vma(True):
            yield


def _variables(atoms: Iterable[Atom]) -> list[Var]:
    return [atom for atom in atoms if isinstance(atom, Var)]


def _like(array, aval):
    if getattr(aval, "weak_type", False):
        params = {"new_dtype": array.dtype, "weak_type": True, "sharding": None}
        return convert_element_type_p.bind(array, **params)
    return array
