"""Read rows of TSV, CSV and JSON Lines files with line numbers. Errors name file and line (counted from 1)."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.common.errors import Code, SkylineError, suggestion

REPAIR = "fetch the file again or correct the line"


def at(path: Path, line: int, problem: str, code: Code) -> SkylineError:
    """Make the error for one line of a file."""
    return SkylineError(f"{path}, line {line}: {problem}", code)


def read_text(path: Path) -> str:
    """Read a UTF-8 file, with or without a byte-order mark.

    Raises SkylineError: `not-found`, `unreadable` (also for bytes that are not UTF-8), or `no-data` for an empty file.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SkylineError(f"{path}: no such file", Code.NOT_FOUND) from None
    except OSError as error:
        raise SkylineError(f"{path}: cannot be read ({error.strerror})", Code.UNREADABLE) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = f"not UTF-8 (byte 0x{data[error.start]:02x}); save the file as UTF-8"
        raise at(path, line, problem, Code.UNREADABLE) from None
    if not text.strip():
        raise SkylineError(f"{path}: the file is empty; it needs at least one row", Code.NO_DATA)
    return text


def tsv_rows(
    path: Path, wanted: Sequence[str], header: Sequence[str] | None = None, tolerated: float = 0.0
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield (line number, values of the `wanted` columns) for each row of a tab-separated file. Quotes are literal.

    Args:
        path: the file; its first line is the header unless `header` is given.
        wanted: names of columns; the values have the same order.
        header: column names of a file that has no header line.
        tolerated: share of rows that may have a wrong number of fields and are skipped; the last row must be right.

    Raises SkylineError as `read_text` does, `unknown-name` for a missing column, `damaged` for a wrong number of
    fields, `no-data` for a file without rows.
    """
    # Only a line feed ends a line. `str.splitlines` and the csv module also split at other characters, which
    # sentences of GLUE contain.
    lines = read_text(path).split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    lines = [line.removesuffix("\r") for line in lines]
    first = 0 if header is not None else 1
    names = list(header) if header is not None else lines[0].split("\t")
    indices = [_column(path, names, name) for name in wanted]
    if len(lines) <= first:
        raise SkylineError(f"{path}: no rows after the header", Code.NO_DATA)
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
    """Yield (line number, values of the `wanted` columns) for each row of a CSV file with a header (RFC 4180).

    A row may span several lines; the number is the last one's. Raises as `tsv_rows` does, and `unreadable` for bad CSV.
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
        raise at(path, reader.line_num, f"not CSV ({error}); {REPAIR}", Code.UNREADABLE) from None
    if count == 0:
        raise SkylineError(f"{path}: no rows after the header", Code.NO_DATA)


def jsonl_rows(path: Path, wanted: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield (line number, values of the `wanted` keys) for each line of a file with one JSON object in each line.

    Numbers are returned as text. Raises SkylineError as `read_text` does, `unreadable` for a line that is not JSON,
    `wrong-kind` for another value than an object of texts and numbers, `unknown-name` for a missing key.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise at(path, number, f"not JSON ({error.msg}); {REPAIR}", Code.UNREADABLE) from None
        if not isinstance(record, dict):
            raise at(path, number, f"must be a JSON object, not {type(record).__name__}", Code.WRONG_KIND)
        values = []
        for name in wanted:
            if name not in record:
                raise _no_column(path, number, "key", name, list(record))
            value = record[name]
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                problem = f"'{name}' must be text or a number, not {json.dumps(value)[:40]}"
                raise at(path, number, problem, Code.WRONG_KIND)
            values.append(value if isinstance(value, str) else json.dumps(value))
        yield number, tuple(values)


READERS = {".tsv": tsv_rows, ".csv": csv_rows, ".jsonl": jsonl_rows}
"""The reader of each file suffix."""


def class_id(path: Path, line: int, value: str, ids: Mapping[str, int]) -> int:
    """Return the class id of a label. Raises SkylineError (`out-of-range`) for an unknown label."""
    try:
        return ids[value]
    except KeyError:
        known = ", ".join(ids)
        found = f"label '{value[:40]}'" if value else "an empty label"
        raise at(path, line, f"{found} is not one of {known}", Code.OUT_OF_RANGE) from None


def score(path: Path, line: int, value: str, low: float, high: float) -> float:
    """Parse a gold score.

    Raises SkylineError: `wrong-kind` for text that is not a finite number, `out-of-range` outside `low` to `high`.
    """
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise at(path, line, f"score '{value[:40]}' is not a number", Code.WRONG_KIND)
    if not low <= number <= high:
        raise at(path, line, f"score {value.strip()} lies outside {low:g} to {high:g}", Code.OUT_OF_RANGE)
    return number


def _column(path: Path, names: Sequence[str], name: str) -> int:
    """Return the index of a column in the header."""
    if name not in names:
        raise _no_column(path, 1, "column", name, names)
    return names.index(name)


def _no_column(path: Path, line: int, word: str, name: str, names: Sequence[str]) -> SkylineError:
    # A file of another format may give very many or very long names: show only a part of them.
    hint = suggestion(name, [known[:30] for known in names[:12]])
    return at(path, line, f"no {word} '{name}'; {hint}", Code.UNKNOWN_NAME)


def _field_count(path: Path, line: int, found: int, needed: int, *, last: bool) -> SkylineError:
    where = " in the last line: the file is cut off" if last and found < needed else ""
    return at(path, line, f"{found} fields instead of {needed}{where}; {REPAIR}", Code.DAMAGED)
