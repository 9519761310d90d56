"""The store's folder: its lock, half-written files of killed runs, caches, and records of other machines."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.common.errors import Code
from harness.common.hardware import hardware
from harness.compression import tensor_files
from harness.compression.encoded_rows import EncodedSplit, encode_examples
from harness.compression.teacher_logits import TeacherLogits
from harness.conformance.tiny import tiny_encoder, tiny_task
from harness.models.encoder.encoder import Encoder
from harness.recipes.recipe import Recipe
from harness.records.cells import BudgetSpec, Cell, ProfileCell, QualityCell
from harness.records.schema import Record
from harness.records.store import Store
from harness.runs.record_making import make_record
from tests.support.one_line_errors import refused


@pytest.fixture
def model() -> Encoder:
    return tiny_encoder()


@pytest.fixture
def rows(model: Encoder) -> EncodedSplit:
    return encode_examples(tiny_task().train()[:5], model, "classification", 32, "memory")


def test_half_written_files_are_swept_from_every_folder_and_nothing_else(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folders = [
        store.measured / "machine",
        store.measured / "other",
        *(store.workspace / name for name in ("artifacts", "teacher", "untrained", "new")),
    ]
    kept, left = set(), []
    for folder in folders:
        (folder / "whole").mkdir(parents=True)
        (folder / "whole" / "weights").write_text("x")
        (folder / "a.json").write_text("x")
        kept |= {folder / "whole" / "weights", folder / "a.json"}
        (folder / ".half").mkdir()
        (folder / ".half" / "weights").write_text("x")
        (folder / ".a.json.x1y2.tmp").write_text("x")
        left += [folder / ".half", folder / ".a.json.x1y2.tmp"]
    with store.lock():
        found = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert not any(path.exists() for path in left)
    assert found == kept | {store.workspace / ".lock"}


def test_a_fresh_folder_has_nothing_to_sweep(tmp_path: Path) -> None:
    with Store(tmp_path / "new").lock():
        assert (tmp_path / "new" / "work" / ".lock").is_file()


def test_only_one_run_at_a_time_writes_and_only_to_a_folder(tmp_path: Path) -> None:
    held, file = tmp_path / "held", tmp_path / "file"
    with Store(held).lock(), refused(Code.IN_USE, str(held), "--out"), Store(held).lock():
        pass
    file.touch()
    with refused(Code.NOT_WRITABLE, str(file), "--out"), Store(file).lock():
        pass


def test_the_teachers_logits_are_kept_whole(model: Encoder, rows: EncodedSplit, tmp_path: Path) -> None:
    logits = TeacherLogits(tmp_path, "hash").of(model, rows)
    (path,) = tmp_path.iterdir()
    assert torch.equal(load_file(path)["logits"], logits)
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_teachers_logits_are_swept_where_a_kill_tore_them(
    model: Encoder, rows: EncodedSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    folder = store.workspace / "teacher"

    class Killed(BaseException):
        pass

    def torn(tensors: dict[str, torch.Tensor], path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        # As after kill -9, the program cleans nothing up.
        monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(tensor_files, "save_file", torn)
        with pytest.raises(Killed):
            TeacherLogits(folder, "hash").of(model, rows)
    monkeypatch.undo()
    (left,) = folder.iterdir()
    assert left.read_bytes() == b"half"
    with store.lock():
        assert list(folder.iterdir()) == []


def test_the_teachers_logits_leave_nothing_behind_where_writing_fails(
    model: Encoder, rows: EncodedSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: dict[str, torch.Tensor], path: Path, **_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(tensor_files, "save_file", full)
    with pytest.raises(OSError, match="no space"):
        TeacherLogits(tmp_path, "hash").of(model, rows)
    assert list(tmp_path.iterdir()) == []


def recorded_elsewhere(store: Store, cell: Cell, machine: str) -> Record:
    """A record of the cell, moved to another machine's folder."""
    record = make_record(cell, Recipe(), "stamp", hardware(), 0.0, "failed", f"on {machine}")
    store.put(cell, record)
    other = store.measured / machine / store.path(cell).name
    other.parent.mkdir(exist_ok=True)
    store.path(cell).rename(other)
    return record


def test_a_score_is_found_under_another_machines_folder_and_this_ones_comes_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    cell = QualityCell(recipe="magnitude", model="tiny", task="toy-pairs", seed=0, budget=BudgetSpec())
    assert store.find(cell) is None
    elsewhere = recorded_elsewhere(store, cell, "another-machine")
    assert store.find(cell) == elsewhere
    here = make_record(cell, Recipe(), "stamp", hardware(), 0.0, "failed", "here")
    store.put(cell, here)
    assert store.find(cell) == here
    assert store.find(cell.model_copy(update={"seed": 1})) is None


def test_a_profile_is_found_only_where_it_was_measured(tmp_path: Path) -> None:
    store = Store(tmp_path)
    cell = ProfileCell(recipe="magnitude", model="tiny")
    recorded_elsewhere(store, cell, "another-machine")
    assert store.find(cell) is None


def test_a_torn_score_elsewhere_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    cell = QualityCell(recipe="magnitude", model="tiny", task="toy-pairs", seed=0, budget=BudgetSpec())
    recorded_elsewhere(store, cell, "another-machine")
    (path,) = store.measured.glob("another-machine/*.json")
    path.write_text(path.read_text()[:40])
    assert store.find(cell) is None
