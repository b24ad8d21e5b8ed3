"""Tables of numbers that scikit-learn and mlxtend carry within them: nothing is downloaded."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from fidle_jax.data.splits import stratified_split
from fidle_jax.errors import check_name


class DataTable(NamedTuple):
    """Examples that are rows of numbers, and what is to be told of each.

    Attributes:
        rows: what one row is, in the plural.
        features: in their own units.
        feature_names: of the columns, with their units.
        targets: float32 numbers, or int32 places in ``class_names``.
        target_name: what the targets are.
        unit: of targets that are numbers, short; else empty.
        class_names: of targets that are classes; else empty.
    """

    rows: str
    features: Float[np.ndarray, "example feature"]
    feature_names: tuple[str, ...]
    targets: Shaped[np.ndarray, " example"]
    target_name: str
    unit: str = ""
    class_names: tuple[str, ...] = ()


class Parts(NamedTuple):
    """Rows to train on, to choose by, and to test with: places in the table, in ascending order."""

    train: Int[np.ndarray, " train"]
    validation: Int[np.ndarray, " validation"]
    test: Int[np.ndarray, " test"]


def load_table(name: str) -> DataTable:
    """The table of that name, whole; raises InputError where it is none of `TABLES`."""
    check_name("table", name, TABLES)
    return TABLES[name]()


def three_parts(table: DataTable, seed: int) -> Parts:
    """Three fifths, a fifth and a fifth of the rows, chosen by ``seed``; of each class as much.

    Raises:
        InputError: a negative seed.
    """
    strata = table.targets if table.class_names else np.zeros(len(table.targets), int)
    train, held_out = stratified_split(strata, 0.4, seed)
    # Another seed: the same one's bits would sort what they have sorted out already.
    validation, test = stratified_split(strata[held_out], 0.5, seed + 1)
    return Parts(train, held_out[validation], held_out[test])


def _autompg() -> DataTable:
    from mlxtend.data import autompg_data

    table, economy = autompg_data()
    # The eighth column is the car's name, which mlxtend reads as "no number"; the seventh a code.
    numbers, origin = table[:, :6], table[:, 6]
    features = np.column_stack([numbers, *(origin == code for code in (1, 2, 3))])
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
        target_name="progress of the illness after a year, in points",
        unit="points",
    )


def _cancer() -> DataTable:
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer()
    return DataTable(
        rows="tumours",
        features=table.data.astype(np.float32),
        feature_names=tuple(map(str, table.feature_names)),
        # scikit-learn calls malignant 0; what a test is to find is the positive class, 1.
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
