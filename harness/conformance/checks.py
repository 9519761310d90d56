"""The conformance suite: its checks by name, and how they are run.

A check is a plain function of a `Subject`: it returns where the method conforms and raises `Broken` where it does not.
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
    """One check that an adapter does not pass, and why, in one line."""

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
    """Run one check; the process's settings and random generators are then what they were.

    Raises Broken with a line for the adapter's author, or Blocked where another check's fault hides this one.
    """
    try:
        with preserved():
            CHECKS[name](subject)
    except SkylineError as error:
        kind = Blocked if isinstance(error, Blocked) else Broken
        raise kind(" ".join(str(error).split())) from None
    except Exception as error:
        raise Broken(f"the check stops with {in_words(error)}") from error


def run_conformance(
    method: type[Method], path: Path | None = None, checks: Collection[str] = tuple(CHECKS)
) -> list[Failure]:
    """Run the checks on a method (`path`: the file that defines it) and list what it breaks: empty is good."""
    failures = []
    with Subject(method, path, beside="record" in checks) as subject:
        for name in checks:
            try:
                run_check(name, subject)
            except Blocked:
                continue
            except Broken as error:
                failures.append(Failure(name, str(error)))
    return failures
