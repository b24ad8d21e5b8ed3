"""The page of a lesson: prose in a Markdown file next to the module, with figures and tables from it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from fidle_jax.report.html import Picture
from fidle_jax.report.lesson import Section, Slides, Table, picture
from fidle_jax.report.style import png


class Frames(NamedTuple):
    """Figures that are shown one after the other, with a short label for each."""

    figures: Sequence[Figure]
    labels: Sequence[str]
    seconds: float = 0.8


@dataclass(frozen=True)
class Lesson:
    """The content of a lesson, without its prose.

    Attributes:
        values: Values of the placeholders in the prose, such as ``{loss:.4f}``.
        shown: Figures and tables by the name that the prose uses.
        numbers: Content of result.json.
        cover: Name of the figure that represents the lesson on the index page.
    """

    values: Mapping[str, object]
    shown: Mapping[str, Figure | Frames | Table]
    numbers: Mapping[str, Any]
    cover: str


class Page(NamedTuple):
    """Content of a lesson's page: the arguments of `fidle_jax.report.lesson.render_lesson`."""

    title: str
    summary: str
    facts: dict[str, str]
    sections: list[Section]


def make_page(name: str, lesson: Lesson) -> Page:
    """Read the prose of the lesson ``name`` and insert the values, figures and tables.

    The prose starts with the title, the summary, and a list of the key numbers. "## " begins a section.
    A paragraph that begins with ``![title](name)`` is the caption of the figure ``name``. ``![](name)``
    inserts a table.
    """
    text = resources.files("fidle_jax.lessons").joinpath(f"{name}.md").read_text("utf-8")
    text = re.sub(r"(?<![\w-])-(?=\d)", "−", text.format_map(lesson.values))
    head, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    title, summary, facts = head.removeprefix("# ").strip().split("\n\n")
    return Page(
        title,
        " ".join(summary.split()),
        dict(line.removeprefix("- ").split(": ", 1) for line in facts.splitlines()),
        [_section(each, lesson) for each in sections],
    )


def _section(text: str, lesson: Lesson) -> Section:
    title, *blocks = (" ".join(block.split()) for block in text.strip().split("\n\n"))
    paragraphs, shown = [], []
    for block in blocks:
        if match := re.fullmatch(r"!\[(.*?)\]\((\w+)\) ?(.*)", block):
            alternative, name, caption = match.groups()
            shown.append(_draw(lesson.shown[name], name, alternative, caption))
        else:
            paragraphs.append(block)
    return Section(title, "\n\n".join(paragraphs), shown)


def _draw(
    shown: Figure | Frames | Table, name: str, title: str, caption: str
) -> Picture | Slides | Table:
    if isinstance(shown, Figure):
        return picture(name, title, caption, shown)
    if isinstance(shown, Frames):
        pngs = list(map(png, shown.figures))
        return Slides(name, title, caption, pngs, shown.labels, shown.seconds)
    return shown
