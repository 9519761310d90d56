"""Rows of TSV, CSV and JSON Lines files, with line numbers; an error names file and line."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.common.errors import SkylineError, suggestion

MISSING_HINT = "fetch the file again or mend the line"


def at(path: Path, line: int, problem: str) -> SkylineError:
    """The error for one line (counted from 1) of a file."""
    return SkylineError(f"{path}, line {line}: {problem}")


def read_text(path: Path) -> str:
    """A file's text: UTF-8, with or without a byte-order mark; raises `SkylineError` naming a bad line."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SkylineError(f"{path}: no such file") from None
    except OSError as error:
        raise SkylineError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise at(path, line, f"not UTF-8 (byte 0x{data[error.start]:02x}); save the file as UTF-8") from None
    if not text.strip():
        raise SkylineError(f"{path}: the file is empty; it needs at least one row")
    return text


def tsv_rows(
    path: Path, wanted: Sequence[str], header: Sequence[str] | None = None, tolerated: float = 0.0
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The `wanted` columns of a tab-separated file, with line numbers; quotes are literal (`csv.QUOTE_NONE`).

    Args:
        path: the file; its first line is the header unless `header` gives the column names.
        wanted: names of columns, in the order in which each row's values come back.
        header: column names of a file that has no header line.
        tolerated: the share of rows with a wrong number of fields that is left out without an error; a cut
            last line is an error even so.

    Raises `SkylineError` for a missing column, a row with another number of fields, and a file without rows.
    """
    # Only a line feed ends a line: `str.splitlines` and the csv module would also split at characters that
    # GLUE's sentences may hold.
    lines = read_text(path).split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    lines = [line.removesuffix("\r") for line in lines]
    first = 0 if header is not None else 1
    names = list(header) if header is not None else lines[0].split("\t")
    indices = [_column(path, names, name) for name in wanted]
    if len(lines) <= first:
        raise SkylineError(f"{path}: no rows after the header")
    spare = int(tolerated * (len(lines) - first))
    for number, line in enumerate(lines[first:], start=first + 1):
        fields = line.split("\t")
        if len(fields) != len(names):
            if spare > 0 and number < len(lines):
                spare -= 1
                continue
            raise _field_count(path, number, len(fields), len(names), last=number == len(lines))
        yield number, tuple(fields[index] for index in indices)


def csv_rows(path: Path, wanted: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The `wanted` columns of a comma-separated file with a header line and quotes as RFC 4180 has them.

    The line number is that of a record's last line. Raises as `tsv_rows` does.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    names: list[str] | None = None
    count = 0
    try:
        for fields in reader:
            if not fields:
                continue
            if names is None:
                names = fields
                indices = [_column(path, names, name) for name in wanted]
                continue
            count += 1
            if len(fields) != len(names):
                raise _field_count(path, reader.line_num, len(fields), len(names), last=False)
            yield reader.line_num, tuple(fields[index] for index in indices)
    except csv.Error as error:
        raise at(path, reader.line_num, f"not CSV ({error}); {MISSING_HINT}") from None
    if count == 0:
        raise SkylineError(f"{path}: no rows after the header")


def jsonl_rows(path: Path, wanted: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The `wanted` keys of a file with one JSON object a line; numbers come back as their text.

    Raises `SkylineError` for a line that is no JSON object, a missing key, a value that is neither text nor
    number, and a file without rows.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise at(path, number, f"not JSON ({error.msg}); {MISSING_HINT}") from None
        if not isinstance(record, dict):
            raise at(path, number, f"a JSON object is needed, not {type(record).__name__}")
        values = []
        for name in wanted:
            if name not in record:
                raise at(path, number, _no_column("key", name, list(record)))
            value = record[name]
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise at(path, number, f"'{name}' must be text or a number, not {json.dumps(value)[:40]}")
            values.append(value if isinstance(value, str) else json.dumps(value))
        yield number, tuple(values)


READERS = {".tsv": tsv_rows, ".csv": csv_rows, ".jsonl": jsonl_rows}


def class_id(path: Path, line: int, value: str, ids: Mapping[str, int]) -> int:
    """The class id that a label's text stands for; raises `SkylineError` for one outside the set."""
    try:
        return ids[value]
    except KeyError:
        known = ", ".join(ids)
        found = f"label '{value[:40]}'" if value else "an empty label"
        raise at(path, line, f"{found} is not one of {known}") from None


def score(path: Path, line: int, value: str, low: float, high: float) -> float:
    """A gold score; raises `SkylineError` for what is no number or lies outside `low` to `high`."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise at(path, line, f"score '{value[:40]}' is not a number")
    if not low <= number <= high:
        raise at(path, line, f"score {value.strip()} lies outside {low:g} to {high:g}")
    return number


def _column(path: Path, names: Sequence[str], name: str) -> int:
    """The position of a column in the header."""
    if name not in names:
        raise at(path, 1, _no_column("column", name, names))
    return names.index(name)


def _no_column(word: str, name: str, names: Sequence[str]) -> str:
    """That a file lacks a column or key; a file that is no table may have very long names, and many."""
    return f"no {word} '{name}'; {suggestion(name, [known[:30] for known in names[:12]])}"


def _field_count(path: Path, line: int, found: int, needed: int, *, last: bool) -> SkylineError:
    where = " in the last line: the file is cut off" if last and found < needed else ""
    return at(path, line, f"{found} fields where {needed} are needed{where}; {MISSING_HINT}")
