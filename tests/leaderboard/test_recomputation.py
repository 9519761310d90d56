"""The measured board against a second computation of it from the raw records, in pandas and NumPy."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli import main as cli
from harness.common.hardware import Hardware
from harness.records.schema import Record
from tests.support import recomputation
from tests.support.board_records import HARDWARE, REAL, SYNTHETIC, facts, profile, quality, stage
from tests.support.recomputation import recomputed_board

PROFILES = Path(__file__).resolve().parents[2] / "profiles"
TASKS = {"sst2": (90.0, 872, 1.0), "mrpc": (84.0, 408, 1.8), "cola": (40.0, 1043, 2.5)}
"""The baseline's score, the examples, and the spread of its replicates."""
SEEDS = (0, 1, 2)
BUDGET = {"baseline": {"epochs": 3}, "recipe": {"epochs": 3, "batch_size": 32}}
LONGER = {"baseline": {"epochs": 3}, "recipe": {"epochs": 9, "batch_size": 32}}
DECLARATION = """
title = "Synthetic"
model = "minilm-l6"
tasks = ["sst2", "mrpc", "cola"]
protocol = "p1"
seeds = [0, 1, 2]
runtimes = ["eager", "onnxruntime"]
recipes = ["method-*", "fine-tuning", "majority"]
[[workloads]]
batch = 1
length = 128
inputs = "real"
[[workloads]]
batch = 1
length = 128
"""
METHODS = [*(f"method-{number}" for number in range(14)), "fine-tuning", "majority", "other"]


def synthetic_records(rng: np.random.Generator) -> Iterator[Record]:
    """Scores and profiles of many rows near each other, and records that must change nothing."""
    common = {task: rng.normal(0, spread, 300) for task, (_, _, spread) in TASKS.items()}
    of_seeds = {(task, seed): rng.normal(0, 0.8) for task in TASKS for seed in SEEDS}
    for recipe in ("baseline", *METHODS):
        baseline = recipe == "baseline"
        loss = 0.0 if baseline else abs(rng.normal(0, 3.0))
        size, speed = (1.0, 1.0) if baseline else (rng.uniform(0.1, 1.1), rng.uniform(0.9, 6.0))
        several = baseline or recipe in ("fine-tuning", "method-0", "method-1", "method-2")
        for task, (score, examples, spread) in TASKS.items():
            if recipe == "method-13" and task == "cola":
                continue  # an incomplete row
            for seed in SEEDS if several else (0,):
                own = score + of_seeds[task, seed] - loss + (0.0 if baseline else rng.normal(0, 0.7))
                noise = rng.normal(0, spread / 2, 300)
                held = facts(f"{recipe}/{task}/{seed}", int(90e6 * size) + seed)
                values: dict[str, Any] = {"examples": examples, "artifact": held, "training": [stage("x")]}
                draws = own + common[task] + noise
                yield scored(recipe, task, own, seed, resampled=draws, **values)
                decoy = facts(f"decoy/{recipe}/{task}/{seed}", 1_000_000)
                if recipe == "method-1":
                    # Another protocol; a held-out slice; and an older score of another budget.
                    values["artifact"] = decoy
                    yield scored(recipe, task, own - 9, seed, "p2", resampled=draws - 9, **values)
                    yield scored(recipe, task, own + 5, seed, split="held-out", resampled=draws, **values)
                    yield scored(
                        recipe, task, own + 4, seed, budget=LONGER, started="2029", resampled=draws, **values
                    )
                    yield profile(recipe, task=task, seed=seed, artifact=decoy, speedup=99.0)
                if seed == 0:
                    yield from profiles_of(rng, recipe, task, held, speed)


def scored(
    recipe: str,
    task: str,
    score: float,
    seed: int,
    protocol: str = "p1",
    *,
    budget: Any = BUDGET,
    split: str = "dev",
    **more: Any,
) -> Record:
    cell = {"protocol": protocol, "budget": budget} | ({} if split == "dev" else {"split": split})
    return quality(recipe, task, score, seed, cell=cell, **more)


def profiles_of(
    rng: np.random.Generator, recipe: str, task: str, held: Any, speed: float
) -> Iterator[Record]:
    """Profiles at both workloads and runtimes: some without a verdict, some within their noise, one missing."""
    number = METHODS.index(recipe) if recipe in METHODS else -1
    for workload in (REAL, SYNTHETIC):
        flops = int(2e9 * min(1.0, rng.uniform(0.2, 1.2)))  # no runtime changes them
        for runtime in ("eager", "onnxruntime"):
            if number == 5 and task == "mrpc" and runtime == "onnxruntime":
                continue
            own = speed * rng.uniform(0.8, 1.2)
            if number == 6 and runtime == "eager":
                own = 1.001
            if number == 7 and workload == REAL:
                own = 0.0
            lower = bool(own - 0.01 > 1)
            made = profile(
                recipe,
                task=task,
                seed=0,
                artifact=held,
                workload=workload,
                runtime=runtime,
                speedup=own or None,
                width=rng.uniform(0.002, 0.01),
                aa_floor=0.015,
                median_ms=rng.uniform(2.0, 9.0),
                flops=flops,
                memory=int(3e8 * rng.uniform(0.7, 1.05)),
                memory_floor=0.03 if number % 2 else None,
                realised={"latency": lower, "memory": bool(rng.random() < 0.9), "flops": number != 8},
            )
            yield made
            if number in (2, 3):
                # Another machine's figures, and an older profile of this one's.
                elsewhere = HARDWARE.model_copy(update={"id": "other-machine"})
                yield on(made, elsewhere, "2031-01-01", 50.0)
                yield on(made, HARDWARE, "2029-01-01", 70.0)


def on(record: Record, hardware: Hardware, started: str, speedup: float) -> Record:
    held = record.profile
    assert held is not None
    assert held.latency is not None
    latency = held.latency.model_copy(update={"speedup": speedup, "speedup_ci95": (speedup - 1, speedup + 1)})
    return record.model_copy(
        update={
            "key": f"{record.key}/{started}",
            "profile": held.model_copy(update={"hardware": hardware, "latency": latency}),
            "provenance": record.provenance.model_copy(update={"started": started}),
        }
    )


def board_of(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """What `skyline board measured --json` prints; empty if the board has no rows."""
    monkeypatch.setattr(sys, "argv", ["skyline", "board", "measured", "--profiles", str(folder), "--json"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out = capsys.readouterr().out
    return json.loads(out) if not stopped.value.code else {"rows": []}


def compare(board: dict[str, Any], expected: dict[str, dict[str, Any]]) -> None:
    """Drops and costs agree to 1e-9, ranks and fronts exactly."""
    rows = {row["recipe"]: row for row in board["rows"]}
    assert set(rows) == set(expected)
    for recipe, row in rows.items():
        own = expected[recipe]
        assert row["drops"] == pytest.approx(own["drops"], abs=1e-9), recipe
        assert (row["drop"] is None) == (own["drop"] is None), recipe
        if own["drop"] is None:
            assert (row["rank"], row["fronts"], row["section"]) == (None, {}, "incomplete")
            continue
        assert row["drop"] == pytest.approx(own["drop"], abs=1e-9), recipe
        assert row["drop_ci95"] == pytest.approx(own["drop_ci95"], abs=1e-9), recipe
        counted = {axis: counted for axis, (_, counted, *_) in own["costs"].items()}
        ratios = {axis: ratio for axis, (ratio, *_) in own["costs"].items()}
        shown = {axis: each["ratio"] for axis, each in row["ratios"].items() if each["ratio"] is not None}
        assert {axis: row["costs"].get(axis) for axis in counted} == pytest.approx(counted, abs=1e-9), recipe
        assert {axis: shown.get(axis) for axis in ratios} == pytest.approx(ratios, abs=1e-9), recipe
        if recipe != "baseline":
            assert set(row["costs"]) == set(counted), recipe
        assert row["rank"] == own["rank"], recipe
        for axis, on_front in own["fronts"].items():
            assert row["fronts"][axis] is on_front, (recipe, axis)
        share = {axis: row["front_probabilities"][axis] for axis in own["front_probabilities"]}
        assert share == pytest.approx(own["front_probabilities"], abs=1e-9), recipe


@pytest.mark.parametrize("seed", [0, 1])
def test_synthetic_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    (tmp_path / "measured" / "machine").mkdir(parents=True)
    (tmp_path / "boards").mkdir()
    (tmp_path / "boards" / "measured.toml").write_text(DECLARATION, encoding="utf-8")
    for number, record in enumerate(synthetic_records(np.random.default_rng(seed))):
        path = tmp_path / "measured" / "machine" / f"{number}.json"
        path.write_text(record.to_json(), encoding="utf-8")
    expected = recomputed_board(tmp_path, "measured")
    board = board_of(tmp_path, capsys, monkeypatch)
    compare(board, expected)
    assert "other" not in expected  # the board does not name it
    ranked = [row for row in expected.values() if row["drop"] is not None]
    assert len(ranked) == 16
    assert any(row["rank"][0] < row["rank"][1] for row in ranked)  # the example has ties
    assert any(row["rank"][0] > 1 for row in ranked)
    assert any("latency-real-best" not in row["costs"] for row in ranked)  # and rows without a verdict
    states = {each["state"] for row in board["rows"] for each in row["ratios"].values()}
    assert states >= {"measured", "no difference", "no verdict", "missing"}


OLDER = """
title = "Scores without a protocol"
model = "minilm-l6"
tasks = ["sst2", "mrpc"]
seeds = [0, 1, 2]
runtimes = ["eager"]
[[workloads]]
batch = 1
length = 128
[[workloads]]
batch = 1
length = 128
inputs = "real"
"""


def test_the_committed_records_without_a_protocol(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real scores of several budgets that were trained in bfloat16, with profiles of one task or both."""
    for path in PROFILES.glob("measured/*/*.json"):
        text = path.read_text(encoding="utf-8")
        if json.loads(text)["kind"] == "profile" or '"precision": "bfloat16"' in text:
            (tmp_path / "measured" / path.parent.name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "measured" / path.parent.name / path.name).symlink_to(path)
    (tmp_path / "boards").mkdir()
    (tmp_path / "boards" / "measured.toml").write_text(OLDER, encoding="utf-8")
    expected = recomputed_board(tmp_path, "measured")
    compare(board_of(tmp_path, capsys, monkeypatch), expected)
    assert sum(row["drop"] is not None for row in expected.values()) > 30


def test_the_committed_records(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = recomputed_board(PROFILES, "measured")
    board = board_of(PROFILES, capsys, monkeypatch)
    if not expected:
        assert board["rows"] == []
        pytest.skip("no committed record is of the measured board's protocol yet")
    compare(board, expected)


def test_the_second_computation_uses_nothing_of_the_project() -> None:
    tree = ast.parse(Path(recomputation.__file__).read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not imported & {"harness", "leaderboard", "methods", "tests"}
    assert {"numpy", "pandas"} <= imported
