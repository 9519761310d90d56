"""The `evaluate` modules load without a network, in many processes at once, and after a kill during a load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import evaluate
import pytest

from harness.tasks import modules

SCRIPT = """
import multiprocessing, os, socket, sys
from pathlib import Path

def refuse(*arguments, **options):
    os.write(2, b"a socket was asked for\\n")
    os._exit(7)

socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse

import evaluate  # before the fork, so that it is imported once

from harness.tasks import modules

NAMES = ("accuracy", "f1", "matthews_correlation", "pearson", "spearman")

def score(_):
    values = [modules.load(name).compute(predictions=[0, 1, 1], references=[0, 1, 0]) for name in NAMES]
    return [round(next(iter(value.values())), 6) for value in values]

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(6) as pool:
        print(pool.map(score, range(12), chunksize=1))
    copies = sorted(Path(os.environ["HF_HOME"]).rglob("accuracy/*/accuracy.py"))
    assert len(copies) == 1, copies
    whole = copies[0].read_bytes()
    for torn in (b"", whole[:200], whole[: whole.index(b"    def _compute")]):
        copies[0].write_bytes(torn)
        for loaded in [key for key in sys.modules if key.startswith("evaluate_modules")]:
            del sys.modules[loaded]
        assert modules.load("accuracy").compute(predictions=[1], references=[1]) == {"accuracy": 1.0}
        assert copies[0].read_bytes() == whole
    print("mended")
"""


def test_modules_load_without_a_network_at_the_same_time_and_after_a_kill(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    for variable in ("HF_MODULES_CACHE", "HF_EVALUATE_CACHE", "HF_METRICS_CACHE"):
        environment.pop(variable, None)
    done = subprocess.run(
        [sys.executable, str(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    scores, mended = done.stdout.strip().splitlines()
    expected = [0.666667, 0.666667, 0.5, 0.5, 0.5]
    assert scores == str([expected] * 12)
    assert mended == "mended"


@pytest.mark.parametrize("name", ["accuracy", "f1", "matthews_correlation", "pearson", "spearman", "squad"])
def test_each_module_loads_by_its_folder_too(name: str) -> None:
    folder = Path(modules.__file__).parent / "evaluate_modules" / name
    module = evaluate.load(str(folder), keep_in_memory=True)
    assert module.description
    assert module.name == name
