"""Parsing of command-line flags with tyro. An error is one sentence."""

import contextlib
import dataclasses
import difflib
import functools
import io
import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructTypeInfo,
)

from fidle_jax.errors import InputError
from fidle_jax.train.config import list_settings

Flags = TypeVar("Flags")

# Names that other programs give to our flags, if difflib does not find the flag.
ALIASES = {
    "arch": ("model",),
    "bs": ("batch-size",),
    "dtype": ("compute-dtype",),
    "ema": ("ema-decay",),
    "gpus": ("devices", "gpus-per-node"),
    "grad-clip": ("clip-norm",),
    "lr": ("learning-rate",),
    "momentum": ("optimizer",),
    "opt": ("optimizer",),
    "out": ("run-dir", "output"),
    "outdir": ("run-dir", "output"),
    "output-dir": ("run-dir", "output"),
    "precision": ("compute-dtype",),
    "scheduler": ("schedule",),
    "wd": ("weight-decay",),
}


def parse_flags(
    description: str, defaults: Flags | type[Flags], words: Sequence[str] | None = None
) -> Flags:
    """Parse command-line flags with tyro.

    Args:
        description: First paragraphs of the help.
        defaults: A dataclass with the default flags. A class, if some flags are required.
        words: The arguments; those of the process if None.

    Raises:
        InputError: A flag is unknown or missing, or its value is wrong or out of range.
    """
    problems: list[str] = []
    rules = ConstructorRegistry()
    rules.primitive_rule(functools.partial(_plain_values, problems))
    rules.struct_rule(_one_line_helps)
    kind = defaults if isinstance(defaults, type) else type(defaults)
    settings: dict[str, Any] = {"description": description, "registry": rules}
    settings["config"] = [tyro.conf.OmitArgPrefixes]
    if kind is not defaults:
        settings["default"] = defaults
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            flags, unknown = tyro.cli(kind, args=words, return_unknown_args=True, **settings)
    except SystemExit as end:
        if end.code in (0, None):
            raise
        # tyro prints errors as boxes of many lines.
        text = " ".join(re.sub(r"[\u2500-\u257f]+|-{5,}", " ", output.getvalue()).split())
        raise InputError(_shorten(text, problems)) from None
    if unknown:
        raise InputError(_describe_unknown(unknown[0], _flag_names(kind)))
    check_ranges(flags)
    return typing.cast(Flags, flags)


def check_ranges(flags: Any) -> None:
    """Raise InputError if a flag of a dataclass is not in its `Range`."""
    for name, setting in list_settings("", type(flags)).items():
        value = getattr(flags, setting.field)
        if dataclasses.is_dataclass(value):
            check_ranges(value)
        elif not setting.several:
            setting.check(name, value)


def _shorten(text: str, problems: list[str]) -> str:
    """Return the message of a tyro error as one sentence."""
    text = re.split(r" (?:Argument helptext|For full helptext)", text)[0]
    text = re.sub(r"^(?:[A-Z]\w+ \w+ )(?=Error|Missing|[Ii]nvalid|Required|The)", "", text)
    if problems and (found := re.match(r"Error parsing (\S+):", text)):
        return f"{found[1]} is {problems[-1]}"
    if found := re.match(r"Missing value for argument '(\S+)'", text):
        return f"{found[1]} has no value; give one after it, or leave the flag out"
    if found := re.search(r"Missing from \S+: (\S+)", text):
        return f"{found[1]} is missing; --help explains what to give"
    return f"{text.rstrip('.')}; --help explains each flag"


def _flag_names(kind: type) -> list[str]:
    names = []
    for name, setting in list_settings("", kind).items():
        if dataclasses.is_dataclass(setting.kind):
            names += _flag_names(setting.kind)
        else:
            names += [name.replace("_", "-")]
            names += [f"no-{names[-1]}"] if setting.kind is bool else []
    return names


def _describe_unknown(word: str, known: list[str]) -> str:
    """Name an unknown flag and the closest known one."""
    flag = word.partition("=")[0]
    if not flag.startswith("-"):
        return f"unexpected argument {word!r}; values follow the name of a flag"
    name = flag.lstrip("-").replace("_", "-")
    near = [alias for alias in ALIASES.get(name, ()) if alias in known]
    near = near or difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean --{near[0]}?" if near else "--help lists all flags"
    return f"unknown flag {flag}; {hint}"


def _plain_values(problems: list[str], info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Parse optional values, numbers and choices. Record in ``problems`` why a value is wrong.

    tyro's own rules show optional values as "{None}|INT", and print errors of many lines.
    """
    kinds = [kind for kind in typing.get_args(info.type) if kind is not types.NoneType]
    optional = types.NoneType in typing.get_args(info.type)
    kind: Any = kinds[0] if optional else info.type
    several = typing.get_origin(kind) is tuple
    kind = typing.get_args(kind)[0] if several else kind
    choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
    kind = str if choices else kind
    if kind not in (str, int, float, Path):
        return None
    expected = {int: "a whole number", float: "a number"}.get(kind, "text")

    def convert(word: str) -> Any:
        if choices and word not in choices:
            near = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            problems.append(f"{word!r}; {hint}(known: {', '.join(choices)})")
        try:
            # Python would also accept underscores and the digits of other scripts.
            if kind in (int, float) and not re.fullmatch("[-+.0-9A-Za-z]+", word):
                raise ValueError
            return kind(word)
        except ValueError:
            problems.append(f"{word!r}; it must be {expected}")
            raise

    def read(words: list[str]) -> Any:
        values = tuple(convert(word) for word in words)
        if problems:
            raise ValueError(problems[-1])
        return values if several else values[0]

    def show(value: Any) -> list[str]:
        values = value if several else (value,)
        return ["none"] if value is None or not values else [str(item) for item in values]

    metavar = "PATH" if kind is Path else kind.__name__.upper()
    metavar = "{" + ",".join(choices) + "}" if choices else metavar
    return PrimitiveConstructorSpec(
        nargs="*" if several else 1,
        metavar=f"{metavar} ..." if several else metavar,
        instance_from_str=read,
        is_instance=lambda value: True,
        str_from_instance=show,
    )


def _one_line_helps(info: StructTypeInfo) -> Any:
    """Apply tyro's rules for dataclasses, and join the lines of each help text.

    tyro would print the line breaks of the source.
    """
    if _one_line_helps in info.markers:
        return None  # tyro then applies its own rule
    info = dataclasses.replace(info, markers=(*info.markers, _one_line_helps))
    spec = ConstructorRegistry.get_struct_spec(info)
    if not isinstance(spec, StructConstructorSpec):
        return spec
    fields = [dataclasses.replace(f, helptext=_one_line(f.helptext)) for f in spec.fields]
    return dataclasses.replace(spec, fields=tuple(fields))


def _one_line(text: Any) -> Any:
    """Join the lines of a text, or of the text that a function returns."""
    if callable(text):
        return lambda: _one_line(text())
    return text and " ".join(text.split())
