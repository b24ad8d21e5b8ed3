"""The part of the page of an evaluation on corrupted images."""

import numpy as np
from _evaluate_page import Part, evenly, fact_name, percent
from _evaluate_subjects import ExampleSet, Subject
from jaxtyping import Bool, Int, UInt8
from tqdm import tqdm

from fidle_jax.inference.comparison import accuracy_interval
from fidle_jax.inference.corruptions import CORRUPTIONS, corrupt
from fidle_jax.report import evaluation_figures as figures
from fidle_jax.report.lesson import Section, Table, picture

TEXT = (
    "Five corruptions at five strengths each (after Hendrycks and Dietterich, 2019). Images are shifted up, "
    "down, left or right, by a share of their side; turned to the left or to the right; given Gaussian "
    "noise, whose deviation is a share of white; blurred by a Gaussian, whose deviation is a share of the "
    "side; or drained of contrast, of which a share is left."
)

Images = UInt8[np.ndarray, "example height width channel"]


def robustness(subjects: list[Subject], test: ExampleSet, most: int, seed: int) -> Part:
    """Accuracy on images that are made worse and worse."""
    rows = evenly(len(test.labels), most)
    images, labels = test.images[rows], test.labels[rows]
    clean = np.stack([each.logits[rows].argmax(axis=1) for each in subjects])
    example = _clear_example(images, clean[0] == labels)
    panels, pictures, said = {}, {}, {}
    for name in tqdm(CORRUPTIONS, "corruptions", disable=None, leave=False):
        worse, answers = _answers(subjects, images, name, seed, example)
        answers = np.stack([clean, *answers])
        texts = [CORRUPTIONS[name].form.format(each) for each in CORRUPTIONS[name].strengths]
        shares = {
            each.name: _shares(answers[:, place] == labels) for place, each in enumerate(subjects)
        }
        panels[name] = figures.Strengths(CORRUPTIONS[name].measure, texts, shares)
        pictures[name] = np.stack([images[example], *worse])
        said[name] = answers[:, 0, example]
    class_names = subjects[0].trained.class_names
    shown = [
        _table(panels, subjects),
        picture(
            "robustness",
            "Accuracy by strength of corruption",
            f"On {len(labels):,} test examples, with 95 % intervals; –: the images as they are.",
            figures.accuracy_by_strength(panels, 1 / len(class_names)),
        ),
        picture(
            "corruptions",
            "An example of each corruption at each strength",
            f"One test image, {class_names[labels[example]]!r}, and what {subjects[0].name} takes it for. "
            "Framed: wrong.",
            figures.corrupted_examples(
                pictures,
                {name: ["as it is", *panel.texts] for name, panel in panels.items()},
                said,
                int(labels[example]),
                class_names,
            ),
        ),
    ]
    means = {
        each.name: float(
            np.mean([panel.accuracy[each.name].middle[1:] for panel in panels.values()])
        )
        for each in subjects
    }
    numbers = {
        "examples": len(labels),
        "mean_accuracy": means,
        "corruptions": {
            name: {
                "strengths": list(CORRUPTIONS[name].strengths),
                "accuracy": {who: each.middle[1:].tolist() for who, each in panel.accuracy.items()},
            }
            for name, panel in panels.items()
        },
    }
    facts = {
        fact_name("accuracy, corrupted", each, subjects): percent(means[each.name])
        for each in subjects
    }
    return Part("robustness", Section("Robustness", TEXT, shown), numbers, facts, [])


def _answers(
    subjects: list[Subject], images: Images, name: str, seed: int, example: int
) -> tuple[list[np.ndarray], list[Int[np.ndarray, "network example"]]]:
    """For each strength, the example's image, and what each network takes all images for."""
    corruption = CORRUPTIONS[name]
    pictures, answers = [], []
    for strength in corruption.strengths:
        worse = corrupt(images, corruption, strength, seed)
        pictures.append(worse[example])
        answers.append(np.stack([each.forward(worse).argmax(axis=1) for each in subjects]))
    return pictures, answers


def _shares(right: Bool[np.ndarray, "strength example"]) -> figures.Shares:
    intervals = [accuracy_interval(int(each.sum()), each.size) for each in right]
    low, high = np.array(intervals).T
    return figures.Shares(right.mean(axis=1), low, high)


def _clear_example(images: Images, right: Bool[np.ndarray, " example"]) -> int:
    """An image of more contrast than most, of those that are recognised, if there are any."""
    rows = np.flatnonzero(right) if right.any() else np.arange(len(images))
    by_contrast = rows[np.argsort(images[rows].std(axis=(1, 2, 3)), kind="stable")]
    return int(by_contrast[3 * len(rows) // 4])


def _table(panels: dict[str, figures.Strengths], subjects: list[Subject]) -> Table:
    head = ["accuracy, %", "strengths", "as it is", *map(str, range(1, 6))]
    rows = [
        [name if len(subjects) == 1 else f"{name}, {who}", " ".join(panel.texts)]
        + [f"{100 * share:.1f}" for share in shares.middle]
        for name, panel in panels.items()
        for who, shares in panel.accuracy.items()
    ]
    return Table(head, rows, words=(0, 1))
