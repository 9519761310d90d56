"""Changes that make a result stale: declared versions, default options, the files of a model, a task's description."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from harness.common.errors import Code
from harness.common.hardware import hardware
from harness.conformance import tiny
from harness.models.checkpoints import origin_of, random_model, save_checkpoint
from harness.recipes.discovery import load_file, single_method
from harness.recipes.fingerprints import artifact_fingerprint, declared_versions, resolved_options
from harness.recipes.recipe import Call, Recipe, RecipeStage
from harness.records.cells import BudgetSpec, Cell, ProfileCell, QualityCell, task_fields
from harness.runs.record_making import make_record
from harness.runs.resolution import Resolver
from harness.tasks import Task, load_task, rows
from tests.support.one_line_errors import refused

ADAPTER = """
from harness import Card, Method, Paper, options

class Mine(Method):
    card = Card("mine", "Mine", "quantization", Paper("T", "A", 2020, "V", "https://example.org"),
                "task-specific", "variant", "all", ("ffn",), ("disk",), version={version})

    @options
    class Options:
        strength: float = {default}

    def finish(self, student, context):
        return {result}
"""


def stage(folder: Path, default: float = 0.5, version: int = 1, result: str = "None") -> RecipeStage:
    """A method with no option given, from an adapter file."""
    path = folder / f"{default}-{version}-{result}" / "mine.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(ADAPTER.format(default=default, version=version, result=result))
    method = single_method(load_file(path, "staleness_mine"), "mine")
    return RecipeStage((Call(method, method.Options()),))


def stamp(stage: RecipeStage) -> str:
    budgets = {"baseline": {}, "recipe": {}}
    return artifact_fingerprint(Recipe((stage,)), origin="o", data="d", seed=0, budgets=budgets)


def test_a_changed_default_makes_results_stale(tmp_path: Path) -> None:
    one, other = stage(tmp_path, default=0.5), stage(tmp_path, default=0.25)
    assert str(one) == str(other) == "mine"
    assert resolved_options(one) == [("mine", {"strength": 0.5})]
    assert stamp(one) != stamp(other)


def test_a_raised_version_makes_results_stale_and_other_code_does_not(tmp_path: Path) -> None:
    first = stamp(stage(tmp_path))
    assert stamp(stage(tmp_path, result="student")) == first
    assert stamp(stage(tmp_path, version=2)) != first
    assert declared_versions(Recipe((stage(tmp_path, version=2),)))["mine"] == 2


def test_an_option_equal_to_its_default_changes_nothing() -> None:
    written, default = Recipe.parse("magnitude:end=0.6,sparsity=0.5"), Recipe.parse("magnitude")
    assert resolved_options(default.stages[0])[0][1]["end"] == 0.6
    assert stamp(written.stages[0]) == stamp(default.stages[0])
    assert stamp(Recipe.parse("magnitude:end=0.7").stages[0]) != stamp(default.stages[0])


def test_the_tokenizer_and_the_configuration_of_a_local_model_count(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_checkpoint(tiny.tiny_encoder(), folder)
    cell = QualityCell(recipe="baseline", model=str(folder), task="toy-pairs", seed=0, budget=BudgetSpec())
    origins, stamps = [origin_of(str(folder))], [Resolver().job(cell).fingerprint]
    weights = origins[0].partition("+")[0]
    changes = {
        "config.json": ('"hidden_dropout_prob": 0.1', '"hidden_dropout_prob": 0.2'),
        "tokenizer.json": ('"lowercase":true', '"lowercase":false'),
    }
    for name, (old, new) in changes.items():
        text = (folder / name).read_text()
        plain = text.replace('"lowercase": true', '"lowercase":true')
        assert old in plain
        (folder / name).write_text(plain.replace(old, new))
        origins.append(origin_of(str(folder)))
        stamps.append(Resolver().job(cell).fingerprint)
    (folder / "README.md").write_text("no part of the model")
    assert origin_of(str(folder)) == origins[-1]
    assert len(set(origins)) == len(set(stamps)) == 3
    assert {origin.partition("+")[0] for origin in origins} == {weights}


DESCRIPTION = """
name = "mine-csv"
kind = "classification"
labels = ["no", "yes"]
metrics = ["accuracy", "f1"]
max_length = 24
files = {train = "rows.csv", dev = "rows.csv"}
columns = {text = "text", label = "label"}
"""


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """A user's task in a file that has the name of a GLUE task."""
    (tmp_path / "rows.csv").write_text("text,label\nall fine,yes\nall bad,no\nvery good,yes\nvery dull,no\n")
    path = tmp_path / "sst2.toml"
    path.write_text(DESCRIPTION)
    return path


def cells(name: str, **changes: str) -> tuple[QualityCell, ProfileCell]:
    fields = {"recipe": "baseline", "model": "bert-tiny", "seed": 0, "budget": BudgetSpec(), **changes}
    fields |= task_fields(name, load_task(name))
    return QualityCell.model_validate(fields), ProfileCell.model_validate(fields)


def artifact_of(cell: Cell, resolver: Resolver | None = None) -> str:
    """The fingerprint of a cell's artifact; by default files are read again for it."""
    return (resolver or Resolver()).job(cell).lineage[0].fingerprint


def test_a_users_task_is_recorded_by_its_name(described: Path) -> None:
    for cell in cells(str(described)):
        record = make_record(cell, Recipe(), "f", hardware(), 0.0)
        assert record.task == cell.task == "mine-csv"
        assert "mine-csv" in cell.slug
        assert "sst2" not in cell.slug
        assert record.cell["task"] == "mine-csv"
        text = record.to_json()
        assert "sst2" not in text
        assert str(described.parent) not in text
        # The cell's child process still finds the file.
        again = type(cell).model_validate_json(cell.model_dump_json())
        assert again.task_file == str(described)
        assert again.key == cell.key


def test_one_description_is_one_cell_however_its_path_is_typed(
    described: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(described.parent)
    moved = described.parent / "moved" / "other.toml"
    moved.parent.mkdir()
    moved.write_text("# a remark\n" + DESCRIPTION.replace('["no", "yes"]', '["no","yes"]'))
    (moved.parent / "rows.csv").write_text((described.parent / "rows.csv").read_text())
    for kind in (0, 1):
        made = [cells(name)[kind] for name in ("sst2.toml", "./sst2.toml", str(described), str(moved))]
        assert len({cell.key for cell in made}) == len({cell.slug for cell in made}) == 1
        assert len({artifact_of(cell) for cell in made}) == 1


@pytest.mark.parametrize(
    "change",
    [
        ("max_length = 24", "max_length = 25"),
        ("max_length = 24", ""),
        ('["accuracy", "f1"]', '["f1", "accuracy"]'),
        ('["accuracy", "f1"]', '["accuracy"]'),
        ('["no", "yes"]', '["yes", "no"]'),
        ('name = "mine-csv"', 'name = "mine-tsv"'),
    ],
)
def test_another_description_is_another_cell(change: tuple[str, str], described: Path) -> None:
    before = cells(str(described))
    described.write_text(DESCRIPTION.replace(*change))
    for old, new in zip(before, cells(str(described)), strict=True):
        assert old.key != new.key
    if "name" not in change[0]:
        stamps = [load_task(str(described)).fingerprint()]
        described.write_text(DESCRIPTION)
        assert load_task(str(described)).fingerprint() not in stamps


def test_data_are_read_once_for_all_cells_and_again_after_they_changed(
    described: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[Path]()
    plain = rows.read_text
    monkeypatch.setattr(rows, "read_text", lambda path: (read.append(path), plain(path))[1])
    data = described.parent / "rows.csv"
    quality, profile = cells(str(described))
    resolver = Resolver()
    one = artifact_of(quality, resolver)
    assert artifact_of(profile, resolver) == one
    # Train and dev, once each.
    assert read.count(data) == 2
    data.write_text(data.read_text().replace("all fine", "all good"))
    os.utime(data, ns=(0, 0))
    assert artifact_of(quality) != one


def test_a_description_that_changes_under_a_run_is_noticed(described: Path) -> None:
    cell, _ = cells(str(described))
    described.write_text(DESCRIPTION.replace("24", "25"))
    with refused(Code.CHANGED, str(described)):
        Resolver().job(cell)


def test_cells_of_built_in_tasks_keep_their_keys() -> None:
    cell, _ = cells("Toy_Pairs")
    plain = QualityCell(recipe="baseline", model="bert-tiny", task="toy-pairs", seed=0, budget=BudgetSpec())
    assert cell == plain
    assert set(cell.identity()) == {"recipe", "model", "task", "seed", "budget"}


def test_committed_records_still_belong_to_their_cells() -> None:
    kinds = {"quality": QualityCell, "profile": ProfileCell}
    paths = sorted((Path(__file__).parents[2] / "profiles" / "measured").glob("*/*.json"))
    for path in paths:
        data = json.loads(path.read_text())
        assert kinds[data["kind"]].model_validate(data["cell"]).key == data["key"], path.name


def test_a_model_of_few_positions_lowers_a_default_and_the_record_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from harness.records.schema import parse_record
    from harness.runs.cell_execution import execute_quality

    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    positions = 16
    small = tiny.CONFIG.model_copy(update={"positions": positions})
    save_checkpoint(random_model(small, 0, tiny.tiny_tokenizer()), tmp_path / "model")
    budget = {"epochs": 1, "examples": 16, "precision": "float32"}
    threads = torch.get_num_threads()
    reasons = {}
    for name in ("toy-sentiment", "described"):
        cell = QualityCell(
            recipe="baseline",
            model=str(tmp_path / "model"),
            seed=0,
            budget=BudgetSpec(baseline=budget, recipe=budget),
            **task_fields(*described_or_toy(name, tmp_path)),
        )
        text = execute_quality(cell, tmp_path / "work", None, "f", hardware(), threads, lambda _: None)
        record = parse_record(text, "here")
        assert record.status == "ok"
        assert record.quality is not None
        reasons[name] = record.reason
    length = load_task("toy-sentiment").max_length
    assert {str(positions), str(length)} <= set(re.findall(r"\d+", reasons["toy-sentiment"]))
    assert reasons["described"] == ""


def described_or_toy(name: str, folder: Path) -> tuple[str, Task]:
    """The name to load and its task: the toy task, or one whose length the small model takes."""
    if name != "described":
        return name, load_task(name)
    (folder / "rows.csv").write_text("text,label\nall fine,yes\nall bad,no\nvery good,yes\nvery dull,no\n")
    (folder / "own.toml").write_text(DESCRIPTION.replace("24", "16"))
    return str(folder / "own.toml"), load_task(str(folder / "own.toml"))
