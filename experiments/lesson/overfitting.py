"""Under- and over-fitting: polynomials of growing degree through few noisy points, then a network."""

import dataclasses

from _lesson import Flags, Lesson, check_range, main

DRAWS = 5


@dataclasses.dataclass(frozen=True)
class Overfitting(Flags):
    """What is fitted."""

    points: int = 20
    """Points that are learned from."""
    noise: float = 0.3
    """Standard deviation of their distance from the true function."""
    degree_max: int = 40
    """Polynomials have degrees from 0 to this."""
    seed: int = 0
    """Of the points, the initial weights and dropout."""
    quick: bool = False
    """A smaller budget, for a first look."""


def teach(flags: Overfitting) -> Lesson:
    """The lesson; raises InputError where a flag is out of its range."""
    check_range("points", flags.points, 10, 200)
    check_range("noise", flags.noise, 0.01, 1)
    check_range("degree-max", flags.degree_max, 10, 100)
    check_range("seed", flags.seed, 0, 2**31 - DRAWS)
    from fidle_jax.lessons import polynomials
    from fidle_jax.lessons.remedies import PLAIN, learn
    from fidle_jax.report.lessons.overfitting import Scene

    # The degree is chosen by the last one's fresh points; networks are tested on those of the others.
    draws = [
        polynomials.draw(flags.seed, number, flags.points, flags.noise)
        for number in range(DRAWS + 1)
    ]
    steps, used = (1000, 3) if flags.quick else (2000, DRAWS)
    learned = [learn(draw, steps, seed) for seed, draw in enumerate(draws[:used], flags.seed)]
    # Neither the tamest nor the wildest is shown.
    ends = [each[PLAIN].validation_errors[-1] for each in learned]
    middle = sorted(range(used), key=ends.__getitem__)[used // 2]
    x = polynomials.PLACES
    scene = Scene(x, polynomials.truth(x), draws[middle].few, flags.noise)
    of_degrees, their_facts, their_numbers = _polynomials(flags, scene, draws[-1].fresh)
    of_networks, facts, numbers = _networks(scene, draws[middle].many, learned, middle, steps)
    return Lesson(
        title="Under-fitting and over-fitting",
        summary=(
            "What is too simple for its data cannot follow them; what is too flexible follows their noise "
            "as well. The training error does not tell, for it only falls; the error on points that were "
            "not learned from does. A polynomial shows it by its degree. A network does the same, and "
            "there are remedies."
        ),
        facts=their_facts | facts,
        sections=[*of_degrees, *of_networks],
        numbers={"polynomials": their_numbers, "networks": numbers},
    )


def _polynomials(flags, scene, fresh):
    """Sections, facts and numbers of the polynomials."""
    import numpy as np

    from fidle_jax.lessons.polynomials import errors_of_fits, fit_polynomial, polynomial_values
    from fidle_jax.report.lesson import Section, Slides, picture
    from fidle_jax.report.lessons import overfitting as figures
    from fidle_jax.report.style import png

    count = len(scene.points[0])
    degrees = np.arange(flags.degree_max + 1)
    fits = [fit_polynomial(scene.points, degree) for degree in degrees]
    errors = figures.Errors(
        degrees, errors_of_fits(fits, scene.points), errors_of_fits(fits, fresh)
    )
    curves = [polynomial_values(fit, scene.x) for fit in fits]
    best = int(errors.validation.argmin())
    least = f"{errors.validation[best]:.3f}"
    high = min(3 * count // 4, flags.degree_max)
    words = {
        -1: ("under-fitting", "misses bends of the function"),
        0: ("the best", "has the least validation error"),
        1: ("over-fitting", "follows the noise, and swings out between and beside the points"),
    }
    chosen = {k: words[np.sign(k - best)] for k in sorted({1, best, high})}
    named = {f"degree {k}: {name}": curves[k] for k, (name, _) in chosen.items()}
    each = 0 if flags.quick else count + 1
    slides = [degree for degree in degrees if degree <= each or degree % 5 == 0]
    shown = [
        picture(
            "side_by_side",
            "Too low a degree, the best and too high a degree",
            "; ".join(f"degree {k} {does}" for k, (_, does) in chosen.items()).capitalize() + ".",
            figures.side_by_side(scene, named),
        ),
        picture(
            "errors_by_degree",
            "Training and validation error against the degree",
            "The training error only falls, to that of rounding where coefficients are as many as points. "
            f"The validation error is least, {least}, at degree {best}. Where it rises while the training "
            "error falls, there is over-fitting.",
            figures.errors_by_degree(errors, best, count, scene.noise),
        ),
        Slides(
            "degrees",
            "The fit at each degree, and its errors",
            "Degree by degree: the curve bends to the function first, then to single points.",
            [png(figures.one_degree(scene, curves[k], errors, k)) for k in slides],
            [f"degree {k}" for k in slides],
        ),
    ]
    text = (
        f"The points come from one smooth function, each with noise of standard deviation {scene.noise:g}. "
        f"Polynomials are fitted to {count} of them by least squares. The validation error is that on "
        f"{len(fresh[0]):,} others, far more than one would have."
    )
    sections = [
        Section("A polynomial of growing degree", text, shown),
        Section("More coefficients than points", _beyond(count, errors)),
    ]
    facts = {
        "best degree": str(best),
        "validation error there": least,
        f"validation error at degree {flags.degree_max}": _short(errors.validation[-1]),
    }
    numbers = {
        "best": best,
        "train": errors.train.tolist(),
        "validation": errors.validation.tolist(),
    }
    return sections, facts, numbers


def _beyond(count, errors):
    """What is seen from the degree on where a polynomial passes through all ``count`` points."""
    if errors.at[-1] < count:
        return f"They begin at degree {count}, which is not reached here."
    peak = int(errors.validation.argmax())
    last, most = errors.validation[-1], errors.validation[peak]
    text = (
        f"A polynomial of degree {count - 1} passes through all {count} points; of each higher degree many "
        "do. The fit is then the one whose coefficients, in Legendre polynomials of equal mean square, "
        "have the least sum of squares: the one that stays nearest to zero on the whole.\n\n"
    )
    if last > most / 2:
        return f"{text}The validation error shows no second descent here."
    return (
        f"{text}The more there are to choose from, the nearer it stays. After a peak of {_short(most)} at "
        f"degree {peak} the validation error falls a second time, to {_short(last)} at degree "
        f"{errors.at[-1]}: still {_short(last / errors.validation.min())} times the least."
    )


def _short(error):
    return f"{error:,.0f}" if error >= 100 else f"{error:.3g}"


def _captions() -> dict[str, str]:
    """What to see of each remedy."""
    from fidle_jax.lessons.remedies import DECAY, DROPOUT, EARLY, MORE, RATE, STRENGTH

    return {
        EARLY: "Early stopping: the network without a remedy, as it was where the validation error was least "
        "(the diamond). This needs points that are not learned from.",
        DROPOUT: f"Dropout of {RATE:g} after each hidden layer: in each step a part of the neurons is "
        "missing, so that none is relied on. The training error drawn is that with neurons missing, the "
        "table's without.",
        DECAY: f"Weight decay of {STRENGTH:g}, as of AdamW: each step draws the weights towards zero; "
        "a network of small weights bends less.",
        MORE: "Ten times the points: a curve that bends to one of them misses its neighbours. The steps are "
        "as many as without, and each of them of as many points.",
    }


def _networks(scene, many, learned, middle, steps):
    """Sections, facts and numbers of the networks; the figures are those of the draw ``middle``."""
    import numpy as np

    from fidle_jax.lessons.remedies import MORE, PLAIN
    from fidle_jax.report.lesson import Section, Table, picture
    from fidle_jax.report.lessons import overfitting as figures

    captions = _captions()
    drawn, count = learned[middle], len(scene.points[0])
    errors = {
        name: figures.Errors(each.steps, each.train_errors, each.validation_errors)
        for name, each in drawn.items()
    }
    limits = figures.error_limits(list(errors.values()), scene.noise)

    def shown(name, caption, plain=None):
        over = scene._replace(points=many) if name == MORE else scene
        figure = figures.network(over, drawn[name].curve, plain, errors[name], limits)
        return picture(name.replace(" ", "_"), name, caption, figure)

    train, test = (
        {name: np.array([getattr(each[name], of) for each in learned]) for name in drawn}
        for of in ("train", "test")
    )
    rows = [
        [
            name,
            *(f"{each[name].mean():.3f} ± {each[name].std(ddof=1):.3f}" for each in (train, test)),
            f"{np.sum(test[name] < test[PLAIN])} of {len(learned)}" if name != PLAIN else "",
        ]
        for name in drawn
    ]
    plain = errors[PLAIN]
    best = plain.validation.argmin()
    sections = [
        Section(
            "The same with a network",
            f"A network of three hidden layers of 64 neurons, with tanh, learns the same {count} points in "
            f"{steps:,} steps of Adam, of {count} points each. Its validation error is that on {count} "
            "others. The errors drawn are means over neighbouring steps.",
            [
                shown(
                    PLAIN,
                    f"No remedy: the validation error is least at step {plain.at[best]:,}, "
                    f"{plain.validation[best]:.2f}, and {plain.validation[-1]:.2f} at the end, while the "
                    "curve bends more and more to single points.",
                )
            ],
        ),
        Section(
            "Four remedies",
            "",
            [shown(name, captions[name], drawn[PLAIN].curve) for name in drawn if name != PLAIN],
        ),
        Section(
            "What they are worth",
            f"Mean and standard deviation over {len(learned)} draws of points and initial weights. The "
            "figures show the draw whose validation error without a remedy is the middle one. The test "
            "error is that on 1,000 points by which nothing was chosen; the noise, "
            f"{scene.noise:g}, is the least that one can expect. The rate of dropout and the strength of "
            "weight decay were chosen by hand, on other draws.",
            [Table(["network", "training RMSE", "test RMSE", "better than without"], rows)],
        ),
    ]
    best = min(captions, key=lambda name: test[name].mean())
    facts = {
        "best remedy": best,
        "test error with it": f"{test[best].mean():.3f}",
        "test error without": f"{test[PLAIN].mean():.3f}",
    }
    numbers = {n: {"train": train[n].tolist(), "test": test[n].tolist()} for n in drawn}
    return sections, facts, numbers


if __name__ == "__main__":
    main("overfitting", __doc__, Overfitting(), teach)
