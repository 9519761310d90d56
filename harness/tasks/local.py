"""Tasks of one's own: a TOML description beside TSV, CSV or JSON Lines files.

name = "reviews"
kind = "classification"            # or "regression"
labels = ["negative", "positive"]  # as the files spell them, in the order of the class ids
metrics = ["accuracy", "f1"]       # the first is the primary one
max_length = 128                   # optional; a model must have so many positions where it is given

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

from harness.common.errors import SkylineError, suggestion
from harness.common.validation import first_fault
from harness.tasks import rows
from harness.tasks.base import METRICS, Example, Label, Task, canonical


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Files(_Strict):
    """Paths relative to the description; the suffix (.tsv, .csv, .jsonl) says the format."""

    train: str
    dev: str


class Columns(_Strict):
    """Names of columns, or of keys in JSON Lines."""

    text: str
    label: str
    pair: str | None = None


class Description(_Strict):
    """A task description, as the TOML file has it."""

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
            raise ValueError("labels: a classification task needs at least two, all different")
        if self.kind == "regression" and self.labels:
            raise ValueError("labels: a regression task has none")
        if not self.low < self.high:
            raise ValueError(
                f"low: scores lie between low and high, and {self.low:g} is not below {self.high:g}"
            )
        for metric in self.metrics:
            if metric not in known:
                raise ValueError(
                    f"metrics: unknown metric '{metric}' for {self.kind}; {suggestion(metric, known)}"
                )
        if "f1" in self.metrics and len(names) != 2:
            raise ValueError("metrics: f1 is that of the second of two labels; there are " + str(len(names)))
        return self


def task(path: Path) -> Task:
    """The task that a TOML file describes; raises `SkylineError` for a bad description or a missing file."""
    description = read(path)
    metrics = description.metrics or METRICS[description.kind][:1]
    files = {"train": path.parent / description.files.train, "dev": path.parent / description.files.dev}
    for file in files.values():
        if file.suffix.lower() not in rows.READERS:
            raise SkylineError(f"{path}: {file.name} is none of {', '.join(rows.READERS)}")
        if not file.is_file():
            raise SkylineError(f"{file}: no such file; {path.name} names it")
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
    """The description in a TOML file; raises `SkylineError` with one line that names the key."""
    try:
        content = tomllib.loads(rows.read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise SkylineError(f"{path}: not TOML ({error})") from None
    try:
        return Description.model_validate(content)
    except ValidationError as error:
        raise SkylineError(f"{path}: {_explain(error)}") from None


def load(description: Description, files: dict[str, Path], split: str) -> tuple[Example, ...]:
    """One split; raises `SkylineError` naming file and line for bad data."""
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


def _explain(error: ValidationError) -> str:
    """The first thing that is wrong with a description, in one line."""
    unknown = next((each for each in error.errors() if each["type"] == "extra_forbidden"), None)
    sections: dict[str, type[BaseModel]] = {"files": Files, "columns": Columns}
    inside = unknown is not None and len(unknown["loc"]) > 1
    model = sections[str(unknown["loc"][0])] if unknown is not None and inside else Description
    line = first_fault(error, model.model_fields).line
    return re.sub(r"a dictionary or instance of \w+", "a table", line)
