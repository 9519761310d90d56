"""Find tasks by name, or by the path of a TOML description."""

from __future__ import annotations

import os
import re
from pathlib import Path

from harness.common.errors import Code, SkylineError, unknown_name
from harness.common.lazy import lazy_imports
from harness.tasks.base import Task

with lazy_imports():
    from harness.tasks import glue, local, squad, toy

DATA_DIR_VARIABLE = "SKYLINE_DATA_DIR"

_GLUE = ("sst2", "mrpc", "rte", "cola", "stsb", "wnli", "qnli", "qqp", "mnli")
_TOY = ("toy-sentiment", "toy-pairs")
_RESERVED = ("glue", "qqp-f1", "mnli-m", "mnli-mm")
"""Further names by which boards and papers call scores on GLUE."""


def task_names() -> tuple[str, ...]:
    """Return the ids of the built-in tasks."""
    return (*_GLUE, "squad", *_TOY)


def built_in_name(name: str) -> str | None:
    """Return the id of the built-in task with this name in any spelling (`SST-2` is `sst2`), or None."""
    return {_plain(known): known for known in task_names()}.get(_plain(name))


def load_task(name: str, data_dir: Path | str | None = None) -> Task:
    """Return a task by name. Its examples load when they are first used.

    Args:
        name: an id in any case, with or without dashes (`SST-2` is `sst2`), or the path of a TOML description.
        data_dir: a folder in GLUE's layout; by default the one in SKYLINE_DATA_DIR, or else the hub.

    Raises SkylineError: `unknown-name` for an unknown task, `not-found` for a missing folder or file, `no-data` if
    there is neither a folder nor the hub, `duplicate` for a description with the name of a built-in task, and further
    codes for a bad description (see `local.task`).
    """
    if name.lower().endswith(".toml"):
        path = Path(name).expanduser()
        if not path.is_file():
            raise SkylineError(f"{path}: no such task description", Code.NOT_FOUND)
        described = local.task(path)
        # Boards join records by the name of the task, so names must be unique.
        if built_in_name(described.name) or _plain(described.name) in map(_plain, _RESERVED):
            raise SkylineError(
                f"{path}: name '{described.name}' belongs to a built-in task; choose another", Code.DUPLICATE
            )
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
