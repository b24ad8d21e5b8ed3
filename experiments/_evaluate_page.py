"""The parts of the page of an evaluation on how many are right, on two networks, and on speed."""

import os
from typing import Any, NamedTuple

import jax
import numpy as np
from _evaluate_subjects import ExampleSet, Subject
from jaxtyping import Bool, Int

from fidle_jax.inference.calibration import calibration, right_answers
from fidle_jax.inference.comparison import accuracy_interval, compare
from fidle_jax.inference.latency import BATCH_SIZES, measure_latency
from fidle_jax.report import evaluation_figures as figures
from fidle_jax.report.html import Picture
from fidle_jax.report.lesson import Section, Table, picture

SHOWN = 15  # examples that one network alone has right
LIKELY = 0.05  # a p-value from here on is no sign of a difference

LEAST = 1e-4  # p-values below are all the same to a person


class Part(NamedTuple):
    """A part of the page.

    Attributes:
        name: in evaluation.json.
        section: of the page.
        numbers: what evaluation.json is to hold.
        facts: the numbers to remember, by name, as text.
        notes: what a person at the terminal has to know besides the tables.
    """

    name: str
    section: Section
    numbers: Any
    facts: dict[str, str]
    notes: list[str]


def accuracy(subjects: list[Subject], test: ExampleSet) -> Part:
    """How many are right, and the loss."""
    numbers, rows, notes, examples = {}, [], [], len(test.labels)
    for each in subjects:
        right = int(right_answers(each.logits, test.labels).sum())
        interval = accuracy_interval(right, examples)
        found = calibration(each.logits, test.labels)
        numbers[each.name] = {
            "right": right,
            "accuracy": right / examples,
            "interval": list(interval),
            "loss": found.loss,
            "loss_standard_error": found.standard_error,
            "seen_in_training": each.seen,
        }
        rows.append(
            [
                each.name,
                f"{right:,} of {examples:,}",
                percent(right / examples),
                f"{percent(interval.low)} to {percent(interval.high)}",
                f"{found.loss:.4f} ± {found.standard_error:.4f}",
            ]
        )
        notes += _cautions(each, examples)
    text = (
        "The interval holds the accuracy on all such examples with 95 % confidence (Wilson). After ± "
        "stands the standard error of the mean loss, in nats."
    )
    table = Table(["network", "right", "accuracy", "95 % interval", "loss"], rows)
    section = Section("Accuracy", "\n\n".join([text, *notes]), [table])
    facts = {
        fact_name("accuracy", each, subjects): row[2]
        for each, row in zip(subjects, rows, strict=True)
    }
    return Part("accuracy", section, numbers, facts, notes)


def _cautions(subject: Subject, examples: int) -> list[str]:
    cautions = []
    if subject.seen:
        cautions.append(
            f"{subject.name} was trained on {subject.seen:,} of these {examples:,} examples: its "
            "accuracy here says little about new ones."
        )
    if subject.chosen_on_test:
        cautions.append(
            f"The epoch of {subject.name} was chosen on this very test set, which flatters it."
        )
    return cautions


def comparison(subjects: list[Subject], test: ExampleSet) -> Part:
    """Which examples each of two networks has right, and whether that is chance."""
    rights = [right_answers(each.logits, test.labels) for each in subjects]
    first, second = (each.name for each in subjects)
    found = compare(*rights)
    seldom = "may well make" if found.p_value >= LIKELY else "would seldom make"
    kind = "exact" if found.exact else "corrected for continuity"
    note = (
        f"{first} alone is right on {found.only_first:,} examples, {second} alone on "
        f"{found.only_second:,}, a difference that chance alone {seldom}: {_p_text(found.p_value)} "
        f"(McNemar's test, {kind})."
    )
    text = (
        "Both were asked of the same examples, so that only those count on which one is right and the "
        f"other is not. {note}\n\n"
        f"The accuracy of {second} less that of {first} is {_points(found.difference)} points, with "
        f"95 % confidence from {_points(found.interval.low)} to {_points(found.interval.high)} "
        "(Agresti and Min). This is about these two networks alone: with other seeds the same "
        "settings give others."
    )
    rows = [
        [f"{first} right", f"{found.both:,}", f"{found.only_first:,}"],
        [f"{first} wrong", f"{found.only_second:,}", f"{found.neither:,}"],
    ]
    shown: list[Table | Picture] = [Table(["", f"{second} right", f"{second} wrong"], rows)]
    for name, this, other in (("only_first", 0, 1), ("only_second", 1, 0)):
        chosen = rights[this] & ~rights[other]
        if chosen.any():
            shown.append(_alone(name, subjects[this].name, subjects, test, chosen))
    numbers = found._asdict() | {"interval": list(found.interval)}
    section = Section(f"{first} against {second}", text, shown)
    return Part("comparison", section, numbers, {"McNemar's test": _p_text(found.p_value)}, [note])


def _alone(
    name: str, who: str, subjects: list[Subject], test: ExampleSet, chosen: Bool[np.ndarray, " n"]
) -> Picture:
    rows = np.flatnonzero(chosen)
    shown = rows[evenly(len(rows), SHOWN)]
    which = "here are all of them" if len(shown) == len(rows) else f"here are {len(shown)}"
    return picture(
        name,
        f"What {who} alone has right",
        f"Right by {who} alone: {len(rows):,} examples. {which.capitalize()}, with both answers.",
        figures.disagreements(
            test.images[shown],
            {each.name.split()[0]: each.logits[shown].argmax(axis=1) for each in subjects},
            subjects[0].trained.class_names,
        ),
    )


def speed(subjects: list[Subject]) -> Part:
    """How long an answer takes, for batches of several sizes."""
    numbers, rows, facts = {}, [], {}
    for each in subjects:
        measured = [
            measure_latency(each.trained.predict, each.trained.image_shape, size)
            for size in BATCH_SIZES
        ]
        for found in measured:
            rows.append(
                [
                    each.name,
                    f"{found.batch_size}",
                    f"{1e3 * found.seconds:,.3g}",
                    f"{1e3 * found.slow_seconds:,.3g}",
                    f"{found.images_per_second():,.0f}",
                    f"{found.calls}",
                ]
            )
        numbers[each.name] = [
            found._asdict() | {"images_per_second": found.images_per_second()} for found in measured
        ]
        best = max(found.images_per_second() for found in measured)
        facts[fact_name("images a second", each, subjects)] = f"{best:,.0f}"
    device = jax.devices()[0]
    cores = f" of {os.cpu_count()} cores" if device.platform == "cpu" else ""
    text = (
        "Each call takes a batch from the host's memory and brings its probabilities back, with the program "
        "compiled before; latency is the median over all calls, and 19 calls in 20 take no longer than "
        f"the column beside it says. Measured on a device of the kind {device.device_kind!r}{cores}."
    )
    head = ["network", "batch", "latency, ms", "19 in 20, ms", "images a second", "calls"]
    section = Section("Speed", text, [Table(head, rows)])
    return Part("speed", section, numbers, facts, [])


def percent(share: float) -> str:
    """A share as a person reads it."""
    return f"{100 * share:.2f} %"


def _p_text(p_value: float) -> str:
    return f"p = {p_value:.2g}" if p_value >= LEAST else f"p < {LEAST:g}"


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f}".replace("-", "−")


def fact_name(name: str, subject: Subject, subjects: list[Subject]) -> str:
    """What a fact is called, of one network or of one of two."""
    return name if len(subjects) == 1 else f"{name}, {subject.name}"


def evenly(examples: int, most: int) -> Int[np.ndarray, " row"]:
    """Up to ``most`` of so many examples, evenly spaced."""
    return np.linspace(0, examples - 1, min(examples, most)).astype(int)
