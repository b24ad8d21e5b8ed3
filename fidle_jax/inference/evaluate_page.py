"""Sections of the evaluation page, with tables and figures."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from tqdm import tqdm

from fidle_jax.inference import evaluate
from fidle_jax.inference.corruptions import CORRUPTIONS, corrupt
from fidle_jax.inference.evaluate import ExampleSet, Subject, calibrate
from fidle_jax.report import style
from fidle_jax.report.html import read_texts, rounded
from fidle_jax.report.lesson import Picture, Section, Table
from fidle_jax.report.pictures import draw_gallery, evenly_spaced

MAX_SHOWN = 15  # examples that only one network classifies correctly
SIGNIFICANT = 0.05
MIN_P = 1e-4  # smaller p-values are not distinguished

# Columns of tables: heads, and formats of the values of a record.
ACCURACY = {
    "network": "{network}",
    "correct": "{correct:,} of {examples:,}",
    "accuracy": "{accuracy:.2%}",
    "95 % interval": "{interval[0]:.2%} to {interval[1]:.2%}",
}
CALIBRATION = {
    "network": "{network}",
    "logits": "{state}",
    "temperature": "{temperature:#.3g}",
    "ECE": "{ece:.2%}",
    "NLL": "{nll:#.3g}",
}
ROBUSTNESS = {
    "network": "{network}",
    "corruption": "{corruption}",
    "strengths": "{strengths}",
    "clean": "{accuracy[0]:.1%}",
    **{str(k): f"{{accuracy[{k}]:.1%}}" for k in range(1, 6)},
}
SPEED = {
    "network": "{network}",
    "batch": "{batch_size}",
    "median, ms": "{median}",
    "95 %, ms": "{slow}",
    "images per second": "{images_per_second:,.0f}",
}


class Part(NamedTuple):
    """Results for one section of the page."""

    records: list[dict[str, Any]]  # for evaluation.json
    shown: list[Table | Picture]
    notes: Sequence[str] = ()  # for the page and the terminal


def make_parts(
    subjects: list[Subject], test: ExampleSet, corrupted: int, seed: int, latency: bool
) -> Iterator[tuple[str, Section, Part]]:
    """Compute one part after the other. Yield its name, its section and its results.

    ``corrupted`` is the number of corrupted examples.
    """
    device = jax.devices()[0]
    cores = os.cpu_count() if device.platform == "cpu" else None
    values = {"bins": evaluate.BINS, "device": device.device_kind, "cores": cores}
    texts = read_texts("evaluate.md.j2", "fidle_jax.inference", **values)

    def section(name: str, part: Part) -> tuple[str, Section, Part]:
        title, text = texts[name]
        return name, Section(title, "\n\n".join([text, *part.notes]), part.shown), part

    yield section("accuracy", accuracy(subjects, test))
    if len(subjects) == 2:
        yield section("comparison", comparison(subjects, test))
    yield section("calibration", calibration(subjects, test))
    if corrupted:
        yield section("robustness", robustness(subjects, test, corrupted, seed))
    if latency:
        yield section("speed", speed(subjects))


def _table(columns: dict[str, str], records: list[dict[str, Any]], words=(0,)) -> Table:
    """Return a table with the formatted values of each record."""
    rows = [
        [cell.format(**each).replace("%", " %") for cell in columns.values()] for each in records
    ]
    return Table(list(columns), rows, words)


def accuracy(subjects: list[Subject], test: ExampleSet) -> Part:
    """Report accuracies with their confidence intervals."""
    records, examples = [], len(test.labels)
    for each in subjects:
        correct = int((each.logits.argmax(axis=1) == test.labels).sum())
        record = {"network": each.name, "correct": correct, "examples": examples}
        record |= {"accuracy": correct / examples, "seen_in_training": each.seen}
        records.append(record | {"interval": evaluate.accuracy_interval(correct, examples)})
    notes = [warning for each in subjects for warning in each.warnings]
    return Part(records, [_table(ACCURACY, records)], notes)


def comparison(subjects: list[Subject], test: ExampleSet) -> Part:
    """Test whether two networks differ by more than chance."""
    answers = [each.logits.argmax(axis=1) for each in subjects]
    correct = [each == test.labels for each in answers]
    first, second = (each.name for each in subjects)
    found = evaluate.compare(*correct)
    p_text = f"p = {found.p_value:.2g}" if found.p_value >= MIN_P else f"p < {MIN_P:g}"
    verdict = "significant" if found.p_value < SIGNIFICANT else "not significant"
    difference, low, high = (
        f"{100 * value:+.2f}".replace("-", "−") for value in (found.difference, *found.interval)
    )
    notes = [
        f"Only {first} is correct on {found.only_first:,} examples, only {second} on "
        f"{found.only_second:,}. The difference is {verdict}: {p_text} (McNemar's exact test).",
        f"The accuracy of {second} minus that of {first} is {difference} percentage points, with a 95 % "
        f"confidence interval of {low} to {high} (Agresti and Min).",
    ]
    rows = [
        [f"{first} correct", f"{found.both:,}", f"{found.only_first:,}"],
        [f"{first} wrong", f"{found.only_second:,}", f"{found.neither:,}"],
    ]
    shown: list[Table | Picture] = [
        Table(["test examples", f"{second} correct", f"{second} wrong"], rows)
    ]
    for name, this, other in (("only_first", 0, 1), ("only_second", 1, 0)):
        indices = np.flatnonzero(correct[this] & ~correct[other])
        some = indices[evenly_spaced(len(indices), MAX_SHOWN)]
        if len(some):
            pairs = zip(*(each[some] for each in answers), strict=True)
            names = test.class_names
            lines = [[f"A: {names[a]}", f"B: {names[b]}"] for a, b in pairs]
            title = f"Examples that only {subjects[this].name} classifies correctly"
            caption = f"{title}, with both answers: {len(some)} of {len(indices):,}."
            figure = draw_gallery(test.images[some], lines)
            shown.append(Picture(name, title, caption, style.png(figure)))
    return Part([found._asdict()], shown, notes)


def calibration(subjects: list[Subject], test: ExampleSet) -> Part:
    """Report calibration before and after temperature scaling."""
    records, notes, panels = [], [], {}
    for each in subjects:
        states = {"as trained": 1.0}
        if isinstance(each.temperature, str):
            notes.append(f"No temperature was fitted for {each.name}: {each.temperature}.")
        else:
            states["temperature scaled"] = each.temperature
        for state, temperature in states.items():
            found = calibrate(each.logits, test.labels, temperature)
            record = {"network": each.name, "state": state, "temperature": temperature}
            records.append(record | {"ece": found.error, "nll": found.loss})
            panels[f"{each.name}, {state}"] = found
    shown = [
        _table(CALIBRATION, records, words=(0, 1)),
        Picture(
            "reliability",
            "Accuracy by confidence",
            "On the dashed line, a network is calibrated. Below it, it is overconfident. Points: accuracy "
            "of the examples in each bin, at their mean confidence, with 95 % confidence intervals. "
            "Grey: number of examples, on a logarithmic axis.",
            style.png(draw_reliability(panels)),
        ),
    ]
    return Part(records, shown, notes)


def robustness(subjects: list[Subject], test: ExampleSet, limit: int, seed: int) -> Part:
    """Report the accuracy on corrupted images."""
    rows = evenly_spaced(len(test.labels), limit)
    images, labels = test.images[rows], test.labels[rows]
    clearest = int(images.std(axis=(1, 2, 3)).argmax())
    records, pictures, answers = [], [], []
    for name, corruption in tqdm(CORRUPTIONS.items(), "corruptions", disable=None, leave=False):
        versions = [corrupt(images, corruption, each, seed) for each in corruption.strengths]
        pictures += [x[clearest] for x in (images, *versions)]
        for each in subjects:
            logits = [each.logits[rows], *map(each.forward, versions)]
            predicted = np.argmax(logits, axis=2)
            record = {"network": each.name, "corruption": name, "examples": len(labels)}
            record["strengths"] = ", ".join(corruption.texts())
            # The first accuracy is that on the clean images.
            records.append(record | {"accuracy": (predicted == labels).mean(axis=1).tolist()})
            if each is subjects[0]:
                answers += predicted[:, clearest].tolist()
    label, first = int(labels[clearest]), subjects[0].name
    caption = (
        f"The figure shows a test image of class {test.class_names[label]!r} and the answers of {first}. "
        "Errors are framed."
    )
    figure = style.png(draw_corruptions(np.array(pictures), answers, label, test.class_names))
    shown = [
        _table(ROBUSTNESS, records, words=(0, 1)),
        Picture(
            "robustness",
            "Accuracy by strength of corruption",
            f"The figure shows the accuracy on {len(labels):,} test examples, with 95 % confidence "
            "intervals. The first point of each line (–) is the accuracy on clean images.",
            style.png(draw_robustness(records)),
        ),
        Picture("corruptions", "An example of each corruption at each strength", caption, figure),
    ]
    notes = []
    for each in subjects:
        own = [record["accuracy"][1:] for record in records if record["network"] == each.name]
        mean = f"{100 * np.mean(own):.2f} %"
        notes.append(f"The mean accuracy of {each.name} on corrupted images is {mean}.")
    return Part(records, shown, notes)


def speed(subjects: list[Subject]) -> Part:
    """Report latency and throughput for several batch sizes."""
    records = [
        {"network": each.name}
        | evaluate.measure_latency(each.trained.predict, each.trained.image_shape, size)
        for each in subjects
        for size in evaluate.LATENCY_BATCH_SIZES
    ]
    shown = [
        each
        | {
            "median": rounded(float(each["milliseconds"])),
            "slow": rounded(float(each["slow_milliseconds"])),
        }
        for each in records
    ]
    return Part(records, [_table(SPEED, shown)])


def draw_reliability(panels: dict[str, evaluate.Calibration]) -> Figure:
    """Draw accuracy by confidence for each title, with the number of examples below."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = style.new_figure(4.7 * rows, style.WIDTH * (1 if columns == 2 else 0.6))
    parts = np.ravel(figure.subfigures(rows, columns))
    for part, (title, found) in zip(parts, panels.items(), strict=False):
        upper, lower = part.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        upper.plot([0, 1], [0, 1], "--", color=style.GREY, linewidth=1.5)
        filled = np.flatnonzero(found.counts)
        middle = found.accuracy[filled]
        reach = _error_bars(middle, found.counts[filled])
        look = {"fmt": "o", "color": style.BLUE, "ms": 5, "lw": 1.5}
        upper.errorbar(found.confidence[filled], middle, reach, **look)
        upper.set(xlim=(0, 1.01), ylim=(0, 1.03))
        style.finish(upper, f"{title}\nECE {100 * found.error:.2f} %", y="accuracy")
        edges = np.linspace(0, 1, len(found.counts) + 1)
        lower.stairs(found.counts, edges, fill=True, color=style.GREY)
        lower.set(yscale="log", ylim=(0.5, 2 * found.counts.max()))
        lower.yaxis.set_major_formatter("{x:,.0f}")
        style.finish(lower, x="confidence", y="examples")
    return figure


def draw_robustness(records: list[dict[str, Any]]) -> Figure:
    """Draw the accuracy by strength, with a panel for each corruption and a line for each network."""
    figure = style.new_figure(height=6.2)
    panels = figure.subplots(2, 3, sharey=True).ravel()
    looks = (style.BLUE, "o-"), (style.VERMILLION, "s--")
    for axes, (name, corruption) in zip(panels, CORRUPTIONS.items(), strict=False):
        own = [record for record in records if record["corruption"] == name]
        for record, (colour, fmt) in zip(own, looks, strict=False):
            middle = np.array(record["accuracy"])
            reach = 100 * _error_bars(middle, np.full(len(middle), record["examples"]))
            look = {"fmt": fmt, "color": colour, "lw": 2, "ms": 5, "capsize": 3}
            axes.errorbar(range(len(middle)), 100 * middle, reach, label=record["network"], **look)
        axes.set_xticks(range(1 + len(corruption.strengths)), ["–", *corruption.texts()])
        style.finish(axes, name)
        axes.set_ylim(0, 103)
        axes.tick_params(axis="x", labelsize=style.SMALL - 1)
    for axes in panels[::3]:
        axes.set_ylabel("accuracy, %", fontsize=style.TEXT)
    for axes in panels[len(CORRUPTIONS) :]:
        axes.set_axis_off()
    if len({record["network"] for record in records}) > 1:
        style.legend_below(figure, columns=3)
    return figure


def _error_bars(accuracy: np.ndarray, examples: np.ndarray) -> np.ndarray:
    """Return the distances from accuracies to both ends of their confidence intervals."""
    pairs = zip(np.rint(accuracy * examples).astype(int), examples, strict=True)
    low, high = np.array([evaluate.accuracy_interval(*map(int, pair)) for pair in pairs]).T
    return np.array([accuracy - low, high - accuracy]).clip(0)


def draw_corruptions(
    pictures: UInt8[np.ndarray, "picture height width channel"],
    answers: Sequence[int],
    label: int,
    class_names: Sequence[str],
) -> Figure:
    """Draw an image of class ``label`` at each strength with the answers. Wrong ones are framed."""
    titles = []
    for name, corruption in CORRUPTIONS.items():
        titles += ["clean", *(f"{name} {text}" for text in corruption.texts())]
    lines = [[title, class_names[k]] for title, k in zip(titles, answers, strict=True)]
    framed = [answer != label for answer in answers]
    return draw_gallery(pictures, lines, framed=framed, columns=len(titles) // len(CORRUPTIONS))
