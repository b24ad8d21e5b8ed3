"""Shared parts of the pages on trained networks: reading the texts, and writing the files."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fidle_jax.files import write_atomically, write_json
from fidle_jax.report.html import Picture, load_template
from fidle_jax.report.lesson import Section, render_lesson
from fidle_jax.train.run_dir import hold


def read_texts(name: str, **values: Any) -> dict[str, tuple[str, str]]:
    """Return title and text of each section of a template. A section starts with ``## key: title``."""
    text = load_template(name, "fidle_jax.inference").render(**values)
    _, *parts = re.split(r"^## (\w+): (.*)\n", text, flags=re.MULTILINE)
    return {
        key: (title, content.strip())
        for key, title, content in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    }


def write_page(
    run_dir: Path,
    title: str,
    summary: str,
    facts: dict[str, str],
    sections: Sequence[Section],
    command: str,
    numbers: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write the figures, report.html and JSON files to the new directory ``run_dir``.

    ``numbers`` maps the name of each JSON file to its content.
    """
    with hold(run_dir):
        (run_dir / "figures").mkdir(exist_ok=True)
        for shown in (each for section in sections for each in section.shown):
            if isinstance(shown, Picture) and shown.png is not None:
                write_atomically(run_dir / "figures" / f"{shown.name}.png", shown.png)
        for name, content in numbers.items():
            write_json(run_dir / name, content)
        page = render_lesson(title, summary, facts, sections, command)
        write_atomically(run_dir / "report.html", page)
