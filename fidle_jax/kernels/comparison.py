"""Rounding errors of a kernel relative to float64 and to a baseline.

`fidle_jax.kernels.testing` runs the comparisons. The error of a value is measured in units of

    eps(type) / 2 * |value|  +  eps(type of sums) / 2 * sensitivity  +  the smallest normal number

The sensitivity is the change of the value, in float64, if all arguments change by random relative amounts.
So the error of a small difference of large numbers is relative to these numbers, but numbers that the
value does not depend on have no influence. For each result, such as a gradient, a kernel passes if its
largest error is at most ``ratio`` times that of the baseline, or ``ratio`` times `FLOOR`.
"""

import contextlib
import dataclasses
import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fidle_jax.kernels.arrays import sum_dtype
from fidle_jax.kernels.specs import NUMBERS, Spec, is_float, is_shape, on_floats

DIRECTIONS = 4  # of the random changes that determine the sensitivity
STEP = 8  # eps, the size of these changes
FLOOR = 4  # units; a smaller error of the baseline counts as this, because short sums have errors by chance

# Numbers that break kernels which multiply values outside of a window by zero, or add and subtract them:
# NaN, infinities, markers of missing data, and a number near the largest one.
LARGE = "a number near the largest"
ODD_NUMBERS = {
    "a NaN": np.nan,
    "an infinity": np.inf,
    "a -9999": -9999.0,
    LARGE: None,
}


@dataclasses.dataclass(frozen=True)
class Subject:
    """A kernel and the functions that it is compared with. All of them accept the arguments of a `Spec`.

    Attributes:
        name: Name for messages.
        function: The kernel.
        reference: Definition, which is computed in float64.
        baseline: Function whose errors are accepted, in the type of the kernel.
        differentiable: Compare vector-Jacobian products, in each argument separately.
        forward_mode: Compare Jacobian-vector products, too.
        ratio: Largest accepted error, relative to that of the baseline.
        local: The error is relative to the numbers that a value depends on, not to all numbers.
        mixed: Name of an argument whose values the kernel adds and subtracts, or None. Errors are
            relative to the largest of these values.
    """

    name: str
    function: Callable[..., Any]
    reference: Callable[..., Any]
    baseline: Callable[..., Any]
    differentiable: bool = True
    forward_mode: bool = True
    ratio: float = 2.0
    local: bool = True
    mixed: str | None = None


class Case(NamedTuple):
    """Arguments of the kernel, and what its derivatives are multiplied by, as NumPy arrays."""

    inputs: list
    tangents: list
    cotangents: Any


class Truth(NamedTuple):
    """Expected results by name, and the units of their errors."""

    expected: dict[str, Any]
    units: dict[str, Any]
    baseline: dict[str, Any]


class Error(NamedTuple):
    """Largest error of a result, in units."""

    spec: Spec
    dtype: str
    numbers: str  # name of the case
    what: str  # for example "VJP in x"
    ours: float
    baseline: float
    message: str  # says where the error is


def argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """Return the names of the first ``count`` parameters of a function, or numbers."""
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        names = []
    return names[:count] if len(names) >= count else [f"argument {i}" for i in range(count)]


def check_types(value: Any, expected: Any) -> None:
    """Raise AssertionError if the shapes and types of a result are not the expected ones."""
    ours, theirs = (
        jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", tree)
        for tree in (value, expected)
    )
    if ours != theirs:
        raise AssertionError(
            f"the result is {ours}; expected {theirs}. The layout and the type must be those of the reference"
        )


def results_of(function: Callable[..., Any], subject: Subject, spec: Spec) -> Callable[..., Any]:
    """Return a function of the values of a `Case` that returns the results to compare, by name."""
    function = functools.partial(function, **spec.arguments)
    names = argument_names(subject.reference, len(spec.inputs))

    def compute(inputs, tangents, cotangents):
        if not subject.differentiable:
            return {"value": function(*inputs)}
        check_types(jax.eval_shape(function, *inputs), cotangents)
        of_floats, floats, chosen = on_floats(function, inputs)
        value, pullback = jax.vjp(of_floats, *floats)
        results = {"value": value}
        for i, gradient in zip(chosen, pullback(cotangents), strict=True):
            results[f"VJP in {names[i]}"] = gradient
        for k, i in enumerate(chosen if subject.forward_mode else ()):
            alone = lambda array, k=k: of_floats(*floats[:k], array, *floats[k + 1 :])  # noqa: E731
            results[f"JVP in {names[i]}"] = jax.jvp(alone, (floats[k],), (tangents[i],))[1]
        return results

    return compute


def cases(
    subject: Subject, spec: Spec, odd: bool | Sequence[str] = True
) -> Iterator[tuple[str, int]]:
    """Yield the name and the seed of each `make_case`. ``odd`` is that of `measure`."""
    yield from ((numbers, 0) for numbers in NUMBERS)
    names = argument_names(subject.reference, len(spec.inputs))
    targets = [name for name, each in zip(names, spec.inputs, strict=True) if is_shape(each)]
    targets += ["the cotangent"] if subject.differentiable else []
    chosen = targets if odd is True else [target for target in targets if target in (odd or ())]
    for seed, (number, target) in enumerate(itertools.product(ODD_NUMBERS, chosen)):
        if number == LARGE and not subject.local:
            continue  # intermediate results of a nonlinear function may overflow in another order
        yield f"with {number} in {target}", seed


@functools.cache
def make_case(subject: Subject, spec: Spec, dtype: str, numbers: str, seed: int) -> Case:
    """Return random arguments. ``numbers`` and ``seed`` are those of `cases`."""
    with jax.enable_x64(dtype == "float64"):
        ordinary = numbers if numbers in NUMBERS else "normal"
        inputs = jax.device_get(spec.arrays(dtype, ordinary, seed))
        shapes = jax.eval_shape(
            functools.partial(subject.baseline, **spec.arguments), *map(jnp.asarray, inputs)
        )
        rng = np.random.default_rng((seed, 1))
        exact = numbers == "small integers"

        def random(leaf):
            values = rng.integers(-2, 3, leaf.shape) if exact else rng.normal(size=leaf.shape)
            return np.asarray(values).astype(leaf.dtype)

        tangents = [jax.tree.map(random, each) if is_float(each) else each for each in inputs]
        cotangents = jax.tree.map(random, shapes)
    case = Case(inputs, tangents, cotangents)
    if numbers in NUMBERS:
        return case
    odd, target = numbers.removeprefix("with ").split(" in ")
    value = ODD_NUMBERS[odd]
    value = 0.9 * float(jnp.finfo(dtype).max) if value is None else value
    # Numbers below 1, so that a product with a large number is finite.
    bounded = jax.tree.map(lambda a: np.tanh(a) if is_float(a) else a, case)
    names = argument_names(subject.reference, len(inputs))
    array = bounded.cotangents if target == "the cotangent" else bounded.inputs[names.index(target)]
    leaf = jax.tree.leaves(array)[0]
    if leaf.size:
        leaf.reshape(-1)[rng.integers(leaf.size)] = value
    return bounded


@functools.cache
def _compiled(subject, spec, program, vectorized):
    """Compile the results of the baseline, or of the reference for vectors of cases."""
    if vectorized:
        return jax.jit(jax.vmap(program(subject.reference, subject, spec)))
    return jax.jit(program(subject.baseline, subject, spec))


def without_kernel(subject: Subject) -> Subject:
    """Return the part of the subject that determines a `Truth`, so that kernels can share it."""
    return dataclasses.replace(subject, name="", function=subject.reference, ratio=0)


@functools.cache
def truth_of(subject: Subject, spec: Spec, dtype: str, numbers: str, seed: int) -> Truth:
    """Return `find_truth` for a case of `make_case`. ``subject`` is that of `without_kernel`."""
    return find_truth(subject, spec, make_case(subject, spec, dtype, numbers, seed))


def find_truth(
    subject: Subject, spec: Spec, case: Case, program: Callable[..., Any] = results_of
) -> Truth:
    """Compute the results and the units of errors in float64 on a CPU, and the results of the baseline.

    ``program`` is a function like `results_of`.
    """
    dtype = next(leaf.dtype for leaf in jax.tree.leaves(case) if is_float(leaf))
    step = STEP * float(jnp.finfo(dtype).eps)
    rng = np.random.default_rng(2)

    def changed(array, mixed=False):
        if not is_float(array):
            return np.stack([array] * (2 * DIRECTIONS + 1))
        array = np.asarray(array, np.float64)
        size = np.max(np.abs(array), initial=0, where=np.isfinite(array)) if mixed else array
        with np.errstate(all="ignore"):
            change = step * size * rng.normal(size=(DIRECTIONS, *array.shape))
            return np.concatenate([array[None], array + change, array - change])

    names = argument_names(subject.reference, len(case.inputs))

    def all_changed(trees):
        return [
            jax.tree.map(functools.partial(changed, mixed=name == subject.mixed), tree)
            for name, tree in zip(names, trees, strict=True)
        ]

    several = all_changed(case.inputs), all_changed(case.tangents)
    cotangents = jax.tree.map(changed, case.cotangents)
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        results = jax.device_get(_compiled(subject, spec, program, True)(*several, cotangents))
    with jax.enable_x64(dtype == np.float64):
        baseline = jax.device_get(_compiled(subject, spec, program, False)(*case))

    def unit(path, result, base):
        if not is_float(base):
            return np.zeros(result.shape[1:])
        info = jnp.finfo(base.dtype)
        plus, minus = result[1 : DIRECTIONS + 1], result[DIRECTIONS + 1 :]
        with np.errstate(all="ignore"):
            slopes = (plus - minus) / (2 * step)
            parts = [np.abs(result[0]), np.sqrt((slopes**2).mean(0))]
            if not subject.local or path[0].key == f"VJP in {subject.mixed}":
                parts = [np.max(part, initial=0, where=np.isfinite(part)) for part in parts]
            sums = float(jnp.finfo(sum_dtype(base.dtype)).eps)
            total = float(info.eps) / 2 * parts[0] + sums / 2 * parts[1]
        return np.broadcast_to(total + float(info.smallest_normal), result.shape[1:])

    expected = jax.tree.map(lambda result: result[0], results)
    return Truth(expected, jax.tree.map_with_path(unit, results, baseline), baseline)


def measure(
    subject: Subject,
    spec: Spec,
    dtype: str,
    numbers: Sequence[str] | None = None,
    odd: bool | Sequence[str] = True,
) -> list[Error]:
    """Return the largest error of each result for all `cases`.

    Args:
        subject: Kernel.
        spec: Arguments.
        dtype: Type of the arguments.
        numbers: Names of cases; by default, all.
        odd: Include the cases with infinities, NaN and numbers near the largest, in all arguments and in the
            cotangent, or in those of these names.

    Raises:
        AssertionError: The kernel does not pass.
    """
    shared = without_kernel(subject)
    compiled = jax.jit(results_of(subject.function, subject, spec))
    errors: list[Error] = []

    def check_all():
        # The baseline's errors for odd numbers are accepted for the same numbers only. Those for ordinary
        # numbers are not accepted for small integers, whose sums are exact.
        for kind in sorted({_group(each) for each in errors}):
            accepted = (kind,) if kind == "small integers" else ("", kind)
            check_errors(subject, [each[3:] for each in errors if _group(each) in accepted])

    for name, seed in cases(subject, spec, odd):
        if numbers is not None and name not in numbers:
            continue
        if dtype == "float64" and name in ("huge", "tiny") and not subject.local:
            continue  # a nonlinear reference may overflow in float64, too
        if name not in NUMBERS:
            check_all()  # a wrong value says more than an infinite one
        with jax.enable_x64(dtype == "float64"):
            results = jax.device_get(compiled(*make_case(shared, spec, dtype, name, seed)))
        truth = truth_of(shared, spec, dtype, name, seed)
        found = find_errors(subject, results, truth, f"for {spec} in {dtype}, numbers {name}")
        accepted = [baseline for _, _, baseline, _ in found]
        if dtype == "float64":
            # The reference has rounding errors, too. Units are relative, so those in float32 count.
            narrow = truth_of(shared, spec, "float32", name, seed)
            others = find_errors(subject, narrow.baseline, narrow, "")
            accepted = [max(one, each[1]) for one, each in zip(accepted, others, strict=True)]
        if name not in NUMBERS and subject.local:
            # Larger errors are not of rounding, for example if XLA's maximum ignores NaN.
            accepted = [min(each, 16.0 * FLOOR) for each in accepted]
        for (what, ours, _, message), baseline in zip(found, accepted, strict=True):
            errors.append(Error(spec, dtype, name, what, ours, baseline, message))
    check_all()
    return errors


def _group(error):
    ordinary = error.numbers in NUMBERS and error.numbers != "small integers"
    return "" if ordinary else error.numbers


def compare(subject: Subject, results: Mapping[str, Any], truth: Truth, where: str) -> None:
    """Raise AssertionError if a result is wrong. The message says where and how large the error is."""
    check_errors(subject, find_errors(subject, results, truth, where))


def check_errors(subject: Subject, errors: Sequence[tuple[str, float, float, str]]) -> None:
    """Raise AssertionError if an error of `find_errors` is larger than those of the baseline allow."""
    largest: dict[str, float] = {}
    for what, _, baseline, _ in errors:
        largest[what] = max(largest.get(what, FLOOR), baseline)
    for what, ours, _, message in errors:
        if ours > subject.ratio * largest[what]:
            raise AssertionError(
                f"{message}; accepted are {subject.ratio * largest[what]:.3g} units, {subject.ratio:.3g} "
                "times the error of the baseline. The kernel computes something else, or in lower "
                "precision, or it rounds numbers that the value does not depend on"
            )


def find_errors(
    subject: Subject, results: Mapping[str, Any], truth: Truth, where: str
) -> list[tuple[str, float, float, str]]:
    """Return the name of each result, the largest error of the kernel and of the baseline, and a message.

    Raises:
        AssertionError: A shape or a type is wrong, or a value is infinite or NaN by mistake.
    """
    errors = []
    for what, tree in results.items():
        label = f"{subject.name}, {what}, {where}"
        trees = tree, *(each[what] for each in (truth.expected, truth.baseline, truth.units))
        check_types(tree, truth.baseline[what])
        for leaves in zip(*map(jax.tree.leaves, trees), strict=True):
            errors.append((what, *_compare_arrays(leaves, label)))
    return errors


def _compare_arrays(leaves, label):
    ours, expected, baseline, units = leaves
    if ours.dtype == jax.dtypes.float0 or not ours.size:
        return 0.0, 0.0, ""
    with np.errstate(all="ignore"):
        finite = np.isfinite(expected.astype(ours.dtype))
        ours, baseline = (np.asarray(array, np.float64) for array in (ours, baseline))
        # Overflow and NaN must be those of the definition, or of the baseline.
        differs = (np.isfinite(ours) != finite) & (np.isfinite(ours) != np.isfinite(baseline))
        unit = np.maximum(units, np.finfo(np.float64).tiny)
        mine, theirs = (
            np.where(finite & np.isfinite(array), np.abs(array - expected) / unit, 0)
            for array in (ours, baseline)
        )
    if differs.any():
        index = tuple(map(int, np.argwhere(differs)[0]))
        raise AssertionError(
            f"{label}: {ours[index]} at {index}, the reference has {expected[index]} "
            f"({differs.sum()} of {differs.size} values are wrong). A result may be infinite or NaN only "
            "if a number in its window is, and then it must be"
        )
    mine, theirs = (np.where(np.isnan(each), 0, each) for each in (mine, theirs))
    index = tuple(map(int, np.unravel_index(np.argmax(mine), mine.shape)))
    message = (
        f"{label}: {ours[index]} at {index}, the reference has {expected[index]}. The error is "
        f"{mine[index]:.3g} units of rounding, and above 2 units for {(mine > 2).mean():.1%} of the values"
    )
    return float(mine.max()), float(theirs.max()), message


@contextlib.contextmanager
def reported_as(what: str) -> Iterator[None]:
    """Prefix an error with a sentence that says which guarantee is violated."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{what}\n{type(error).__name__}: {error}") from error
