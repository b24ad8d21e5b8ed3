"""Cross-entropy and squared error worked out, and why networks are trained on logits."""

import dataclasses
from typing import TYPE_CHECKING

from _lesson import Flags, Lesson, check_range, main

from fidle_jax.errors import InputError

if TYPE_CHECKING:
    from fidle_jax.report.lesson import Section

FEWEST, MOST = 2, 6  # classes of the worked example: bars are to be legible
LARGEST = 40  # of its logits: a class that is 80 behind has a probability in float32 still
TEMPERATURES = 0.25, 1.0, 4.0


@dataclasses.dataclass(frozen=True)
class Losses(Flags):
    """The worked example."""

    logits: tuple[float, ...] = (2.0, 1.0, 0.1)
    """What a network gave, a number for each class."""
    label: int = 0
    """The right class, from 0."""


def check(flags: Losses) -> None:
    """Raises InputError where there are too few or many logits, or the label is no class of theirs."""
    if not FEWEST <= len(flags.logits) <= MOST:
        raise InputError(
            f"--logits has {len(flags.logits)} numbers; expected {FEWEST} to {MOST}, one for each class"
        )
    for logit in flags.logits:
        check_range("logits", logit, -LARGEST, LARGEST)
    check_range("label", flags.label, 0, len(flags.logits) - 1)


def teach(flags: Losses) -> Lesson:
    """The lesson; raises InputError where a flag is wrong."""
    check(flags)
    import numpy as np

    from fidle_jax.lessons import losses

    near = np.linspace(-10, 10, 401, dtype=np.float32)
    entropy = losses.curve(losses.stable_binary_loss, near, 1)
    square = losses.curve(losses.squared_error_of_sigmoid, near, 1)
    far = np.linspace(-200, 200, 4001, dtype=np.float32)
    naive = {y: losses.curve(losses.naive_binary_loss, far, y) for y in (1, 0)}
    stable = {y: losses.curve(losses.stable_binary_loss, far, y) for y in (1, 0)}
    infinite = float(far[np.isinf(naive[0].loss)].min())
    example = losses.worked_example(np.asarray(flags.logits, np.float32), flags.label)
    return Lesson(
        title="Losses: what a network is trained to lower",
        summary=(
            "A loss is one number that says how far the outputs are from the targets: cross-entropy for "
            "classes, squared error for numbers. The formulas are written with probabilities. A computer "
            "should be given the logits instead: in float32 a probability is soon exactly 0 or 1, and then "
            "the loss is infinite or its gradient NaN."
        ),
        facts={
            "loss of the worked example": f"{example.loss:.4f}",
            "cross-entropy's gradient at −10, target 1": _text(entropy.gradient[0], ".5f"),
            "squared error's, of a sigmoid": _text(square.gradient[0], ".1g"),
            "logit from which the formula gives ∞, target 0": f"{infinite:.1f}",
        },
        sections=[
            _three_losses(),
            _worked_example(example),
            _confident_mistake(near, entropy, square),
            _why_logits(far, naive, stable),
            _large_logits(example.logits),
            _temperature(example),
        ],
        numbers={
            "example": {name: np.asarray(value).tolist() for name, value in vars(example).items()},
            "gradient_at_-10": {
                "cross_entropy": float(entropy.gradient[0]),
                "squared_error": float(square.gradient[0]),
            },
            "loss_of_target_0_infinite_from": infinite,
        },
    )


def _three_losses() -> "Section":
    from fidle_jax.report.lesson import Section, Table

    rows = [
        ["binary cross-entropy", "yes or no", "sigmoid", "−1/n Σ [y ln p + (1 − y) ln(1 − p)]"],
        ["categorical cross-entropy", "one of several", "softmax", "−1/n Σ Σ y ln p"],
        ["mean squared error", "numbers", "the output as it is", "1/n Σ (y − p)²"],
    ]
    return Section(
        "Three losses",
        "Of n examples, y is the target and p what the network says: a probability, or a number.",
        [Table(["loss", "for", "p comes from", "formula"], rows, words=range(4))],
    )


def _worked_example(case) -> "Section":
    from fidle_jax.report.lesson import Section, Table, picture
    from fidle_jax.report.lessons import losses as figures

    columns = case.logits, case.exponentials, case.probabilities, case.targets, case.parts
    rows = [
        [str(place), _text(logit, "g"), f"{power:.4g}", f"{p:.4f}", f"{y:.0f}", f"{part:.4f}"]
        for place, (logit, power, p, y, part) in enumerate(zip(*columns, strict=True))
    ]
    panels = {"logits": case.logits, "softmax": case.probabilities, "one-hot target": case.targets}
    named = "right" if case.argmax == case.label else "wrong"
    return Section(
        "From logits to a loss",
        "Softmax makes probabilities of the logits: exp(logit) over the sum of these for all classes. "
        f"Argmax names the class of the largest: here {case.argmax}, which is {named}. The loss asks "
        "for more than a right name: it is −ln of the right class's probability, here "
        f"{case.loss:.4f}, and 0 only where that probability is 1.",
        [
            picture(
                "example",
                "Logits, their softmax, and the target",
                "What the network gives, what softmax makes of it, and what that is held against. "
                "Blue: the right class.",
                figures.bars(panels, case.label),
            ),
            Table(["class", "logit", "exp(logit)", "softmax p", "target y", "−y ln p"], rows),
        ],
    )


def _confident_mistake(logits, entropy, square) -> "Section":
    from fidle_jax.report.lesson import Section, Table, picture
    from fidle_jax.report.lessons import losses as figures

    rows = [
        [_text(logits[at], ".0f"), *(_text(each[at], ".3g") for each in (*entropy, *square))]
        for at in logits.searchsorted((-10, -5, -1, 0, 1, 5, 10))
    ]
    return Section(
        "A confident mistake",
        "The target is 1, and one logit is all that the network says: −10 is a mistake made with great "
        "confidence. Cross-entropy corrects it with a gradient near −1. Squared error of a sigmoid hardly "
        "does: the sigmoid's slope is a factor of its gradient, and the sigmoid is flat there. Of a plain "
        "number, without a sigmoid, the gradient of squared error grows with the mistake.",
        [
            picture(
                "mistake",
                "Loss and gradient over the logit, for a target of 1",
                "Left: squared error of a probability stays below 1, cross-entropy grows with the mistake. "
                "Right: where the mistake is worst, at the far left, the gradient of squared error is gone.",
                figures.over_logits(
                    logits, {"cross-entropy": entropy, "squared error of a sigmoid": square}
                ),
            ),
            Table(["logit", "cross-entropy", "gradient", "squared error", "gradient"], rows),
        ],
    )


def _why_logits(logits, naive, stable) -> "Section":
    from fidle_jax.report.lesson import Section, Table, picture
    from fidle_jax.report.lessons import losses as figures

    rows = [
        [_text(logits[at], ".0f"), *(_text(each[at], ".3g") for each in (*naive[0], *stable[0]))]
        for at in logits.searchsorted((-200, -100, -20, 0, 10, 20, 100, 200))
    ]
    silent = _text(logits[naive[1].gradient == 0].max(), ".0f")
    return Section(
        "Why losses take logits",
        "Binary cross-entropy in float32, computed in two ways: as written, first the sigmoid and then its "
        "logarithm, and from the logit at once. A float32 has about seven digits, so that a sigmoid near 1 "
        "is soon exactly 1: 1 − p is 0, and its logarithm minus infinity. One example whose gradient is NaN "
        "or infinite is enough to spoil all weights.",
        [
            picture(
                "breakdown",
                "Two ways of computing binary cross-entropy",
                "Dashed: by way of the probability; wide: from the logit. Shaded: the first has no finite "
                "answer, the gradient not even where it is right with confidence. For a target of 1 the "
                f"gradient is 0 already below a logit of {silent}, where the square in the sigmoid's "
                "derivative leaves float32: the worst mistakes would go uncorrected.",
                figures.breakdown(logits, {f"target {y}": (naive[y], stable[y]) for y in naive}),
            ),
            Table(["logit, target 0", "as written", "gradient", "of the logit", "gradient"], rows),
        ],
    )


def _large_logits(logits) -> "Section":
    from fidle_jax.lessons.losses import large_softmax
    from fidle_jax.report.lesson import Section, Table

    rows = [
        [_text(each, ".4g") for each in (largest, *large_softmax(logits, largest))]
        for largest in (-200, -50, 0, 50, 80, 89, 200)
    ]
    return Section(
        "Softmax of large logits",
        "The logits of the example, all moved by as much, which should not change their softmax. As written "
        "it does: exp(89) is more than the largest float32, and far below 0 every exponential is 0. With "
        "the largest logit subtracted first, no exponential is above 1 and one of them is 1.",
        [
            Table(["largest logit", "its exp", "softmax as written", "largest subtracted"], rows),
        ],
    )


def _temperature(example) -> "Section":
    import numpy as np

    from fidle_jax.lessons.losses import stable_softmax
    from fidle_jax.report.lesson import Section, picture
    from fidle_jax.report.lessons import losses as figures

    panels = {
        f"temperature {each:g}": np.asarray(stable_softmax(example.logits, each))
        for each in TEMPERATURES
    }
    return Section(
        "Temperature",
        "Logits may be divided by a temperature before softmax: their order stays, how sure it is changes.",
        [
            picture(
                "temperature",
                "Softmax at three temperatures",
                "Low: nearly all goes to the largest logit. High: nearly as much to each. Blue: the right "
                "class.",
                figures.bars(panels, example.label, alike=True),
            )
        ],
    )


def _text(value: float, form: str) -> str:
    """A number as one prints it."""
    text = format(float(value) + 0, form)
    return text.replace("-", "−").replace("inf", "∞").replace("nan", "NaN")


if __name__ == "__main__":
    main("losses", __doc__, Losses(), teach)
