"""Plans: what is refused before a run, and how many trainings it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.common.errors import Code
from harness.models.checkpoints import random_model, save_checkpoint
from harness.models.config import EncoderConfig
from harness.recipes.fingerprints import artifact_fingerprint
from harness.recipes.recipe import Recipe
from harness.records.cells import BudgetSpec, Cell, ProfileCell, QualityCell
from harness.records.schema import Workload
from harness.records.store import Store
from harness.runs.planning import (
    Plan,
    check_engine,
    count_trainings,
    make_plan,
    resolve_cells,
    without_training,
)
from harness.runs.suites import Experiment, Suite, chosen_suite
from tests.support.one_line_errors import refused

RECIPES = ("magnitude > dynamic-int8", "magnitude > kd-logits:layers=1", "dynamic-int8")
"""Three distinct trainings: baseline, magnitude, and kd-logits after magnitude."""


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def cells_of(
    *recipes: str, tasks: tuple[str, ...] = ("toy-pairs",), seeds: tuple[int, ...] = (0,)
) -> list[Cell]:
    experiment = Experiment(tasks=tasks, recipes=recipes, seeds=seeds)
    return Suite(title="mine", model="tiny", experiments=(experiment,)).cells()


def build(store: Store, *cells: Cell) -> None:
    """Make the folders of the cells' artifacts."""
    for job in resolve_cells(cells):
        folder = store.workspace / "artifacts" / job.lineage[0].fingerprint[:20]
        folder.mkdir(parents=True)
        folder.with_suffix(".training.json").write_text("[]")


def trainings(cells: list[Cell], store: Store) -> int:
    return count_trainings(Plan(resolve_cells(cells)), store)


def test_each_training_counts_once(store: Store) -> None:
    cells = cells_of(*RECIPES)
    assert trainings(cells, store) == 3
    assert trainings(cells_of(*RECIPES, tasks=("toy-pairs", "toy-sentiment"), seeds=(0, 1)), store) == 12


def test_profiles_alone_need_their_trainings_if_no_artifact_is_left(store: Store) -> None:
    profiles = [cell for cell in cells_of(*RECIPES) if isinstance(cell, ProfileCell)]
    assert trainings(profiles, store) == 3
    assert trainings([cell for cell in profiles if cell.recipe == "dynamic-int8"], store) == 1


def test_what_is_built_needs_no_training_nor_what_it_was_built_on(store: Store) -> None:
    by_recipe = {cell.recipe: cell for cell in cells_of(*RECIPES) if not isinstance(cell, ProfileCell)}
    magnitude = by_recipe["magnitude"]
    build(store, magnitude)
    assert trainings([magnitude], store) == 0
    # The next stage's teacher is the baseline, which is gone.
    assert trainings([by_recipe["magnitude > kd-logits:layers=1"]], store) == 2
    build(store, by_recipe["baseline"])
    assert trainings(list(by_recipe.values()), store) == 1
    # An artifact without its log is made again.
    for log in store.workspace.rglob("*.training.json"):
        log.unlink()
    assert trainings(list(by_recipe.values()), store) == 3


def test_without_training_only_what_is_built_is_left(store: Store) -> None:
    cells = cells_of(*RECIPES)
    plan = Plan(resolve_cells(cells))
    assert without_training(plan, store).jobs == []
    by_recipe = {cell.recipe: cell for cell in cells if not isinstance(cell, ProfileCell)}
    build(store, by_recipe["baseline"], by_recipe["magnitude"])
    left = {job.cell.key for job in without_training(plan, store).jobs}
    # int8 is made of what is there without training: after the baseline, and after magnitude.
    ready = {"baseline", "magnitude", "dynamic-int8", "magnitude > dynamic-int8"}
    assert left == {cell.key for cell in cells if cell.recipe in ready}


def test_what_is_not_trained_takes_no_training(store: Store) -> None:
    cell = ProfileCell(recipe="magnitude", model="tiny")
    assert make_plan(resolve_cells([cell]), store).fresh == []
    assert trainings([cell], store) == 0


def test_good_cells_pass() -> None:
    resolve_cells([*cells_of(*RECIPES), ProfileCell(recipe="baseline", model="bert-base")])


BAD = {
    "a workload beyond the positions": (
        ProfileCell(recipe="baseline", model="tiny", workload=Workload(length=513)),
        Code.TOO_LONG,
        ("513", "tiny", "512"),
    ),
    "an unknown runtime": (
        ProfileCell(recipe="baseline", model="tiny", runtime="eagr"),
        Code.UNKNOWN_NAME,
        ("'eager'",),
    ),
    "an unknown device": (
        ProfileCell(recipe="baseline", model="tiny", device="tpu"),
        Code.UNKNOWN_NAME,
        ("'tpu'",),
    ),
    "an unknown model": (ProfileCell(recipe="baseline", model="tinny"), Code.UNKNOWN_NAME, ("'tiny'",)),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_cells_are_refused(bad: str) -> None:
    cell, code, names = BAD[bad]
    with refused(code, *names):
        resolve_cells([cell])


def test_a_task_longer_than_the_positions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\ngood,yes\nbad,no\n")
    path = tmp_path / "task.toml"
    path.write_text(
        'name = "mine"\nkind = "classification"\nlabels = ["no", "yes"]\nmax_length = 1000\n'
        '[files]\ntrain = "rows.csv"\ndev = "rows.csv"\n[columns]\ntext = "text"\nlabel = "label"\n'
    )
    cells = cells_of("baseline", tasks=(str(path),))
    with refused(Code.TOO_LONG, "mine", "1000", "512"):
        resolve_cells(cells)


def test_a_checkpoint_without_tokenizer_can_be_profiled_but_not_trained(tmp_path: Path) -> None:
    config = EncoderConfig.bert(1, 16, 2, 32, vocab_size=100, positions=128)
    save_checkpoint(random_model(config, 0), tmp_path / "model")
    model = str(tmp_path / "model")
    untrained = ProfileCell(recipe="baseline", model=model)
    resolve_cells([untrained])
    trained = [cell.model_copy(update={"model": model}) for cell in cells_of("baseline")]
    with refused("tokenizer", model):
        resolve_cells([untrained, *trained])


def test_engines() -> None:
    check_engine("local", 2)
    with refused(Code.UNKNOWN_NAME, "'ray'"):
        check_engine("ray", 1)
    with refused(Code.OUT_OF_RANGE, "--workers 0"):
        check_engine("local", 0)


def test_training_on_another_device_is_another_cell_and_another_artifact() -> None:
    here = QualityCell(
        recipe="baseline", model="minilm-l6", task="toy-sentiment", seed=0, budget=BudgetSpec()
    )
    there = here.model_copy(update={"trained_on": "cuda"})
    assert "trained_on" not in here.identity()
    assert there.identity()["trained_on"] == "cuda"
    assert here.key != there.key
    assert (here.measured_on, there.measured_on) == ("cpu", "cuda")
    facts: dict[str, Any] = {"origin": "o", "data": "d", "seed": 0, "budgets": BudgetSpec().model_dump()}
    stamps = [artifact_fingerprint(Recipe(), **facts, device=d) for d in ("cpu", "cuda", "cuda:1")]
    assert stamps[0] == artifact_fingerprint(Recipe(), **facts)
    assert stamps[0] != stamps[1] == stamps[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("option", ["device", "train_on"])
def test_a_device_that_is_not_there_is_refused_before_training(option: str) -> None:
    suite = chosen_suite(None, ["baseline"], "tiny", ["toy-sentiment"], 1, {}, True, **{option: "cuda"})
    with refused(Code.NO_DEVICE, "CUDA"):
        resolve_cells(suite.cells())
