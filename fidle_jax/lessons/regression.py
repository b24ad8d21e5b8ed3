"""Lesson: predict a number from a table row with a dense network (Fidle, notebooks BHPD)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from sklearn import metrics

from fidle_jax.data.tables import DataTable, Parts, load_table, three_parts
from fidle_jax.lessons.figures import draw_curves, mean_and_std, number
from fidle_jax.lessons.flags import Regression
from fidle_jax.lessons.page import Lesson
from fidle_jax.lessons.tables import (
    Trial,
    curves_figure,
    network_and_linear,
    run_trial,
    seeds_of,
    spread_table,
    standardise,
)
from fidle_jax.report.lesson import Table
from fidle_jax.report.style import BLUE, GREEN, GREY, LINES, TEXT, finish, new_figure
from fidle_jax.train.evaluation import NUMBERS
from fidle_jax.train.step import Task

MEAN, LINEAR, NETWORK, RAW = "the mean", "linear model", "network", "network, raw features"
QUICK_EPOCHS = 60


class Comparison(NamedTuple):
    """Results of all models on one split, in the unit of the target."""

    parts: Parts
    true: Float[np.ndarray, " test"]
    predicted: dict[str, Float[np.ndarray, " test"]]
    trials: dict[str, Trial]
    baseline: float  # MAE on the validation rows if the mean is predicted


def compare(table: DataTable, linear: Task, network: Task, **options: int) -> Comparison:
    """Compare the mean, a linear model, a network, and the same network on raw features.

    All targets are standardised, so that the last two models differ only in their features. The split
    depends on ``seed``. ``options`` are those of `run_trial`.
    """
    parts = three_parts(table, options["seed"])
    scaled, _ = standardise(table.features, parts.train)
    targets, scaler = standardise(table.targets[:, None], parts.train)
    mean, deviation = scaler.mean_[0], float(scaler.scale_[0])
    predicted = {MEAN: np.full(len(parts.test), mean)}
    trials = {}
    models = {LINEAR: (linear, scaled), NETWORK: (network, scaled), RAW: (network, table.features)}
    for name, (task, features) in models.items():
        trial = run_trial(task, features, targets[:, 0], parts, **options)
        predicted[name] = scaler.inverse_transform(trial.outputs.astype(np.float64))[:, 0]
        history = {
            key: values * deviation ** (2 if key.endswith("loss") else 1)
            for key, values in trial.history.items()
        }
        trials[name] = trial._replace(history=history)
    baseline = float(np.abs(table.targets[parts.validation] - mean).mean())
    return Comparison(parts, table.targets[parts.test], predicted, trials, baseline)


def scores(
    true: Float[np.ndarray, " example"], predicted: Float[np.ndarray, " example"]
) -> dict[str, float]:
    """Return MSE, RMSE, MAE with its standard error, and R², of at least two examples."""
    mse = float(metrics.mean_squared_error(true, predicted))
    return {
        "mse": mse,
        "rmse": mse**0.5,
        "mae": float(metrics.mean_absolute_error(true, predicted)),
        "standard_error": float(np.abs(predicted - true).std(ddof=1) / len(true) ** 0.5),
        "r2": float(metrics.r2_score(true, predicted)),
    }


def teach(flags: Regression) -> Lesson:
    """Create the lesson."""
    table = load_table(flags.table)
    network, linear = network_and_linear((64, 64), 1, flags.learning_rate, NUMBERS)
    epochs = min(flags.epochs, QUICK_EPOCHS) if flags.quick else flags.epochs
    compared = [
        compare(table, linear, network, epochs=epochs, batch_size=flags.batch_size, seed=seed)
        for seed in seeds_of(flags)
    ]
    first, unit = compared[0], table.unit
    all_scores = {
        name: [scores(each.true, each.predicted[name]) for each in compared]
        for name in first.predicted
    }
    test = {name: each[0] for name, each in all_scores.items()}
    mae_with_error = {k: f"{x['mae']:.2f} ± {x['standard_error']:.2f}" for k, x in test.items()}
    mae = {name: np.array([each["mae"] for each in found]) for name, found in all_scores.items()}
    better = int((mae[NETWORK] < mae[LINEAR]).sum())
    within = (np.abs(first.predicted[NETWORK] - first.true) <= test[NETWORK]["rmse"]).mean()
    return Lesson(
        values={
            "table": table,
            "columns": table.features.shape[1],
            "counts": {name: len(rows) for name, rows in first.parts._asdict().items()},
            "test_mae": mae_with_error[NETWORK],
            "better": better,
            "within": 100 * within,
            "first_epoch": {k: each.history["score"][0] for k, each in first.trials.items()},
            "mae": {name: each.mean() for name, each in mae.items()},
            "splits": len(compared),
            "gain": mean_and_std(mae[NETWORK] - mae[LINEAR], ".2f", sign="+"),
        },
        shown={
            "columns": Table(
                ["training rows", "lowest", "highest", "mean", "standard deviation"],
                [
                    [name, *(f"{x:,.4g}" for x in (v.min(), v.max(), v.mean(), v.std()))]
                    for name, v in zip(
                        table.feature_names, table.features[first.parts.train].T, strict=True
                    )
                ],
            ),
            "curves": curves_figure(
                first.trials[NETWORK],
                f"mean squared error ({unit}²)",
                f"mean absolute error ({unit})",
            ),
            "scores": Table(
                ["model", f"MSE ({unit}²)", f"RMSE ({unit})", f"MAE ({unit})", "R²"],
                [
                    [
                        name,
                        *(f"{each[key]:.2f}" for key in ("mse", "rmse")),
                        mae_with_error[name],
                        number(each["r2"], ".2f"),
                    ]
                    for name, each in test.items()
                ],
            ),
            "predicted": predictions_figure(first.true, first.predicted[NETWORK], unit),
            "raw": raw_features_figure(
                {
                    "standardised features": first.trials[NETWORK].history["validation_score"],
                    "raw features": first.trials[RAW].history["validation_score"],
                },
                first.baseline,
                f"validation MAE ({unit})",
            ),
            "splits": spread_table(f"MAE ({unit})", mae, digits=2),
        },
        numbers={
            "rows": len(table.targets),
            "test": test,
            "best_epoch": first.trials[NETWORK].best_epoch,
            "mae_by_split": mae,
        },
        cover="predicted",
    )


def raw_features_figure(
    errors: dict[str, Float[np.ndarray, " epoch"]], baseline: float, ylabel: str
) -> Figure:
    """Draw the errors of each epoch on a logarithmic axis, with the error of predicting the mean."""
    figure = new_figure(height=3.6)
    axes = figure.subplots()
    draw_curves(axes, range(1, 1 + max(map(len, errors.values()))), errors, marker=".")
    axes.axhline(baseline, color=GREEN, linestyle="-.", linewidth=1.8, label="predict the mean")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.legend(fontsize=TEXT, frameon=False)
    finish(axes, x="epoch", y=ylabel)
    return figure


def predictions_figure(
    true: Float[np.ndarray, " example"], predicted: Float[np.ndarray, " example"], unit: str
) -> Figure:
    """Draw predictions against true values, with the diagonal and a band of one RMSE."""
    figure = new_figure(height=5.4, width=6.4)
    axes = figure.subplots()
    rmse = float(np.sqrt(np.mean((predicted - true) ** 2)))
    low = min(true.min(), predicted.min()) - rmse / 2
    high = max(true.max(), predicted.max()) + rmse / 2
    ends = np.array([low, high])
    band = {"color": LINES, "linewidth": 0, "label": "within one RMSE"}
    axes.fill_between(ends, ends - rmse, ends + rmse, **band)
    axes.plot(ends, ends, "--", color=GREY, label="predicted = true")
    axes.plot(true, predicted, "o", color=BLUE, alpha=0.7, markeredgewidth=0, label="test example")
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.legend(fontsize=TEXT, frameon=False, loc="upper left")
    finish(axes, x=f"true ({unit})", y=f"predicted ({unit})")
    return figure
