"""Checks of a kernel: calls outside of jit, transformations, independence, and shapes that are not listed.

`fidle_jax.kernels.testing` runs them. They reject kernels that pass a comparison of values by a trick.
"""

import dataclasses
import functools
import inspect
import logging
import sys
import time
import unittest
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, PartitionSpec

from fidle_jax.kernels.comparison import (
    Subject,
    argument_names,
    compare,
    find_truth,
    make_case,
    measure,
    reported_as,
    results_of,
    truth_of,
    without_kernel,
)
from fidle_jax.kernels.specs import Spec, is_float, on_floats

# Programs in the tests run once on little data, so compilation dominates.
jit_once = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def compiled_programs(call: Callable[[], object]) -> list[str]:
    """Run ``call`` and return the names of the programs that JAX compiled for it."""
    with jax.log_compiles(), unittest.TestCase().assertLogs("jax", logging.DEBUG) as logs:
        logging.getLogger("jax").debug("assertLogs needs at least one message")
        jax.block_until_ready(call())
    messages = [record.getMessage() for record in logs.records]
    return [line.split(" with ")[0] for line in messages if line.startswith("Compiling")]


# Calls with new arrays, until Python has given their identity to other arrays.
REUSES = 50


def check_calls(subject: Subject, spec: Spec, dtype: str) -> None:
    """Call the kernel outside of `jax.jit` with equal and with different arrays.

    Raises:
        AssertionError: A result is wrong, is not a `jax.Array`, changes later or is that of another
            call, or an argument was modified.
    """
    shared = dataclasses.replace(without_kernel(subject), differentiable=False)
    function = functools.partial(subject.function, **spec.arguments)

    def arrays(seed):
        return jax.tree.map(jnp.asarray, make_case(shared, spec, dtype, "normal", seed).inputs)

    def check(result, seed, reason):
        truth = truth_of(shared, spec, dtype, "normal", seed)
        with reported_as(f"{subject.name} {reason}:"):
            compare(subject, {"value": jax.device_get(result)}, truth, f"for {spec} in {dtype}")

    def call(seed, reason, inputs=None):
        inputs = arrays(seed) if inputs is None else inputs
        before = [np.array(leaf) for leaf in jax.tree.leaves(inputs)]
        result = function(*inputs)
        for leaf in jax.tree.leaves(result):
            if type(leaf) is not type(jnp.zeros(())):
                raise AssertionError(
                    f"{subject.name} returns an object of type {type(leaf).__name__}; expected a "
                    "jax.Array, which is computed when block_until_ready returns"
                )
        copies = jax.tree.map(np.array, jax.block_until_ready(result))
        for leaf, old in zip(jax.tree.leaves(inputs), before, strict=True):
            deleted = leaf.is_deleted()
            if deleted or not np.array_equal(np.asarray(leaf), old):
                raise AssertionError(
                    f"{subject.name} {'deletes' if deleted else 'modifies'} an argument; a function must "
                    "leave its arguments as they are"
                )
        try:
            check(copies, seed, reason)
        except AssertionError:
            time.sleep(0.3)
            later = jax.tree.map(np.array, result)
            if not all(map(_same, jax.tree.leaves(copies), jax.tree.leaves(later))):
                raise AssertionError(
                    f"{subject.name} returns an array before it is computed: its values changed after "
                    "block_until_ready, so its time would be that of the dispatch only"
                ) from None
            raise
        return result, copies

    with jax.enable_x64(dtype == "float64"):
        inputs = arrays(0)
        first, copies = call(0, "is wrong in its first call outside of jit", inputs)
        call(1, "is wrong in its second call, with other arrays (the result of an earlier call?)")
        if not all(map(_same, jax.tree.leaves(copies), jax.tree.leaves(first))):
            raise AssertionError(
                f"{subject.name} overwrites the result of an earlier call; each call must return an array "
                "of its own"
            )
        again, _ = call(0, "is wrong in a later call (correct only in the first?)", inputs)
        given = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(inputs)}
        for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
            pointers = {one.unsafe_buffer_pointer(), other.unsafe_buffer_pointer()}
            if one.size and len(pointers) == 1 and not pointers & given:
                raise AssertionError(
                    f"{subject.name} returns the array of an earlier call with the same arguments; its time "
                    "would be that of a cache"
                )
        del inputs, first, again, one, other
        for seed in range(2, 2 + REUSES):
            call(
                seed % 7,
                "is wrong for new arrays (it may cache by the identity or address of arrays)",
            )
        chex.clear_trace_counter()
        traced = jax.jit(chex.assert_max_traces(lambda *inputs: function(*inputs), n=1))
        for seed in (0, 1, 0):
            with reported_as(
                f"{subject.name} is traced again, or is wrong in a compiled function:"
            ):
                check(traced(*arrays(seed)), seed, "is wrong")


def _same(one, other):
    return np.array_equal(np.array(one), np.array(other))


def check_independent(subject: Subject, spec: Spec, reference: Callable[..., Any]) -> None:
    """Raise AssertionError if the kernel calls ``reference``, or computes the same operations."""
    while isinstance(reference, functools.partial):
        reference = reference.func
    code = getattr(inspect.unwrap(reference), "__code__", None)
    case = jax.tree.map(jnp.asarray, make_case(subject, spec, "float32", "normal", 0))
    called = False

    def notice(frame, event, argument):
        nonlocal called
        called = called or (event == "call" and frame.f_code is code)

    def noticed(call, *arguments):
        previous = sys.getprofile()
        sys.setprofile(notice)
        try:
            return call(*arguments)
        finally:
            sys.setprofile(previous)

    def trace(function):
        return jax.make_jaxpr(results_of(function, subject, spec))(*case)

    # Without jit, also functions that are compiled already are executed by Python.
    with jax.disable_jit():
        theirs, ours = trace(subject.reference), noticed(trace, subject.function)
    noticed(functools.partial(subject.function, **spec.arguments), *case.inputs)
    if called or str(ours) == str(theirs):
        how = "calls the reference" if called else "computes the same operations as the reference"
        raise AssertionError(
            f"{subject.name} {how}, so a comparison with it says nothing; the kernel must be another program"
        )


# A comparison with numbers of one kind accepts errors that are this many times as large, because the largest
# error of a few values varies by chance.
ONE_CASE = 4


# Transformations: functions (kernel, inputs, tangents, cotangents) -> results, by name.


def _pair(tree):
    return jax.tree.map(lambda a: jnp.stack([a, 1 - a]) if is_float(a) else jnp.stack([a, a]), tree)


def _squares(function):
    """Return the sum of the squares of the function's floating-point results."""

    def total(*arrays):
        leaves = jax.tree.leaves(function(*arrays))
        return sum((leaf**2).sum() for leaf in leaves if is_float(leaf))

    return total


def _gradient(function, inputs):
    """Return the gradient of `_squares` as a function of the floating-point inputs, and these inputs."""
    of_floats, floats, _ = on_floats(function, inputs)
    return jax.grad(_squares(of_floats), range(len(floats))), floats


def _vmap_of_gradients(function, inputs, tangents, cotangents):
    def gradients(inputs):
        gradient, floats = _gradient(function, inputs)
        return function(*inputs), gradient(*floats)

    return jax.vmap(gradients)(_pair(inputs))


def _grad_of_vmap(function, inputs, tangents, cotangents, index=0):
    """Map over one of the floating-point arguments only."""
    of_floats, floats, _ = on_floats(function, inputs)
    axes: list[int | None] = [None] * len(floats)
    axes[index] = 0
    floats[index] = _pair(floats[index])
    return jax.grad(_squares(jax.vmap(of_floats, axes)), range(len(floats)))(*floats)


def _vmap_of_pullback(function, inputs, tangents, cotangents):
    of_floats, floats, _ = on_floats(function, inputs)
    return jax.vmap(jax.vjp(of_floats, *floats)[1])(_pair(cotangents))


def _descent_in_scan(function, inputs, tangents, cotangents):
    of_floats, floats, _ = on_floats(function, inputs)

    def step(last, first):
        arrays = [first, *floats[1:-1], last] if len(floats) > 1 else [last]
        slope = jax.grad(_squares(of_floats), len(arrays) - 1)(*arrays)
        return jax.tree.map(lambda a, s: a - 2**-10 * s, last, slope), None

    return jax.lax.scan(step, floats[-1], _pair(floats[0]))[0]


def _grad_of_grad(function, inputs, tangents, cotangents):
    gradient, floats = _gradient(function, inputs)
    return jax.grad(_squares(gradient), range(len(floats)))(*floats)


def _jvp_of_grad(function, inputs, tangents, cotangents):
    gradient, floats = _gradient(function, inputs)
    return jax.jvp(gradient, tuple(floats), tuple(each for each in tangents if is_float(each)))[1]


def _linearize(function, inputs, tangents, cotangents):
    of_floats, floats, _ = on_floats(function, inputs)
    return jax.linearize(of_floats, *floats)[1](*(each for each in tangents if is_float(each)))


REVERSE_MODE: Mapping[str, Callable[..., Any]] = {
    "vmap of its gradients": _vmap_of_gradients,
    "grad of vmap over the first argument": _grad_of_vmap,
    "grad of vmap over the last argument": functools.partial(_grad_of_vmap, index=-1),
    "vmap of its pullback": _vmap_of_pullback,
    "gradient descent in lax.scan": _descent_in_scan,
    "grad of grad": _grad_of_grad,
}
FORWARD_MODE: Mapping[str, Callable[..., Any]] = {
    "linearize": _linearize,
    "jvp of grad": _jvp_of_grad,
}


def check_transformations(
    subject: Subject, spec: Spec, transformations: Mapping[str, Callable[..., Any]]
) -> None:
    """Compare transformed kernels. All transformations are compiled as one program.

    Larger errors are accepted; see `ONE_CASE`.

    Raises:
        AssertionError: A transformation fails, or a result is wrong.
    """
    subject = dataclasses.replace(subject, ratio=ONE_CASE * subject.ratio)

    def program(function, subject, spec, chosen=transformations):
        function = functools.partial(function, **spec.arguments)
        return lambda *case: {name: chosen[name](function, *case) for name in chosen}

    case = make_case(subject, spec, "float32", "normal", 0)
    truth = find_truth(subject, spec, case, program)
    try:
        results = jit_once(program(subject.function, subject, spec))(*case)
    except Exception:
        for name, each in transformations.items():
            with reported_as(f"{subject.name} fails under {name}:"):
                jit_once(program(subject.function, subject, spec, {name: each}))(*case)
        raise
    compare(subject, jax.device_get(results), truth, f"for {spec} in float32")


_policies = jax.checkpoint_policies
POLICIES = (
    _policies.everything_saveable,
    _policies.nothing_saveable,
    _policies.dots_saveable,
    _policies.dots_with_no_batch_dims_saveable,
    _policies.save_only_these_names("a"),
    _policies.save_anything_except_these_names("a"),
    _policies.offload_dot_with_no_batch_dims("device", "pinned_host"),
)


def check_without_effect(subject: Subject, spec: Spec, batched: Sequence[int] = ()) -> None:
    """Compare the results under transformations that change nothing: `jax.checkpoint`, `jax.shard_map`.

    ``batched`` has the indices of the inputs whose first axis is the batch, as that of the result.
    """
    subject = dataclasses.replace(subject, forward_mode=False)
    function = functools.partial(subject.function, **spec.arguments)
    plain = Spec(*spec.inputs)
    programs = {}
    for policy in POLICIES:
        wrapped = jax.checkpoint(function, policy=policy)
        name = f"jax.checkpoint with the policy {policy.__qualname__.partition('.')[0]}"
        programs[name] = results_of(wrapped, subject, plain)
    if batched:
        mesh = jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(AxisType.Auto,))
        sharded, whole = PartitionSpec("batch"), PartitionSpec()
        inputs = [sharded if i in batched else whole for i in range(len(spec.inputs))]
        over = functools.partial(jax.shard_map, mesh=mesh)
        outside = over(function, in_specs=tuple(inputs), out_specs=sharded)
        programs["grad of jax.shard_map"] = results_of(outside, subject, plain)
        names = argument_names(subject.reference, len(spec.inputs))
        out = {"value": sharded}
        out |= {f"VJP in {name}": where for name, where in zip(names, inputs, strict=True)}
        out = {name: out[name] for name in out if name == "value" or subject.differentiable}
        programs["jax.shard_map of grad"] = over(
            results_of(function, subject, plain),
            in_specs=(inputs, inputs, sharded),
            out_specs=out,
        )
    case = make_case(subject, spec, "float32", "normal", 0)
    truth = find_truth(subject, spec, case, results_of)
    for name, program in programs.items():
        with reported_as(f"{subject.name} fails under {name}:"):
            results = jax.device_get(jit_once(program)(*case))
            compare(subject, results, truth, f"for {spec} in float32")


def check_drawn(
    subject: Subject, drawn: st.SearchStrategy[Spec], dtypes: Sequence[str], examples: int
) -> None:
    """Compare the results for drawn shapes and types, the same ones in each run.

    Larger errors are accepted; see `ONE_CASE`.
    """
    subject = dataclasses.replace(subject, ratio=ONE_CASE * subject.ratio)

    @settings(deadline=None, max_examples=examples, derandomize=True)
    @given(drawn, st.sampled_from(list(dtypes)))
    def check_one(spec, dtype):
        measure(subject, spec, dtype, ["normal", "small integers"])

    with reported_as(f"{subject.name} fails for a shape that is not listed:"):
        check_one()


def assert_close(ours, theirs, tolerance: float, message: str = "") -> None:
    """Compare trees: equal shapes and types, values within ``tolerance`` eps of the largest value."""
    chex.assert_trees_all_equal_shapes_and_dtypes(ours, theirs)
    for mine, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        rounding = float(jnp.finfo(expected.dtype).eps)
        mine, expected = (np.asarray(leaf, np.float64) for leaf in (mine, expected))
        atol = tolerance * rounding * np.abs(expected).max(initial=1)
        chex.assert_trees_all_close(mine, expected, rtol=0, atol=atol, custom_message=message)
