"""The part of the page of an evaluation on calibration."""

from typing import Any

import numpy as np
from _evaluate_page import Part, fact_name, percent
from _evaluate_subjects import ExampleSet, Subject

from fidle_jax.inference.calibration import (
    BINS,
    Calibration,
    Reliability,
    calibration,
    fit_temperature,
    right_answers,
)
from fidle_jax.inference.comparison import accuracy_interval
from fidle_jax.report import evaluation_figures as figures
from fidle_jax.report.lesson import Section, Table, picture

TEXT = (
    "Of the examples that a network is 80 % sure of, 80 % should be right. The expected calibration error "
    f"(ECE) is the mean distance from that, over {BINS} bins of equal width; NLL is the mean negative "
    "log-likelihood of the right class, in nats. Temperature scaling divides the logits by one number. "
    "It is fitted on the examples that the run held out for validation, never on these (Guo et al., 2017), "
    "and changes how sure a network is, but no answer."
)
CAPTION = (
    "Bars: share of right answers among the examples of that confidence; points: the same at their mean "
    "confidence, with 95 % intervals. On the dashed line a network is honest, below it too sure. Grey: how "
    "many examples there are, on a logarithmic axis."
)


def calibrations(subjects: list[Subject], test: ExampleSet) -> Part:
    """Whether the networks are as often right as they are sure, before and after temperature scaling."""
    numbers, rows, notes, panels, facts = {}, [], [], {}, {}
    for each in subjects:
        states = {"as trained": calibration(each.logits, test.labels)}
        temperature, note = _temperature(each)
        notes.append(note)
        if temperature is not None:
            states["temperature scaled"] = calibration(each.logits, test.labels, temperature)
        for state, found in states.items():
            error = percent(found.error)
            rows.append([each.name, state, f"{found.temperature:.3f}", error, f"{found.loss:.4f}"])
            who = "" if len(subjects) == 1 else f"{each.name}, "
            panels[f"{who}{state}\nECE {error}"] = _bins(found.reliability)
        numbers[each.name] = {
            state.replace(" ", "_"): _numbers(found) for state, found in states.items()
        }
        errors = [percent(found.error) for found in states.values()]
        facts[fact_name("ECE", each, subjects)] = " → ".join(errors)
    shown = [
        Table(["network", "", "temperature", "ECE", "NLL"], rows, words=(0, 1)),
        picture("reliability", "Accuracy by confidence", CAPTION, figures.reliability(panels)),
    ]
    title = "Calibration: is it as often right as it is sure?"
    section = Section(title, "\n\n".join([TEXT, *notes]), shown)
    return Part("calibration", section, numbers, facts, notes)


def _temperature(subject: Subject) -> tuple[float | None, str]:
    """The temperature that suits what the run held out; None where there is none. And what to say of it."""
    if isinstance(subject.validation, str):
        return None, f"The temperature of {subject.name} is left out: {subject.validation}."
    logits, labels = subject.validation
    right = int(right_answers(logits, labels).sum())
    of_these = f"{right:,} of the {len(labels):,} examples that the run held out are right"
    temperature = fit_temperature(logits, labels)
    if temperature is None:
        return None, f"No temperature suits {subject.name} best: {of_these}."
    return temperature, f"The temperature of {subject.name} is fitted where {of_these}."


def _bins(found: Reliability) -> figures.Bins:
    intervals = [
        accuracy_interval(round(share * count), int(count)) if count else (np.nan, np.nan)
        for share, count in zip(found.accuracy, found.counts, strict=True)
    ]
    low, high = np.array(intervals).T
    return figures.Bins(found.counts, found.confidence, figures.Shares(found.accuracy, low, high))


def _numbers(found: Calibration) -> dict[str, Any]:
    # JSON has no NaN, which an empty bin's means are.
    bins = {
        name: [None if np.isnan(value) else value for value in values.tolist()]
        for name, values in found.reliability._asdict().items()
    }
    return {"temperature": found.temperature, "ece": found.error, "nll": found.loss, "bins": bins}
