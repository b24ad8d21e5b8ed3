"""Sections of the evaluation page, with tables and figures."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int, UInt8
from matplotlib.figure import Figure
from tqdm import tqdm

from fidle_jax.inference import evaluate
from fidle_jax.inference.corruptions import CORRUPTIONS, corrupt
from fidle_jax.inference.evaluate import ExampleSet, Subject, calibrate, is_correct
from fidle_jax.report import style
from fidle_jax.report.html import read_texts
from fidle_jax.report.lesson import Picture, Section, Table
from fidle_jax.report.pictures import draw_gallery

MAX_SHOWN = 15  # examples that only one network classifies correctly
SIGNIFICANT = 0.05
MIN_P = 1e-4  # smaller p-values are not distinguished


class Part(NamedTuple):
    """A part of an evaluation."""

    name: str  # key in evaluation.json
    section: Section  # of the page
    numbers: Any  # content of evaluation.json
    facts: dict[str, str]  # main results by name
    notes: Sequence[str]  # remarks for the terminal, besides the tables


def _part(
    name: str,
    numbers: Any,
    facts: dict[str, str],
    shown: Sequence[Table | Picture],
    notes: Sequence[str] = (),
) -> Part:
    title, text = _texts()[name]
    return Part(name, Section(title, "\n\n".join([text, *notes]), shown), numbers, facts, notes)


def _texts() -> dict[str, tuple[str, str]]:
    device = jax.devices()[0]
    cores = os.cpu_count() if device.platform == "cpu" else None
    values = {"bins": evaluate.BINS, "device": device.device_kind, "cores": cores}
    return read_texts("evaluate.md.j2", "fidle_jax.inference", **values)


def make_parts(
    subjects: list[Subject], test: ExampleSet, corrupted: int, seed: int, latency: bool
) -> Iterator[Part]:
    """Compute one part of the page after the other. ``corrupted`` is the number of corrupted examples."""
    yield accuracy(subjects, test)
    if len(subjects) == 2:
        yield comparison(subjects, test)
    yield calibration(subjects, test)
    if corrupted:
        yield robustness(subjects, test, corrupted, seed)
    if latency:
        yield speed(subjects)


def accuracy(subjects: list[Subject], test: ExampleSet) -> Part:
    """Report accuracy and loss."""
    numbers, rows, notes, facts, examples = {}, [], [], {}, len(test.labels)
    for each in subjects:
        correct = int(is_correct(each.logits, test.labels).sum())
        low, high = evaluate.accuracy_interval(correct, examples)
        found = calibrate(each.logits, test.labels)
        numbers[each.name] = {
            "correct": correct,
            "accuracy": correct / examples,
            "interval": [low, high],
            "loss": found.loss,
            "loss_standard_error": found.standard_error,
            "seen_in_training": each.seen,
        }
        count, share = f"{correct:,} of {examples:,}", percent(correct / examples)
        loss = f"{found.loss:.4f} ± {found.standard_error:.4f}"
        rows.append([each.name, count, share, f"{percent(low)} to {percent(high)}", loss])
        facts[_fact("accuracy", each, subjects)] = share
        optimistic = f"the accuracy of {each.name} is too optimistic"
        if each.seen:
            notes.append(f"{each.seen:,} of these examples are training data, so {optimistic}.")
        if each.chosen_on_test:
            notes.append(f"The epoch was selected on this test set, so {optimistic}.")
    table = Table(["network", "correct", "accuracy", "95 % interval", "loss"], rows)
    return _part("accuracy", numbers, facts, [table], notes)


def comparison(subjects: list[Subject], test: ExampleSet) -> Part:
    """Test whether two networks differ by more than chance."""
    correct = [is_correct(each.logits, test.labels) for each in subjects]
    first, second = (each.name for each in subjects)
    found = evaluate.compare(*correct)
    p_text = f"p = {found.p_value:.2g}" if found.p_value >= MIN_P else f"p < {MIN_P:g}"
    verdict = "significant" if found.p_value < SIGNIFICANT else "not significant"
    note = (
        f"Only {first} is correct on {found.only_first:,} examples, only {second} on "
        f"{found.only_second:,}. The difference is {verdict}: {p_text} (McNemar's exact test)."
    )
    difference, low, high = (
        f"{100 * value:+.2f}".replace("-", "−") for value in (found.difference, *found.interval)
    )
    text = (
        f"{note}\n\nThe accuracy of {second} minus that of {first} is {difference} percentage points, with "
        f"a 95 % confidence interval of {low} to {high} (Agresti and Min). This compares two trained "
        "networks. The same settings with other seeds give other networks."
    )
    rows = [
        [f"{first} correct", f"{found.both:,}", f"{found.only_first:,}"],
        [f"{first} wrong", f"{found.only_second:,}", f"{found.neither:,}"],
    ]
    shown: list[Table | Picture] = [Table(["", f"{second} correct", f"{second} wrong"], rows)]
    first_answers, second_answers = (each.logits.argmax(axis=1) for each in subjects)
    for name, this, other in (("only_first", 0, 1), ("only_second", 1, 0)):
        indices = np.flatnonzero(correct[this] & ~correct[other])
        some = indices[evenly_spaced(len(indices), MAX_SHOWN)]
        if len(some):
            pairs = [[("A", first_answers[i]), ("B", second_answers[i])] for i in some]
            lines = [[f"{who}: {test.class_names[k]}" for who, k in pair] for pair in pairs]
            title = f"Examples that only {subjects[this].name} classifies correctly"
            caption = f"{title}: {len(indices):,}. Here are {len(some)} of them with both answers."
            figure = draw_gallery(test.images[some], lines)
            shown.append(Picture(name, title, caption, style.png(figure)))
    numbers = found._asdict() | {"interval": list(found.interval)}
    section = Section(f"{first} against {second}", text, shown)
    return Part("comparison", section, numbers, {"McNemar's test": p_text}, [note])


def calibration(subjects: list[Subject], test: ExampleSet) -> Part:
    """Report calibration before and after temperature scaling."""
    numbers, rows, notes, panels, facts = {}, [], [], {}, {}
    for each in subjects:
        temperature, note = _fit_temperature(each)
        notes.append(note)
        states = {"as trained": calibrate(each.logits, test.labels)}
        if temperature is not None:
            states["temperature scaled"] = calibrate(each.logits, test.labels, temperature)
        numbers[each.name] = {}
        for state, found in states.items():
            error = percent(found.error)
            rows.append([each.name, state, f"{found.temperature:.3f}", error, f"{found.loss:.4f}"])
            panels[f"{_fact(state, each, subjects)}\nECE {error}"] = found
            # JSON has no NaN, the mean of an empty bin.
            bins = {
                name: [None if np.isnan(x) else x for x in getattr(found, name).tolist()]
                for name in ("counts", "confidence", "accuracy")
            }
            scores = {"temperature": found.temperature, "ece": found.error, "nll": found.loss}
            numbers[each.name][state.replace(" ", "_")] = scores | {"bins": bins}
        errors = [percent(found.error) for found in states.values()]
        facts[_fact("ECE", each, subjects)] = " → ".join(errors)
    shown = [
        Table(["network", "", "temperature", "ECE", "NLL"], rows, words=(0, 1)),
        Picture("reliability", *_texts()["reliability"], style.png(draw_reliability(panels))),
    ]
    return _part("calibration", numbers, facts, shown, notes)


def _fit_temperature(subject: Subject) -> tuple[float | None, str]:
    """Return the temperature, or None, and a note about it."""
    if isinstance(subject.validation, str):
        return None, f"No temperature was fitted for {subject.name}: {subject.validation}."
    logits, labels = subject.validation
    temperature = evaluate.fit_temperature(logits, labels)
    note = f"The temperature of {subject.name} was fitted on the hold-out set"
    if temperature is None:
        note = f"No temperature is the best one for {subject.name}"
    correct = int(is_correct(logits, labels).sum())
    return temperature, f"{note}: {correct:,} of {len(labels):,} hold-out examples are correct."


def robustness(subjects: list[Subject], test: ExampleSet, limit: int, seed: int) -> Part:
    """Report the accuracy on corrupted images."""
    rows = evenly_spaced(len(test.labels), limit)
    images, labels = test.images[rows], test.labels[rows]
    example = int(images.std(axis=(1, 2, 3)).argmax())
    clean = [each.logits[rows].argmax(axis=1) for each in subjects]
    answers, pictures = [], []
    for corruption in tqdm(CORRUPTIONS.values(), "corruptions", disable=None, leave=False):
        versions = [corrupt(images, corruption, each, seed) for each in corruption.strengths]
        predicted = [[each.forward(x).argmax(axis=1) for each in subjects] for x in versions]
        answers.append([clean, *predicted])
        pictures.append([x[example] for x in (images, *versions)])
    answers = np.array(answers)  # corruption, strength (the first is clean), network, example
    counts = (answers == labels).sum(axis=-1)
    accuracies = counts / len(labels)
    names = [each.name for each in subjects]
    table = [
        [_fact(name, subject, subjects), " ".join(corruption.texts())]
        + [f"{100 * share:.1f}" for share in accuracies[i, :, j]]
        for i, (name, corruption) in enumerate(CORRUPTIONS.items())
        for j, subject in enumerate(subjects)
    ]
    head = ["accuracy, %", "strengths", "clean", *map(str, range(1, 6))]
    label, said = int(labels[example]), answers[:, :, 0, example]
    truth = test.class_names[label]
    shown = [
        Table(head, table, words=(0, 1)),
        Picture(
            "robustness",
            "Accuracy by strength of corruption",
            f"On {len(labels):,} test examples, with 95 % intervals; –: clean images.",
            style.png(draw_robustness(counts, len(labels), names, 1 / len(test.class_names))),
        ),
        Picture(
            "corruptions",
            "An example of each corruption at each strength",
            f"A test image of class {truth!r} and the answers of {names[0]}. Framed: wrong.",
            style.png(draw_corruptions(np.array(pictures), said, label, test.class_names)),
        ),
    ]
    means = dict(zip(names, accuracies[:, 1:].mean(axis=(0, 1)).tolist(), strict=True))
    numbers = {
        "examples": len(labels),
        "mean_accuracy": means,
        "corruptions": {
            name: {
                "strengths": list(corruption.strengths),
                "accuracy": dict(zip(names, shares[1:].T.tolist(), strict=True)),
            }
            for (name, corruption), shares in zip(CORRUPTIONS.items(), accuracies, strict=True)
        },
    }
    facts = {_fact("accuracy, corrupted", s, subjects): percent(means[s.name]) for s in subjects}
    return _part("robustness", numbers, facts, shown)


def speed(subjects: list[Subject]) -> Part:
    """Report latency and throughput for several batch sizes."""
    numbers, rows, facts = {}, [], {}
    for each in subjects:
        predict, shape = each.trained.predict, each.trained.image_shape
        numbers[each.name] = [
            evaluate.measure_latency(predict, shape, size) for size in evaluate.LATENCY_BATCH_SIZES
        ]
        for found in numbers[each.name]:
            times = (f"{1e3 * found[key]:,.3g}" for key in ("seconds", "slow_seconds"))
            rate = f"{found['images_per_second']:,.0f}"
            rows.append([each.name, str(found["batch_size"]), *times, rate, str(found["calls"])])
        best = max(found["images_per_second"] for found in numbers[each.name])
        facts[_fact("images per second", each, subjects)] = f"{best:,.0f}"
    head = ["network", "batch", "median, ms", "95 %, ms", "images per second", "calls"]
    return _part("speed", numbers, facts, [Table(head, rows)])


def percent(share: float) -> str:
    """Format a fraction as a percentage."""
    return f"{100 * share:.2f} %"


def _fact(name: str, subject: Subject, subjects: list[Subject]) -> str:
    return name if len(subjects) == 1 else f"{name}, {subject.name}"


def evenly_spaced(examples: int, limit: int) -> Int[np.ndarray, " index"]:
    """Return the indices of at most ``limit`` evenly spaced examples."""
    return np.linspace(0, examples - 1, min(examples, limit)).astype(int)


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
        counts = found.counts[filled]
        middle, reach = _error_bars(np.rint(found.accuracy[filled] * counts), counts)
        upper.errorbar(
            found.confidence[filled], middle, reach, fmt="o", color=style.BLUE, ms=5, lw=1.5
        )
        upper.set(xlim=(0, 1.01), ylim=(0, 1.03))
        style.finish(upper, title, y="accuracy")
        edges = np.linspace(0, 1, len(found.counts) + 1)
        lower.stairs(found.counts, edges, fill=True, color=style.GREY)
        lower.set(yscale="log", ylim=(0.5, 2 * found.counts.max()))
        lower.yaxis.set_major_formatter("{x:,.0f}")
        style.finish(lower, x="confidence", y="examples")
    return figure


def draw_robustness(
    correct: Int[np.ndarray, "corruption strength network"],
    examples: int,
    names: list[str],
    chance: float,
) -> Figure:
    """Draw the accuracy by strength, with a panel for each corruption and a line for each network."""
    figure = style.new_figure(height=6.2)
    lines = ((style.BLUE, "o-"), (style.VERMILLION, "s--"))
    panels = figure.subplots(2, 3, sharey=True).ravel()
    for axes, (name, corruption), counts in zip(panels, CORRUPTIONS.items(), correct, strict=False):
        for i, (colour, fmt) in enumerate(lines[: len(names)]):
            middle, reach = _error_bars(counts[:, i], np.full(len(counts), examples))
            look = {"fmt": fmt, "color": colour, "lw": 2, "ms": 5, "capsize": 3}
            axes.errorbar(range(len(counts)), 100 * middle, 100 * reach, label=names[i], **look)
        axes.axhline(100 * chance, color=style.GREY, linestyle=":", linewidth=1.5, label="chance")
        axes.set_xticks(range(len(counts)), ["–", *corruption.texts()])
        style.finish(axes, name, corruption.measure)
        axes.set_ylim(0, 103)
        axes.tick_params(axis="x", labelsize=style.SMALL - 1)
    for axes in panels[::3]:
        axes.set_ylabel("accuracy, %", fontsize=style.TEXT)
    for axes in panels[len(correct) :]:
        axes.set_axis_off()
    style.legend_below(figure, columns=3)
    return figure


def _error_bars(correct: np.ndarray, examples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return accuracies, and their distances to both ends of the confidence interval."""
    pairs = zip(correct.astype(int).tolist(), examples.tolist(), strict=True)
    low, high = np.array([evaluate.accuracy_interval(*pair) for pair in pairs]).T
    middle = correct / examples
    return middle, np.array([middle - low, high - middle])


def draw_corruptions(
    pictures: UInt8[np.ndarray, "corruption strength height width channel"],
    answers: Int[np.ndarray, "corruption strength"],
    label: int,
    class_names: Sequence[str],
) -> Figure:
    """Draw an image of class ``label`` at each strength with the answers. Wrong ones are framed."""
    titles = []
    for name, corruption in CORRUPTIONS.items():
        titles += ["clean", *(f"{name} {text}" for text in corruption.texts())]
    lines = [[title, class_names[k]] for title, k in zip(titles, answers.flat, strict=True)]
    images = pictures.reshape(-1, *pictures.shape[2:])
    framed = answers.ravel() != label
    return draw_gallery(images, lines, framed=framed, columns=pictures.shape[1])
