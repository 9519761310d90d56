"""The checks of the conformance suite by name, and functions that run them.

A check is a plain function of a `Subject`. It raises `Broken` if the method does not conform.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from harness.common.errors import SkylineError
from harness.compression.method import Method
from harness.conformance.behaviour import (
    check_composes,
    check_finite,
    check_global_state,
    check_independence,
    check_reload,
    check_reproducible,
    check_runs,
    check_teacher,
)
from harness.conformance.declaration import (
    check_card,
    check_identity,
    check_import,
    check_interface,
    check_options,
)
from harness.conformance.effects import check_effects
from harness.conformance.measures import check_costs, check_flops, check_record
from harness.conformance.state import preserved
from harness.conformance.subject import Blocked, Broken, Subject
from harness.recipes.discovery import in_words

Check = Callable[[Subject], None]


@dataclass(frozen=True)
class Failure:
    """A check that an adapter fails, and the reason in one line."""

    check: str
    message: str

    def __str__(self) -> str:
        return f"{self.check}: {self.message}"


CHECKS: dict[str, Check] = {
    "card": check_card,
    "identity": check_identity,
    "interface": check_interface,
    "options": check_options,
    "import": check_import,
    "global-state": check_global_state,
    "runs": check_runs,
    "reproducible": check_reproducible,
    "teacher": check_teacher,
    "reload": check_reload,
    "finite": check_finite,
    "independence": check_independence,
    "costs": check_costs,
    "flops": check_flops,
    "record": check_record,
    "composes": check_composes,
    "effects": check_effects,
}


def run_check(name: str, subject: Subject) -> None:
    """Run a check, then restore the process's settings and random generators.

    Raises Broken with one line for the adapter's author, or Blocked if the check could not run because of a fault that
    another check reports.
    """
    try:
        with preserved():
            CHECKS[name](subject)
    except SkylineError as error:
        kind = Blocked if isinstance(error, Blocked) else Broken
        raise kind(" ".join(str(error).split()), error.code) from None
    except Exception as error:
        raise Broken(f"the check stops with {in_words(error)}") from error


def run_conformance(
    method: type[Method], path: Path | None = None, checks: Collection[str] = tuple(CHECKS)
) -> list[Failure]:
    """Run checks on a method and return the failures; blocked checks are left out. `path` is the file that defines the
    method.
    """
    failures = []
    with Subject(method, path, second_process="record" in checks) as subject:
        for name in checks:
            try:
                run_check(name, subject)
            except Blocked:
                continue
            except Broken as error:
                failures.append(Failure(name, str(error)))
    return failures
