"""`pytest --benchmark` runs the timed tests and writes pytest-benchmark's JSON; without the flag they are skipped.

The plugin is loaded once, whether an entry point, an option or a conftest.py asks for it.
"""

from __future__ import annotations

import json
import os

import pytest

pytest_plugins = ["pytester"]

CODE = """
import pytest

@pytest.mark.timed
def test_timed(benchmark):
    benchmark.pedantic(sum, args=([1, 2],), rounds=3)

def test_plain():
    pass
"""


@pytest.fixture(autouse=True)
def _no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide xdist: pytest-benchmark would take the inner process for a worker of it, and measure nothing."""
    for name in [name for name in os.environ if "XDIST" in name]:
        monkeypatch.delenv(name)


def test_timed_tests_are_skipped_without_the_flag(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess(pytester.makepyfile(CODE))
    result.assert_outcomes(passed=1, skipped=1)


def test_only_timed_tests_run_with_the_flag(pytester: pytest.Pytester) -> None:
    named = pytester.makepyfile(CODE)
    result = pytester.runpytest_subprocess("--benchmark", "--benchmark-json=out.json", named)
    result.assert_outcomes(passed=1, deselected=1)
    found = json.loads((pytester.path / "out.json").read_text())
    assert [entry["name"] for entry in found["benchmarks"]] == ["test_timed"]


@pytest.mark.parametrize("asked", ["entry point", "-p", "conftest.py"])
def test_the_plugin_is_loaded_once(asked: str, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CODE)
    if asked == "conftest.py":
        pytester.makeconftest('pytest_plugins = ["harness.pytest_plugin"]')
    given = ["-p", "harness.pytest_plugin"] if asked == "-p" else []
    pytester.runpytest_subprocess(*given).assert_outcomes(passed=1, skipped=1)


def test_without_other_plugins_it_says_what_it_needs(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(CODE)
    result = pytester.runpytest_subprocess("-p", "harness.pytest_plugin", "--benchmark")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert any("'-p benchmark'" in line for line in result.errlines)
