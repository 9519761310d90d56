"""Finding tasks by name: GLUE's nine, SQuAD v1.1, the generated toy tasks, and descriptions of one's own in TOML."""

from __future__ import annotations

import os
import re
from pathlib import Path

from harness.common.errors import SkylineError, unknown_name
from harness.common.lazy import lazy_imports
from harness.tasks.base import Task

with lazy_imports():
    from harness.tasks import glue, local, squad, toy

DATA_DIR_VARIABLE = "SKYLINE_DATA_DIR"

_GLUE = ("sst2", "mrpc", "rte", "cola", "stsb", "wnli", "qnli", "qqp", "mnli")
_TOY = ("toy-sentiment", "toy-pairs")
_RESERVED = ("glue", "qqp-f1", "mnli-m", "mnli-mm")
"""Other names under which boards and papers show scores on GLUE."""


def task_names() -> tuple[str, ...]:
    """The ids of the built-in tasks."""
    return (*_GLUE, "squad", *_TOY)


def built_in_name(name: str) -> str | None:
    """The id of the built-in task that `name` stands for, in any spelling (`SST-2` is `sst2`), or None."""
    return {_plain(known): known for known in task_names()}.get(_plain(name))


def load_task(name: str, data_dir: Path | str | None = None) -> Task:
    """The task of that name, whose examples load when they are first asked for.

    Args:
        name: an id, in any case and with or without dashes (`SST-2` is `sst2`), or the path of a TOML
            description.
        data_dir: a folder in GLUE's layout; else the one that SKYLINE_DATA_DIR names; else the hub is asked.

    Raises `SkylineError` for an unknown name, a missing file, and where there is neither a folder nor a
    network.
    """
    if name.lower().endswith(".toml"):
        path = Path(name).expanduser()
        if not path.is_file():
            raise SkylineError(f"{path}: no such task description")
        described = local.task(path)
        # Boards join records by their tasks' names.
        if built_in_name(described.name) or _plain(described.name) in map(_plain, _RESERVED):
            raise SkylineError(f"{path}: name '{described.name}' is that of a built-in task; choose another")
        return described
    canonical = built_in_name(name)
    if canonical is None:
        raise unknown_name("task", name, task_names())
    if canonical in _TOY:
        return toy.task(canonical)
    folder = data_dir if data_dir is not None else os.environ.get(DATA_DIR_VARIABLE) or None
    root = Path(folder).expanduser() if folder is not None else None
    if canonical == "squad":
        return squad.task(root)
    return glue.task(next(spec for spec in glue.TASKS if spec.name == canonical), root)


def _plain(name: str) -> str:
    return re.sub(r"[-_. ]", "", name.lower())
