"""The conformance suite: checks on a tiny encoder that every adapter must pass.

`run_conformance(method, path)` lists the checks that an adapter fails. With pytest, in any repository:

    from harness.conformance import CHECKS, Subject, run_check

    @pytest.fixture(scope="module", params=[...])
    def subject(request):
        with Subject(request.param, path) as subject:
            yield subject

    @pytest.mark.parametrize("check", CHECKS)
    def test_conformance(subject, check):
        run_check(check, subject)

Names are imported on first use, so that the suite's own processes load only what they need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.conformance.checks import CHECKS as CHECKS
    from harness.conformance.checks import Failure as Failure
    from harness.conformance.checks import run_check as run_check
    from harness.conformance.checks import run_conformance as run_conformance
    from harness.conformance.subject import Blocked as Blocked
    from harness.conformance.subject import Broken as Broken
    from harness.conformance.subject import Subject as Subject

_HOME = {
    "Blocked": "harness.conformance.subject",
    "Broken": "harness.conformance.subject",
    "CHECKS": "harness.conformance.checks",
    "Failure": "harness.conformance.checks",
    "Subject": "harness.conformance.subject",
    "run_check": "harness.conformance.checks",
    "run_conformance": "harness.conformance.checks",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'harness.conformance' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
