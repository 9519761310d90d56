"""Tasks: the nine of GLUE, SQuAD v1.1, two generated toy tasks, and tasks that users describe in TOML files."""

from __future__ import annotations

from harness.tasks.base import Example, Span, Task, TrainingView
from harness.tasks.registry import DATA_DIR_VARIABLE, built_in_name, load_task, task_names

__all__ = [
    "DATA_DIR_VARIABLE",
    "Example",
    "Span",
    "Task",
    "TrainingView",
    "built_in_name",
    "load_task",
    "task_names",
]
