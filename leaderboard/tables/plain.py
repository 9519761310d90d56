"""Write a table as Markdown, CSV, JSON or aligned text, and put a table into a README."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from harness.common.errors import Code, SkylineError
from harness.common.files import write_atomically
from harness.common.lazy import lazy_imports
from leaderboard.tables.model import Table

with lazy_imports():
    import pydantic_core
    import tabulate


def to_markdown(table: Table) -> str:
    """Write the table as Markdown with its notes below. The name of a marked line is bold."""
    name = next((place for place, column in enumerate(table.columns) if not column.numeric), None)
    body = [
        [
            cell.text if column.numeric else escape_markdown(cell.text)
            for column, cell in zip(table.columns, line.cells, strict=True)
        ]
        for line in table.lines
    ]
    for line, texts in zip(table.lines, body, strict=True):
        if line.mark and name is not None:
            texts[name] = f"**{texts[name]}**"
    heads = [escape_markdown(column.title) for column in table.columns]
    notes = "\n".join(f"- {escape_markdown(note)}" for note in table.notes)
    return f"{_tabulated(table, heads, body, 'pipe')}\n\n{notes}".rstrip() + "\n"


def to_text(table: Table) -> str:
    """Write the table as aligned text of any width, with its title above and its notes below."""
    heads = [column.title for column in table.columns]
    body = [[cell.text for cell in line.cells] for line in table.lines]
    parts = [table.title, "", _tabulated(table, heads, body, "simple"), "", *table.notes]
    return "\n".join(parts).rstrip() + "\n"


def to_csv(table: Table) -> str:
    """Write the table as CSV: figures are unrounded, and a field is empty if nothing was measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.key for column in table.columns])
    writer.writerows([cell.value for cell in line.cells] for line in table.lines)
    return text.getvalue()


def to_json(document: object) -> str:
    """Write plain values and Pydantic models as indented JSON."""
    return pydantic_core.to_json(document, indent=1).decode()


def update_readme(path: Path, marker: str, markdown: str) -> None:
    """Replace the text between `<!-- board:MARKER -->` and `<!-- /board:MARKER -->` in the file at `path`.

    Raises SkylineError if the file cannot be read (unreadable), or if the two markers are not in it once each, in this
    order (incomplete).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SkylineError(
            f"{path} cannot be read ({error}); name a Markdown file", Code.UNREADABLE
        ) from None
    start, end = f"<!-- board:{marker} -->", f"<!-- /board:{marker} -->"
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise SkylineError(
            f"{path} needs the lines '{start}' and '{end}' once each, in this order; add them",
            Code.INCOMPLETE,
        )
    before, rest = text.split(start)
    after = rest.split(end)[1]
    write_atomically(path, f"{before}{start}\n\n{markdown.strip()}\n\n{end}{after}")


def escape_markdown(text: str) -> str:
    """Escape text for a cell of a Markdown table: borders, tags, links, emphasis and line breaks."""
    text = " ".join(text.split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_|\[\]])", r"\\\1", text)


def _tabulated(table: Table, heads: list[str], body: list[list[str]], style: str) -> str:
    align = ["right" if column.numeric else "left" for column in table.columns]
    return tabulate.tabulate(body, headers=heads, tablefmt=style, colalign=align, disable_numparse=True)
