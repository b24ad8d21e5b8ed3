"""The sections of the page of the lesson on regression."""

import numpy as np
from jaxtyping import Float

from fidle_jax.data.tables import DataTable
from fidle_jax.lessons.regression import LINEAR, NETWORK, RAW, Comparison, Scores, farthest_off
from fidle_jax.report.lesson import Section, Table, picture
from fidle_jax.report.lessons import regression as figures


def the_table(table: DataTable, compared: Comparison) -> Section:
    """What the table holds, and how it is split and standardised."""
    parts = compared.parts
    rows = [
        [name, *(f"{x:.4g}" for x in (each.min(), each.max(), each.mean(), each.std()))]
        for name, each in zip(table.feature_names, table.features[parts.train].T, strict=True)
    ]
    return Section(
        "The table",
        text=(
            f"{len(table.targets)} {table.rows}: {len(parts.train)} to train on, "
            f"{len(parts.validation)} to choose the epoch by, {len(parts.test)} to test with, once. To "
            f"be told: {table.target_name}. The course's own table, house prices of Boston, is left out: "
            "one of its columns is made of the share of Black people, for which scikit-learn removed it."
            "\n\n"
            "The columns are of very different sizes. Each is standardised: its mean is taken away and "
            "the rest divided by its standard deviation, both of the training part alone, as below. The "
            "target is standardised too, so that one learning rate suits every table; all errors on "
            "this page are in the target's unit again."
        ),
        shown=[Table(["training part", "least", "largest", "mean", "standard deviation"], rows)],
    )


def learning(compared: Comparison, unit: str) -> Section:
    """The network and its training curves."""
    history, best = compared.trials[NETWORK].history, compared.trials[NETWORK].best_epoch
    panels = {
        f"mean squared error ({unit}²)": (history["loss"], history["validation_loss"]),
        f"mean absolute error ({unit})": (history["score"], history["validation_score"]),
    }
    return Section(
        "Learning",
        text=(
            "Two hidden layers of 64 neurons with ReLU, then one output without an activation, which may "
            "be any number. The loss is the mean squared error: large errors weigh most, and its gradient "
            "shrinks with the error. The mean absolute error beside it is what people read."
        ),
        shown=[
            picture(
                "curves",
                "Errors by epoch",
                f"The least validation loss is that of epoch {best}, whose weights are tested. Where the "
                "error goes on to fall in training and no longer in validation, the network learns its "
                "rows by heart.",
                figures.training_curves(panels, best),
            )
        ],
    )


def the_test(table: DataTable, compared: Comparison, first: dict[str, Scores]) -> Section:
    """What each model makes of the test part, and the network's largest errors."""
    unit, true, told = table.unit, compared.true, first[NETWORK]
    errors = {name: compared.predicted[name] - true for name in (NETWORK, LINEAR)}
    within = (np.abs(errors[NETWORK]) <= told.rmse).mean()
    rows = [
        [
            name,
            f"{each.mse:.2f}",
            f"{each.rmse:.2f}",
            f"{each.mae:.2f} ± {each.standard_error:.2f}",
            f"{each.r2:.2f}",
        ]
        for name, each in first.items()
    ]
    return Section(
        "The test, read once",
        text=(
            "The linear model is the network without its hidden layers. R² is the share of the target's "
            "variance that a model explains: 1 is perfect, 0 is what the test part's own mean would have. "
            f"After ± stands the standard error of a mean over {len(true)} {table.rows}. Of those "
            "farthest off one asks what sets them apart. It may stand in no column, as a diesel engine in "
            "the table of cars."
        ),
        shown=[
            Table(["model", f"MSE ({unit}²)", f"RMSE ({unit})", f"MAE ({unit})", "R²"], rows),
            picture(
                "predicted",
                "Predicted against true",
                "On the diagonal a prediction is right. The band reaches one RMSE, "
                f"{told.rmse:.2f} {unit}, to either side; {100 * within:.0f} % of the {table.rows} lie in "
                "it.",
                figures.predicted_against_true(true, compared.predicted[NETWORK], unit),
            ),
            _farthest(table, compared),
            picture(
                "errors",
                "Errors of the network and of the linear model",
                "Errors on the test part. The network's have a mean of "
                f"{errors[NETWORK].mean():+.2f} {unit} and a standard deviation of "
                f"{errors[NETWORK].std():.2f}, the linear model's {errors[LINEAR].mean():+.2f} and "
                f"{errors[LINEAR].std():.2f}.",
                figures.error_histogram(errors, unit),
            ),
        ],
    )


def _farthest(table: DataTable, compared: Comparison) -> Table:
    predicted = compared.predicted[NETWORK]
    places = farthest_off(compared.true, predicted, 3)
    features = table.features[compared.parts.test][places]
    named = zip(table.feature_names, features.T, strict=True)
    rows = [
        (f"true ({table.unit})", compared.true[places]),
        ("predicted", predicted[places]),
        *named,
    ]
    head = ["farthest off", "first", "second", "third"]
    return Table(head, [[name, *(f"{x:.4g}" for x in values)] for name, values in rows])


def raw_features(
    compared: Comparison, errors: dict[str, Float[np.ndarray, " split"]], unit: str
) -> Section:
    """What becomes of the network where features are not standardised."""
    panels = {
        title: tuple(compared.trials[name].history[key] for key in ("score", "validation_score"))
        for title, name in {"standardised features": NETWORK, "raw features": RAW}.items()
    }
    return Section(
        "Without standardised features",
        text=(
            "The same network, initial weights, order of rows and learning rate, but features as they "
            "stand in the table. The largest columns rule every sum and every gradient, and no learning "
            "rate suits both them and the small ones."
        ),
        shown=[
            picture(
                "raw",
                "Mean absolute error by epoch with and without standardised features",
                f"Raw features have an error of {panels['raw features'][0][0]:,.4g} {unit} over the first "
                f"epoch, standardised ones {panels['standardised features'][0][0]:.3g}. On the test "
                f"parts of all splits, each at its best epoch, it is {errors[RAW].mean():.2f} and "
                f"{errors[NETWORK].mean():.2f} {unit}.",
                figures.with_and_without(
                    panels, compared.baseline, f"mean absolute error ({unit})"
                ),
            )
        ],
    )


def other_splits(errors: dict[str, Float[np.ndarray, " split"]], unit: str) -> Section:
    """The same on other splits: mean and spread."""
    gain = errors[NETWORK] - errors[LINEAR]
    rows = [
        [name, *(f"{x:.2f}" for x in (each.mean(), each.std(ddof=1), each.min(), each.max()))]
        for name, each in errors.items()
    ]
    return Section(
        "Was it luck?",
        text=(
            f"One small test part says little, so all is done again: {len(gain)} splits, with initial "
            "weights of their own. Models are best compared on the same rows: on the same split the "
            "network's mean absolute error less the linear model's is "
            f"{gain.mean():+.2f} ± {gain.std(ddof=1):.2f} {unit}, mean and standard deviation. The splits "
            "share rows: they are no independent experiments."
        ),
        shown=[Table([f"MAE ({unit})", "mean", "standard deviation", "least", "largest"], rows)],
    )
