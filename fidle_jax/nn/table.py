"""The table of a model's layers, as the course prints it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from fidle_jax.nn.layers import BatchNorm, Conv, Dense


@dataclasses.dataclass(frozen=True)
class Row:
    """A layer of a model."""

    name: str  # path in the model, e.g. "conv_1"
    kind: str  # class, e.g. "Conv"
    output_shape: tuple[None, *tuple[int, ...]]  # the batch size is None
    parameters: int
    formula: str  # of the number of parameters


def trace_layers(
    model: nn.Module,
    image_shape: tuple[int, int, int],
    record: Callable[[nn.Module, Any, Any], None],
) -> None:
    """Call ``record`` with each module of ``model``, its first input and its output. Compute nothing.

    The modules are in the order of the network. The model itself is the last one.
    """

    def intercept(call, args, kwargs, context):
        output = call(*args, **kwargs)
        if context.method_name == "__call__":
            record(context.module, args[0] if args else None, output)
        return output

    def apply(images):
        with nn.intercept_methods(intercept):
            return model.init_with_output(jax.random.key(0), images)

    jax.eval_shape(apply, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))


def layer_table(model: nn.Module, image_shape: tuple[int, int, int]) -> list[Row]:
    """Return a row for each layer of ``model``, without computing anything.

    A model that has parameters outside of its layers has a row too.
    """
    rows = {}

    def record(module, x, output):
        params = module.variables.get("params", {}).values()
        # Nested modules have rows of their own.
        parameters = sum(leaf.size for leaf in params if not isinstance(leaf, Mapping))
        if module.path in rows or not (module.path or parameters):
            return
        product = _product(module, x.shape[-1] if hasattr(x, "shape") else 0)
        formula = f"{product} = {parameters:,}" if product else ""
        kind, shape = type(module).__name__, (None, *getattr(output, "shape", ())[1:])
        name = "/".join(module.path) or kind
        rows[module.path] = Row(name, kind, shape, parameters, formula)

    trace_layers(model, image_shape, record)
    return list(rows.values())


def _product(module: nn.Module, inputs: int) -> str:
    """Return m·(n·kx·ky + 1) for m kernels over n channels, or n·(m + 1) for n neurons with m inputs."""
    if isinstance(module, Conv):
        kx, ky = module.kernel_size
        weights = f"{inputs}·{kx}·{ky}"
        return f"{module.features}·" + (weights if module.plain else f"({weights} + 1)")
    if isinstance(module, Dense):
        return f"{module.features}·({inputs} + 1)"
    return f"2·{inputs}" if isinstance(module, BatchNorm) else ""


def format_table(rows: list[Row]) -> str:
    """Format the rows as aligned text, with the total number of parameters below."""
    head = ("layer", "output shape", "parameters", "")
    body = [
        (f"{row.name} ({row.kind})", str(row.output_shape), f"{row.parameters:,}", row.formula)
        for row in rows
    ]
    foot = ("total", "", f"{sum(row.parameters for row in rows):,}", "")
    name, shape, count, _ = (
        max(map(len, column)) for column in zip(head, *body, foot, strict=True)
    )
    lines = [
        f"{a:<{name}}  {b:<{shape}}  {c:>{count}}  {d}".rstrip()
        for a, b, c, d in (head, *body, foot)
    ]
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])
