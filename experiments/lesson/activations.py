"""The usual activations of neurons and their derivatives on one page, with where each saturates."""

import dataclasses

from _lesson import Flags, Lesson, check_range, main


@dataclasses.dataclass(frozen=True)
class Activations(Flags):
    """What is drawn."""

    span: float = 5.0
    """From minus this to this."""
    layers: int = 10
    """Layers that a gradient is followed through."""


def teach(flags: Activations) -> Lesson:
    """The lesson; raises InputError where a flag is out of its range."""
    check_range("span", flags.span, 1, 20)
    check_range("layers", flags.layers, 2, 100)
    import numpy as np

    from fidle_jax.lessons.activations import ACTIVATIONS, FLAT, flat_parts, values_and_slopes
    from fidle_jax.report.lesson import Section, Table, picture
    from fidle_jax.report.lessons import activations as figures

    x = np.linspace(-flags.span, flags.span, 10001, dtype=np.float32)
    values, slopes = {}, {}
    for name, activation in ACTIVATIONS.items():
        values[name], slopes[name] = map(np.asarray, values_and_slopes(activation, x))
    flat = {name: flat_parts(x, slope) for name, slope in slopes.items()}
    most = {name: float(np.abs(slope).max()) for name, slope in slopes.items()}
    rows = [
        [name, ACTIVATIONS[name].formula, f"{most[name]:.3g}", _where(flat[name], flags.span)]
        for name in ACTIVATIONS
    ]
    left = most["sigmoid"] ** flags.layers
    return Lesson(
        title="Activations and their derivatives",
        summary=(
            "A network without activations between its layers is one linear function, however deep. "
            "The gradient that teaches a layer is multiplied by the derivative of every activation "
            "after it: where one is flat, little or nothing is learned."
        ),
        facts={
            "largest slope of the sigmoid": f"{most['sigmoid']:.3g}",
            "largest slope of tanh and ReLU": f"{most['tanh']:.3g}",
            f"gradient left after {flags.layers} sigmoids, at best": f"{left:.2g}",
        },
        sections=[
            Section(
                "Nine of them",
                f"Seen from x = −{flags.span:g} to {flags.span:g}.",
                shown=[
                    picture(
                        "activations",
                        "Nine activations and their derivatives",
                        "Blue: the activation; dashed: its derivative, computed by jax.grad; shaded: "
                        f"where it is flat, the derivative within ±{FLAT:g}. The sigmoid and tanh are "
                        "flat, or saturated, on both sides, the ReLU on one, where its leaky kin lets a "
                        "hundredth pass. The step is flat everywhere: no gradient passes it at all.",
                        figures.all_activations(x, values, slopes, flat),
                    ),
                    Table(
                        [
                            "activation",
                            "formula",
                            "largest slope",
                            "flat where x is",
                        ],
                        rows,
                        words=(0, 1, 3),
                    ),
                ],
            ),
            Section(
                "Why deep networks left the sigmoid",
                shown=[
                    picture(
                        "vanishing",
                        "What is left of a gradient after some layers",
                        "What is left of a gradient after so many layers at the very best: every neuron "
                        "at its steepest point, weights of 1. Each sigmoid takes three quarters of it.",
                        figures.through_layers(
                            {name: most[name] for name in ("ReLU", "sigmoid")}, flags.layers
                        ),
                    ),
                ],
            ),
        ],
        numbers={"largest_slope": most, "flat": flat, "sigmoids_leave": left},
    )


def _where(parts: list[tuple[float, float]], span: float) -> str:
    words = []
    for low, high in parts:
        if low <= -span and high >= span:
            words.append("anything")
        elif low <= -span:
            words.append(f"below {_tenths(high)}")
        elif high >= span:
            words.append(f"above {_tenths(low)}")
        else:
            words.append(f"{_tenths(low)} to {_tenths(high)}")
    return " or ".join(words) or "nowhere"


def _tenths(value: float) -> str:
    return f"{round(value, 1) + 0:g}".replace("-", "−")


if __name__ == "__main__":
    main("activations", __doc__, Activations(), teach)
