"""Tasks that users describe in a TOML file, with data in TSV, CSV or JSON Lines files.

name = "reviews"
kind = "classification"            # or "regression"
labels = ["negative", "positive"]  # as the files spell them, in the order of the class ids
metrics = ["accuracy", "f1"]       # the first is the primary one
max_length = 128                   # optional; if given, the model must have at least this many positions

[files]                            # relative to this description
train = "train.csv"
dev = "dev.csv"

[columns]
text = "review"
pair = "title"                     # optional
label = "sentiment"
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness.common.errors import Code, SkylineError, suggestion
from harness.common.validation import first_fault
from harness.tasks import rows
from harness.tasks.base import METRICS, Example, Label, Task, canonical


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Files(_Strict):
    """Paths relative to the description. The suffix (.tsv, .csv, .jsonl) decides the format."""

    train: str
    dev: str


class Columns(_Strict):
    """Names of columns (TSV, CSV) or keys (JSON Lines)."""

    text: str
    label: str
    pair: str | None = None


class Description(_Strict):
    """Content of a task description. `low` and `high` bound the scores of a regression task."""

    name: str
    kind: Literal["classification", "regression"]
    files: Files
    columns: Columns
    labels: tuple[str | int, ...] = ()
    metrics: tuple[str, ...] = ()
    max_length: Annotated[int, Field(ge=8)] = 128
    low: float = float("-inf")
    high: float = float("inf")

    @field_validator("name")
    @classmethod
    def _fits_a_file_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise ValueError(
                "must be 1 to 64 letters (without accents), digits, dots, dashes or underscores, "
                "of which the first is a letter or a digit"
            )
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Description:
        known = METRICS[self.kind]
        names = [str(label) for label in self.labels]
        if self.kind == "classification" and (len(set(names)) < 2 or len(set(names)) != len(names)):
            raise ValueError("labels: a classification task needs at least two different labels, each once")
        if self.kind == "regression" and self.labels:
            raise ValueError("labels: a regression task has no labels; remove them")
        if not self.low < self.high:
            raise ValueError(f"low: low must be less than high, and {self.low:g} is not below {self.high:g}")
        for metric in self.metrics:
            if metric not in known:
                raise ValueError(
                    f"metrics: unknown metric '{metric}' for {self.kind}; {suggestion(metric, known)}"
                )
        if "f1" in self.metrics and len(names) != 2:
            raise ValueError(f"metrics: f1 needs exactly 2 labels (the second is positive), not {len(names)}")
        return self


def task(path: Path) -> Task:
    """Make the task that a TOML file describes.

    Raises SkylineError as `read` does, `wrong-kind` for a data file with an unknown suffix, and `not-found` for a
    missing data file.
    """
    description = read(path)
    metrics = description.metrics or METRICS[description.kind][:1]
    files = {"train": path.parent / description.files.train, "dev": path.parent / description.files.dev}
    for file in files.values():
        if file.suffix.lower() not in rows.READERS:
            known = ", ".join(rows.READERS)
            raise SkylineError(f"{path}: {file.name} is none of {known}", Code.WRONG_KIND)
        if not file.is_file():
            raise SkylineError(f"{file}: no such file; {path.name} names it", Code.NOT_FOUND)
    return Task(
        name=description.name,
        title=description.name,
        kind=description.kind,
        labels=tuple(str(label) for label in description.labels),
        metrics=metrics,
        metric=metrics[0],
        max_length=description.max_length,
        synthetic=False,
        loader=partial(load, description, files),
        source="file",
        described=hashlib.sha256(
            canonical({**description.model_dump(mode="json"), "metrics": metrics})
        ).hexdigest(),
        files=tuple(files.values()),
        fixed_length="max_length" in description.model_fields_set,
    )


def read(path: Path) -> Description:
    """Read the description in a TOML file.

    Raises SkylineError: as `rows.read_text` does, `unreadable` for bad TOML, and for a wrong value the code of its
    `Fault`, with a message that names the key.
    """
    try:
        content = tomllib.loads(rows.read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise SkylineError(f"{path}: not TOML ({error})", Code.UNREADABLE) from None
    try:
        return Description.model_validate(content)
    except ValidationError as error:
        tables = {"files": Files.model_fields, "columns": Columns.model_fields}
        fault = first_fault(error, Description.model_fields, tables)
        line = re.sub(r"a dictionary or instance of \w+", "a table", fault.line)
        raise SkylineError(f"{path}: {line}", fault.code) from None


def load(description: Description, files: dict[str, Path], split: str) -> tuple[Example, ...]:
    """Read one split. Raises SkylineError that names file and line for bad data (see `rows`)."""
    path, columns = files[split], description.columns
    ids = {str(label): index for index, label in enumerate(description.labels)}
    wanted = [columns.label, columns.text, *([columns.pair] if columns.pair is not None else [])]
    examples: list[Example] = []
    for line, (gold, text, *rest) in rows.READERS[path.suffix.lower()](path, wanted):
        label: Label = (
            rows.class_id(path, line, gold, ids)
            if ids
            else rows.score(path, line, gold, description.low, description.high)
        )
        examples.append(Example(text, rest[0] if rest else None, label, f"{split}-{len(examples)}"))
    return tuple(examples)
