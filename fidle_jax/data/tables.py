"""Tables of numbers that scikit-learn and mlxtend contain. Nothing is downloaded."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from fidle_jax.data.dataset import stratified_split
from fidle_jax.errors import check_name


class DataTable(NamedTuple):
    """Rows of features, and the target of each row."""

    rows: str  # plural noun for the rows, e.g. "cars"
    features: Float[np.ndarray, "example feature"]
    feature_names: tuple[str, ...]  # with units
    targets: Shaped[np.ndarray, " example"]  # float32 numbers, or int32 class indices
    target_name: str
    unit: str = ""  # of a numeric target
    class_names: tuple[str, ...] = ()  # empty for a numeric target


class Parts(NamedTuple):
    """Row indices of the training, validation and test sets, in ascending order."""

    train: Int[np.ndarray, " train"]
    validation: Int[np.ndarray, " validation"]
    test: Int[np.ndarray, " test"]


def load_table(name: str) -> DataTable:
    """Load one of `TABLES`. Raise InputError for an unknown name."""
    check_name("table", name, TABLES)
    return TABLES[name]()


def three_parts(table: DataTable, seed: int) -> Parts:
    """Split the rows 60:20:20, stratified by class. Raise InputError if the seed is negative."""
    strata = table.targets if table.class_names else np.zeros(len(table.targets), int)
    train, held_out = stratified_split(strata, 0.4, seed)
    # With the same seed, the second split would sort by the random bits of the first.
    validation, test = stratified_split(strata[held_out], 0.5, seed + 1)
    return Parts(train, held_out[validation], held_out[test])


def _autompg() -> DataTable:
    from mlxtend.data import autompg_data

    table, economy = autompg_data()
    # The seventh column is a code of the origin, the eighth the name of the car, which mlxtend reads as NaN.
    origins = [table[:, 6] == code for code in (1, 2, 3)]
    features = np.column_stack([table[:, :6], *origins])
    known = np.isfinite(features).all(axis=1) & np.isfinite(economy)
    return DataTable(
        rows="cars",
        features=features[known].astype(np.float32),
        feature_names=(
            "cylinders",
            "displacement (cubic inches)",
            "power (horsepower)",
            "weight (pounds)",
            "0 to 60 miles an hour (seconds)",
            "model year (since 1900)",
            "from the USA (0 or 1)",
            "from Europe (0 or 1)",
            "from Japan (0 or 1)",
        ),
        targets=economy[known].astype(np.float32),
        target_name="miles per gallon of fuel",
        unit="mpg",
    )


def _diabetes() -> DataTable:
    from sklearn.datasets import load_diabetes

    table = load_diabetes(scaled=False)
    return DataTable(
        rows="patients",
        features=table.data.astype(np.float32),
        feature_names=(
            "age (years)",
            "sex (1 or 2)",
            "body mass index (kg/m²)",
            "mean blood pressure (mm Hg)",
            "cholesterol (mg/dl)",
            "LDL (mg/dl)",
            "HDL (mg/dl)",
            "cholesterol / HDL",
            "log of triglycerides",
            "blood sugar (mg/dl)",
        ),
        targets=table.target.astype(np.float32),
        target_name="progression of the disease after a year, in points",
        unit="points",
    )


def _cancer() -> DataTable:
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer()
    return DataTable(
        rows="tumours",
        features=table.data.astype(np.float32),
        feature_names=tuple(map(str, table.feature_names)),
        # In scikit-learn malignant is 0. The positive class, 1, should be what a test looks for.
        targets=(1 - table.target).astype(np.int32),
        target_name="kind of tumour",
        class_names=("benign", "malignant"),
    )


def _digits() -> DataTable:
    from sklearn.datasets import load_digits

    table = load_digits()
    return DataTable(
        rows="digits",
        features=table.data.astype(np.float32),
        feature_names=tuple(f"pixel {row}, {column}" for row in range(8) for column in range(8)),
        targets=table.target.astype(np.int32),
        target_name="digit",
        class_names=tuple("0123456789"),
    )


REGRESSION = {"autompg": _autompg, "diabetes": _diabetes}
CLASSIFICATION = {"cancer": _cancer, "digits": _digits}
TABLES = REGRESSION | CLASSIFICATION
