"""What the HTML pages share: their template engine, how numbers are written, and figures within."""

import base64
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


@dataclass(frozen=True)
class Picture:
    """A figure of the page; ``caption`` says what to see, or, without a PNG, why there is none."""

    name: str
    title: str
    caption: str
    png: bytes | None


def page_template(name: str) -> Template:
    """The template of that file name; what is put into it is escaped."""
    environment = Environment(
        loader=PackageLoader("fidle_jax.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": _percent,
        "number": _number,
        "duration": _duration,
        "base64": lambda png: base64.b64encode(png).decode("ascii"),
        "setting": _setting,
        "shape": _shape,
        "memory": _memory,
        "milliseconds": lambda value: "–" if value is None else f"{value:,.1f}\N{NO-BREAK SPACE}ms",
        "brief": _brief,
        "whole": lambda value: _number(None if value is None else round(value)),
    }
    return environment.get_template(name)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f}\N{NO-BREAK SPACE}%"


def brief_percent(share: float) -> str:
    """A share in percent, to a tenth."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def _number(value: float | None) -> str:
    """Thousands apart by commas; four digits of what is no whole number."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _memory(bytes_held: int | None) -> str:
    if bytes_held is None:
        return "–"
    mib = bytes_held / 2**20
    amount, unit = (mib, "MiB") if mib < 10_000 else (mib / 1024, "GiB")
    return f"{amount:,.4g}\N{NO-BREAK SPACE}{unit}"


def _brief(seconds: float | None) -> str:
    """As `_duration`, down to a millisecond."""
    if seconds is None or seconds >= 1:
        return _duration(seconds)
    return f"{1e3 * seconds:.0f}\N{NO-BREAK SPACE}ms"


def _setting(value: object) -> str:
    if value is None or value == "":
        return "–"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _shape(shape: list[int | None]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
