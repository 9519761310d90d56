"""Small tasks and files that several test modules use. We made up every sentence in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness.tasks import glue
from harness.tasks.base import METRICS, Example, Kind, Task


def memory_task(
    kind: Kind,
    train: Sequence[Example],
    dev: Sequence[Example],
    labels: tuple[str, ...] = (),
    metrics: tuple[str, ...] = (),
) -> Task:
    """Make a task from given examples."""
    metrics = metrics or METRICS[kind]
    return Task(
        name="memory",
        title="Memory",
        kind=kind,
        labels=labels,
        metrics=metrics,
        metric=metrics[0],
        max_length=32,
        synthetic=True,
        loader={"train": tuple(train), "dev": tuple(dev)}.__getitem__,
    )


def allow_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn off the check of GLUE's official sizes, so that files of a few rows load."""
    monkeypatch.setattr(glue, "TASKS", tuple(replace(spec, sizes=()) for spec in glue.TASKS))


def write(path: Path, lines: Sequence[str], *, newline: str = "\n", encoding: str = "utf-8") -> Path:
    """Write a text file of these lines and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + newline for line in lines).encode(encoding))
    return path


def tabs(*rows: Sequence[str]) -> list[str]:
    """Join rows to tab-separated lines."""
    return ["\t".join(row) for row in rows]
