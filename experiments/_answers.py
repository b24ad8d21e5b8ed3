"""What a network took image files for: a table for people, CSV and JSON for programs."""

import csv
import io
import json
import os
import sys

Top = list[tuple[str, float]]  # classes and their probabilities, the likeliest first


def table(names: list[str], tops: list[Top]) -> str:
    """A line for each image, in columns of even width."""
    columns = [["image", *map(_printable, names)]]
    for rank, answers in enumerate(zip(*tops, strict=True)):
        width = max(len(name) for name, _ in answers)
        cells = (f"{name:<{width}} {100 * share:5.1f} %" for name, share in answers)
        columns.append(["then" if rank else "answer", *cells])
    widths = [max(map(len, column)) for column in columns]
    lines = (
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in zip(*columns, strict=True)
    )
    return "".join(f"{line}\n" for line in lines)


def _printable(name: str) -> str:
    return name if name.isprintable() else repr(name)


def as_csv(names: list[str], tops: list[Top]) -> str:
    """A row for each image: file,class_1,probability_1,class_2,..."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ranks = range(1, len(tops[0]) + 1)
    writer.writerow(["file", *(f"{what}_{n}" for n in ranks for what in ("class", "probability"))])
    for name, top in zip(names, tops, strict=True):
        writer.writerow(
            [name, *(cell for answer, share in top for cell in (answer, f"{share:.6f}"))]
        )
    return text.getvalue()


def as_json(names: list[str], tops: list[Top]) -> str:
    """A list with an object for each image, on a line: its file, and its classes in turn."""
    records = (
        {"file": name, "classes": [{"class": c, "probability": round(p, 6)} for c, p in top]}
        for name, top in zip(names, tops, strict=True)
    )
    lines = ",\n".join(map(json.dumps, records))
    return f"[\n{lines}\n]\n"


FORMATS = {"table": table, "csv": as_csv, "json": as_json}


def write_out(text: str) -> None:
    """Prints it; a reader that has seen enough is no error."""
    # A file's name may be of any bytes.
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
