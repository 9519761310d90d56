"""Declarations of boards: TOML files in the folder `boards` beside the records, which say what belongs to a board.

A measured board compares recipes on one base model under one protocol. An archive shows records of any terms, without
ranks, averages and fronts.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from harness.common.errors import Code, SkylineError, unknown_name
from harness.common.lazy import lazy_imports
from harness.common.validation import first_fault
from harness.records.schema import Workload
from harness.tasks import task_names
from leaderboard.boards.names import is_toy

with lazy_imports():
    from harness import runtimes as known_runtimes

FOLDER = "boards"
Names = Annotated[tuple[str, ...], Field(min_length=1)]
EVERYTHING = ("*",)


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Declaration(_Table):
    """What belongs to a measured board.

    `tasks` are compared, in this order. `protocol` is None for records without one. The first of `seeds` is the one
    that every row must have. `hardware` and `recipes` are patterns (`*` stands for any text); the baseline always
    belongs. The costs are those of `workloads` under `runtimes`; the first workload is the main one.
    """

    kind: Literal["measured"] = "measured"
    title: str
    model: str
    tasks: Names
    protocol: str | None = None
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    hardware: Names = EVERYTHING
    runtimes: Names = ("eager",)
    workloads: Annotated[tuple[Workload, ...], Field(min_length=1)] = (Workload(batch=1, length=128),)
    recipes: Names = EVERYTHING

    @field_validator("tasks", "seeds", "runtimes", "workloads")
    @classmethod
    def _once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError("each entry may be listed once")
        return values

    @field_validator("workloads")
    @classmethod
    def _of_own_rows(cls, workloads: tuple[Workload, ...]) -> tuple[Workload, ...]:
        if any(workload.task is not None for workload in workloads):
            raise ValueError("scored artifacts read the rows of their own task; leave out `task`")
        return workloads

    @field_validator("tasks")
    @classmethod
    def _of_one_kind(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        if len({is_toy(task) for task in tasks}) > 1:
            raise ValueError("real tasks and toy tasks cannot be on one board")
        return tasks


class ArchiveDeclaration(_Table):
    """What belongs to an archive: everything, unless patterns of base models and recipes narrow it."""

    kind: Literal["archive"]
    title: str
    models: Names = EVERYTHING
    recipes: Names = EVERYTHING


KINDS: Mapping[str, type[Declaration | ArchiveDeclaration]] = MappingProxyType(
    {"measured": Declaration, "archive": ArchiveDeclaration}
)


def matches(text: str, patterns: Sequence[str]) -> bool:
    """Check whether a text fits one of the patterns."""
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def declared_boards(profiles: Path | None) -> dict[str, Path]:
    """Find the declarations of a folder of records: their paths by the boards' names."""
    if profiles is None:
        return {}
    return {path.stem: path for path in sorted((profiles / FOLDER).glob("*.toml"))}


def read_declaration(path: Path) -> Declaration | ArchiveDeclaration:
    """Read a declaration.

    Raises SkylineError if the file cannot be read or is not TOML (`unreadable`), or for a wrong key or value; the
    message names the key, and the nearest known one for an unknown key (`unknown-name`).
    """
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SkylineError(
            f"{path} cannot be read ({error.strerror}); make it readable", Code.UNREADABLE
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SkylineError(f"{path} is not TOML: {error}", Code.UNREADABLE) from None
    kind = data.get("kind", "measured")
    if not isinstance(kind, str) or kind not in KINDS:
        raise _elsewhere(path, unknown_name("kind of board", str(kind), KINDS))
    model = KINDS[kind]
    try:
        found = model.model_validate(data)
    except ValidationError as error:
        tables: Mapping[str, Any] = {"workloads": Workload.model_fields}
        fault = first_fault(error, model.model_fields, tables)
        raise SkylineError(f"{path}: {fault.line}", fault.code) from None
    if isinstance(found, Declaration):
        for runtime in found.runtimes:
            if runtime not in known_runtimes.runtime_names():
                raise _elsewhere(path, unknown_name("runtime", runtime, known_runtimes.runtime_names()))
    return found


def check_tasks(declaration: Declaration, recorded: Sequence[str], path: Path) -> None:
    """Raise SkylineError (unknown-name) for a task that is neither built in nor among the `recorded` ones."""
    known = [*task_names(), *recorded]
    for task in declaration.tasks:
        if task not in known:
            raise _elsewhere(path, unknown_name("task", task, known))


def _elsewhere(path: Path, error: SkylineError) -> SkylineError:
    return SkylineError(f"{path}: {error}", error.code)
