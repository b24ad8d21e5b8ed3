"""The page of a lesson: text from a Markdown file next to the module, with its figures and tables."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module, resources
from typing import Any

from matplotlib.figure import Figure

from fidle_jax.lessons.figures import powers_of_ten
from fidle_jax.lessons.flags import Flags
from fidle_jax.report.lesson import DrawingNetwork, Page, Picture, Section, Slides, Table
from fidle_jax.report.style import png


@dataclass(frozen=True)
class Lesson:
    """The content of a lesson, without its text."""

    shown: Mapping[str, Figure | Slides | Table | DrawingNetwork]  # by the name that the text uses
    numbers: Mapping[str, Any]  # content of result.json
    cover: str  # name of the figure that represents the lesson on the index page
    values: Mapping[str, object] = field(default_factory=dict)  # for the text only


def teach(name: str, flags: Flags) -> tuple[Lesson, Page]:
    """Compute a lesson. Return its content, and its page with the text.

    The text can use the flags (``{flags.seed}``), constants of the module, numbers and values.
    """
    module = import_module(f"fidle_jax.lessons.{name}")
    lesson = module.teach(flags)
    text = resources.files("fidle_jax.lessons").joinpath(f"{name}.md").read_text("utf-8")
    return lesson, make_page(text, lesson, vars(module) | {"flags": flags})


def make_page(text: str, lesson: Lesson, others: Mapping[str, object]) -> Page:
    """Insert the values, figures and tables into the text.

    The text starts with the title, the summary, and a list of the key numbers. "## " begins a section.
    A paragraph that begins with ``![title](name)`` is the caption of the figure ``name``. ``![](name)``
    inserts a table, or a network that the page runs. Placeholders such as ``{loss:.4f}`` are values and
    numbers of the lesson, or ``others``.
    """
    text = text.format_map({**others, **lesson.numbers, **lesson.values})
    text = re.sub(r"(?<![\w-])-(?=\d)", "−", powers_of_ten(text))
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
            found = lesson.shown[name]
            if isinstance(found, Slides):
                found = Picture(name, alternative, caption, found.pngs[-1], found)
            elif isinstance(found, Figure):
                found = Picture(name, alternative, caption, png(found))
            shown.append(found)
        else:
            paragraphs.append(block)
    return Section(title, "\n\n".join(paragraphs), shown)
