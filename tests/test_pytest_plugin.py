"""`pytest --benchmark` runs the timed tests and writes pytest-benchmark's JSON; without the flag they are skipped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CODE = """
import pytest

@pytest.mark.timed
def test_timed(benchmark):
    benchmark.pedantic(sum, args=([1, 2],), rounds=3)

def test_plain():
    pass
"""


def pytest_on(folder: Path, *arguments: str) -> dict[str, int]:
    (folder / "test_it.py").write_text(CODE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py", *arguments]
    # pytest-benchmark measures nothing in a worker of xdist, and would take this process for one.
    environment = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    words = result.stdout.strip().splitlines()[-1].replace(",", "").split()
    return {name: int(words[place - 1]) for place, name in enumerate(words) if name in ("passed", "skipped")}


def test_timed_tests_are_skipped_without_the_flag(tmp_path: Path) -> None:
    assert pytest_on(tmp_path) == {"passed": 1, "skipped": 1}


def test_only_timed_tests_run_with_the_flag(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert pytest_on(tmp_path, "--benchmark", f"--benchmark-json={out}") == {"passed": 1, "skipped": 1}
    assert [entry["name"] for entry in json.loads(out.read_text())["benchmarks"]] == ["test_timed"]
