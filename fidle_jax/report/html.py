"""Templates of HTML pages that need no other files, and their number formats."""

import base64
import html
import math
import re
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

SPACE = "\N{NO-BREAK SPACE}"
LONGEST_TEXT = 100_000  # characters; a longer value is a figure


class Page(type(Path())):
    """Path of a page. A notebook shows its content."""

    def _repr_html_(self) -> str:
        content = html.escape(self.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{content}" width="100%" height="700"></iframe>'


def show_png(content: bytes) -> str:
    """Return an HTML element for a figure on a white background."""
    data = base64.b64encode(content).decode("ascii")
    return f'<img src="data:image/png;base64,{data}" style="max-width: 100%; width: 720px">'


def load_template(name: str, package: str = "fidle_jax.report") -> Template:
    """Load a template of a package. HTML templates escape all values."""
    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not name.endswith(".html.j2"),
        finalize=_join_units if name.endswith(".html.j2") else None,
    )
    environment.filters |= {
        "percent": percent,
        "brief_percent": brief_percent,
        "number": _number,
        "duration": duration,
        "base64": lambda png: base64.b64encode(png).decode("ascii"),
        "setting": _setting,
        "shape": lambda shape: str(tuple(shape)),
    }
    return environment.get_template(name)


def _join_units(value: Any) -> Any:
    """Replace the spaces around ± and before % by no-break spaces. Return macros and numbers unchanged."""
    if type(value) is not str or len(value) > LONGEST_TEXT:
        return value
    return re.sub(r"(?<=\d) (?=[%±])|(?<=±) ", SPACE, value)


def read_texts(name: str, package: str, **values: Any) -> dict[str, tuple[str, str]]:
    """Return title and text of each section of a template. A section starts with ``## key: title``."""
    text = load_template(name, package).render(**values)
    _, *parts = re.split(r"^## (\w+): (.*)\n", text, flags=re.MULTILINE)
    return {
        key: (title, content.strip())
        for key, title, content in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    }


def percent(share: float | None, digits: int = 2) -> str:
    """Format a share in percent, or a missing one as a dash."""
    if share is None or math.isnan(share):
        return "–"
    return f"{100 * share:.{digits}f}{SPACE}%"


def brief_percent(share: float) -> str:
    """Format a share in percent with one decimal."""
    return percent(share, 1)


def rounded(value: float | np.floating) -> str:
    """Format a number with three significant digits, without an exponent for large ones."""
    text = f"{value:.3g}"
    return f"{float(text):,.0f}" if "e+" in text else text


def duration(seconds: float | None) -> str:
    """Format a duration in milliseconds, seconds, minutes or hours."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{rounded(1e3 * seconds)}{SPACE}ms"
    if seconds < 60:
        return f"{seconds:.1f}{SPACE}s"
    minutes = round(seconds / 60)
    if seconds < 600:
        return f"{round(seconds) // 60} min {round(seconds) % 60} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, Integral) else rounded(value)


def _setting(value: object) -> str:
    match value:
        case None | "":
            return "–"
        case bool():
            return "yes" if value else "no"
        case float():
            return rounded(value)
        case list():
            return ", ".join(map(_setting, value))
    return str(value)
