"""What a person wants to know of the predictions on the test split: by class, and the errors."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class ClassScore(NamedTuple):
    """Precision, recall and F1 in [0, 1] of one class, and how many examples it has."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


def class_scores(
    labels: Int[np.ndarray, "n"], predicted: Int[np.ndarray, "n"], class_names: list[str]
) -> list[ClassScore]:
    """Scores of each class; 0 where a class was never predicted or has no example."""
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(class_names)), zero_division=0
    )
    return [
        ClassScore(name, float(precision), float(recall), float(f1), int(support))
        for name, precision, recall, f1, support in zip(class_names, *columns, strict=True)
    ]


class GroupScore(NamedTuple):
    """Of a group of classes: how many they are, their examples, and shares of these in [0, 1].

    ``accuracy`` are those of the right class, ``group_accuracy`` those of any class of the group.
    """

    name: str
    classes: int
    accuracy: float
    group_accuracy: float
    support: int


def group_scores(
    labels: Int[np.ndarray, "n"],
    predicted: Int[np.ndarray, "n"],
    group_of_class: Int[np.ndarray, "classes"],
    group_names: list[str],
) -> list[GroupScore]:
    """Scores of each group; 0 where it has no example."""
    right, right_group = labels == predicted, group_of_class[labels] == group_of_class[predicted]
    scores = []
    for group, name in enumerate(group_names):
        members = group_of_class[labels] == group
        support = int(members.sum())
        accuracy, group_accuracy = (
            float(x[members].mean()) if support else 0.0 for x in (right, right_group)
        )
        classes = int((group_of_class == group).sum())
        scores.append(GroupScore(name, classes, accuracy, group_accuracy, support))
    return scores


def group_errors(
    labels: Int[np.ndarray, "n"],
    predicted: Int[np.ndarray, "n"],
    group_of_class: Int[np.ndarray, "classes"],
    groups: int,
) -> Int[np.ndarray, "groups groups"]:
    """Counts of wrong examples; the row is the group of the true class, the column of the predicted."""
    true_group, predicted_group = group_of_class[labels], group_of_class[predicted]
    right = np.bincount(true_group[labels == predicted], minlength=groups)
    return confusion_counts(true_group, predicted_group, groups) - np.diag(right)


def confusion_counts(
    labels: Int[np.ndarray, "n"], predicted: Int[np.ndarray, "n"], classes: int
) -> Int[np.ndarray, "classes classes"]:
    """Counts of examples; the row is the true class, the column the predicted one."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, predicted, labels=np.arange(classes))


def commonest_confusions(
    counts: Int[np.ndarray, "classes classes"], most: int
) -> list[tuple[int, int, int]]:
    """Up to ``most`` (true class, predicted class, count) that happened, most frequent first."""
    errors = counts - np.diag(np.diag(counts))
    order = np.argsort(-errors, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, errors.shape), strict=True)
    return [(int(i), int(j), int(errors[i, j])) for i, j in pairs if errors[i, j]]


def worst_errors_of(
    labels: Int[np.ndarray, "n"], probabilities: Float[np.ndarray, "n classes"], most: int
) -> Int[np.ndarray, "errors"]:
    """Indices of up to ``most`` wrong examples, the most confidently wrong first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    confidence = probabilities[wrong].max(axis=1)
    return wrong[np.argsort(-confidence, kind="stable")[:most]]
