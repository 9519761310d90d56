"""`skyline check`: what it finds in records, artifacts, suites and adapter files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.common.errors import Code
from harness.conformance import Subject
from harness.conformance.check import check_path
from harness.conformance.recording import records_of
from harness.conformance.scaffold import write_adapter
from harness.models.artifacts import load_artifact, save_artifact
from harness.recipes.discovery import discover
from harness.records.schema import Record
from harness.runs.suites import suite_names
from tests.support.one_line_errors import refused


@pytest.fixture(scope="module")
def subject() -> Iterator[Subject]:
    found = discover().methods["magnitude"]
    with Subject(found.method, found.path) as subject:
        yield subject


@pytest.fixture(scope="module")
def records(subject: Subject) -> list[Record]:
    return records_of(subject)


@pytest.fixture
def artifact(subject: Subject, tmp_path: Path) -> Path:
    return shutil.copytree(subject.made.folder, tmp_path / "artifact")


def put(path: Path, record: Record, **changes: Any) -> Path:
    data = json.loads(record.to_json()) | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def test_a_valid_record(records: list[Record], tmp_path: Path) -> None:
    for number, record in enumerate(records):
        assert check_path(put(tmp_path / f"{number}.json", record)) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"status": "fine"},
            "is not a valid record: status: Input should be 'ok', 'failed', 'skipped' or 'oom'",
        ),
        ({"format": 99}, "was written by a newer Skyline (format 99"),
        ({"format": None}, "is not a Skyline record"),
        ({"format": True}, "is not a Skyline record"),
        ({"extra": 1}, "is not a valid record: extra"),
        ({"quality": None}, "status ok without a quality"),
        ({"artifact": None}, "no artifact"),
    ],
)
def test_a_bad_record(changes: dict[str, Any], words: str, records: list[Record], tmp_path: Path) -> None:
    path = put(tmp_path / "record.json", records[0], **changes)
    problems = check_path(path)
    assert any(words in problem for problem in problems), problems
    assert all("\n" not in problem and not problem.startswith(str(path)) for problem in problems)


def test_a_torn_record(records: list[Record], tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(records[0].to_json()[:300])
    [problem] = check_path(path)
    assert problem.startswith("is not JSON (line ")


def test_a_list_of_numbers_takes_one_line(records: list[Record]) -> None:
    for record in records:
        text = record.to_json()
        assert json.loads(text) == record.model_dump(mode="json")
        assert not any(line.strip().rstrip(",").replace(".", "").isdigit() for line in text.splitlines())
    assert any(record.quality and len(record.quality.replicates) > 100 for record in records)


def test_a_folder_of_records(records: list[Record], tmp_path: Path) -> None:
    for number, record in enumerate(records):
        put(tmp_path / "measured" / "machine" / f"{number}.json", record)
    (tmp_path / "work" / "artifacts" / "x").mkdir(parents=True)
    (tmp_path / "work" / "artifacts" / "x" / "config.json").write_text("{}")
    assert check_path(tmp_path) == []
    assert check_path(tmp_path / "measured" / "machine") == []
    put(tmp_path / "measured" / "machine" / "again.json", records[0])
    (tmp_path / "measured" / "machine" / "torn.json").write_text("{")
    torn, twice = check_path(tmp_path)
    assert "torn.json is not JSON" in torn
    assert "2 records of one cell" in twice


def test_an_artifact(artifact: Path, subject: Subject) -> None:
    assert check_path(artifact) == []
    assert check_path(subject.baseline.folder) == []


def test_an_artifact_with_other_files(artifact: Path) -> None:
    (artifact / "optimizer.pt").write_bytes(b"\x80\x04.")
    (artifact / "notes").mkdir()
    (artifact / "notes" / "config.json").write_text("{}")
    assert check_path(artifact) == [
        "notes does not belong to an artifact; delete it",
        "notes/config.json does not belong to an artifact; delete it",
        "optimizer.pt may hold pickled code; delete it",
    ]


def test_a_damaged_artifact(artifact: Path) -> None:
    weights = artifact / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    [problem] = check_path(artifact)
    assert problem.startswith("weights.safetensors is damaged")
    weights.unlink()
    [problem] = check_path(artifact)
    assert "it needs config.json and weights.safetensors" in problem


def test_an_artifact_with_two_flipped_bits(subject: Subject, tmp_path: Path) -> None:
    artifact = shutil.copytree(subject.baseline.folder, tmp_path / "artifact")
    weights = artifact / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-100] ^= 0b11
    weights.write_bytes(data)
    load_artifact(artifact)  # it still loads
    [problem] = check_path(artifact)
    assert problem.startswith("weights.safetensors is damaged")


def test_an_artifact_without_its_tokenizer(artifact: Path) -> None:
    (artifact / "tokenizer.json").unlink()
    [problem] = check_path(artifact)
    assert problem == "tokenizer.json is missing; make the artifact again"


def test_an_artifact_with_nan(subject: Subject, tmp_path: Path) -> None:
    model = load_artifact(subject.baseline.folder)
    with torch.no_grad():
        model.state_dict()["head.classifier.weight"][0, 0] = torch.nan
    save_artifact(model, tmp_path / "artifact")
    [problem] = check_path(tmp_path / "artifact")
    assert problem.startswith("tensor 'head.classifier.weight' has values that are not finite")


def test_an_artifact_of_another_program(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    problems = check_path(tmp_path)
    assert any("is not an artifact" in problem for problem in problems)


@pytest.mark.parametrize("name", suite_names())
def test_the_built_in_suites(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import harness.runs.suites

    monkeypatch.delenv("SKYLINE_DATA_DIR", raising=False)
    assert check_path(Path(harness.runs.suites.__file__).parent / f"{name}.toml") == []


SUITE = """
title = "mine"
[[experiments]]
tasks = ["toy-sentiment"]
recipes = ["magnitude"]
[experiments.budget]
recipe = { epochs = 1 }
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("title", "titel", "title"),
        ("recipes", "recipe", "key 'experiments.0.recipe' is unknown; did you mean 'recipes'?"),
        (
            'title = "mine"',
            'title = "mine"\nmodel = "minilm-16"',
            "unknown model 'minilm-16'; did you mean 'minilm-l6'?",
        ),
        (
            'title = "mine"',
            'title = "mine"\nruntime = "eagre"',
            "unknown runtime 'eagre'; did you mean 'eager'?",
        ),
        ('"magnitude"', '"magnitud"', "unknown method 'magnitud'; did you mean 'magnitude'?"),
        ('"toy-sentiment"', '"toy-sentimint"', "did you mean 'toy-sentiment'?"),
        ("epochs = 1", "epochs = 0", "budget.recipe.epochs = 0 must be greater than 0"),
        ("epochs = 1", "epoch = 1", "key 'budget.recipe.epoch' is unknown; did you mean 'epochs'?"),
        (
            'title = "mine"',
            'title = "mine"\nworkload = [1, 1000]',
            "1000 tokens is longer than minilm-l6's 512",
        ),
        (
            'title = "mine"',
            'title = "mine"\nworkload = [0, 16]',
            "workload.0 = 0 must be greater than or equal to 1",
        ),
        ('title = "mine"', 'title = "mine"\ntime_cap_s = nan', "time_cap_s = nan must be"),
        ('title = "mine"', 'title = "mine"\nmodel = "./none"', "there is no folder ./none"),
        (
            "[experiments.budget]",
            "seeds = [-1]\n[experiments.budget]",
            "seeds.0 = -1 must be greater than or equal to 0",
        ),
        ('"mine"', "mine", "TOML"),
        (SUITE, 'title = "mine"', "lists no cells"),
    ],
)
def test_a_suite(old: str, new: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(SUITE)
    assert check_path(path) == []
    path.write_text(SUITE.replace(old, new))
    problems = check_path(path)
    assert any(words in problem for problem in problems), problems


def test_profiled_lengths_are_held_against_the_profiled_model(tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text('title = "mine"\n[[profiling]]\nrecipes = ["magnitude"]\nworkloads = [[1, 16], [1, 600]]')
    assert check_path(path) == [
        "a sequence of 600 tokens is longer than bert-base's 512 positions; use at most 512"
    ]
    path.write_text(path.read_text().replace("600", "512"))
    assert check_path(path) == []


TASK = """
name = "reviews"
kind = "classification"
labels = ["no", "yes"]
[files]
train = "train.csv"
dev = "dev.csv"
[columns]
text = "review"
label = "good"
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("classification", "classificaton", "did you mean 'classification'?"),
        ("labels", "lables", "did you mean 'labels'?"),
        ('"dev.csv"', '"dve.csv"', "dve.csv: no such file; task.toml names it"),
        ('"reviews"', '"SST-2"', "name 'SST-2' belongs to a built-in task"),
        ('"yes"', '"maybe"', "dev.csv, line 2: label 'yes' is not one of no, maybe"),
    ],
)
def test_a_task_s_description(old: str, new: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "task.toml"
    path.write_text(TASK)
    (tmp_path / "train.csv").write_text("review,good\nfine,no\n")
    (tmp_path / "dev.csv").write_text("review,good\nfine,yes\n")
    assert check_path(path) == []
    path.write_text(TASK.replace(old, new))
    [problem] = check_path(path)
    assert words in problem


def test_a_problem_inside_a_folder_is_named_from_there(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (artifact / "config.json").write_text("{")
    expected = "config.json is not JSON: the artifact is corrupted; make it again"
    assert check_path(artifact) == [expected]
    monkeypatch.chdir(artifact.parent)
    assert check_path(Path(artifact.name)) == [expected]


def test_an_adapter(tmp_path: Path) -> None:
    path = write_adapter("my-pruning", "unstructured-pruning", tmp_path)
    card, effects = check_path(path)
    assert card.startswith("card: 'title' is empty; paper.title is empty;")
    assert card.count("paper.year") == 1
    assert effects.startswith("effects: option 'strength' changes neither")
    path.write_text(path.read_text().replace("loss(self", "loss self"))
    [problem] = check_path(path)
    assert problem.startswith("SyntaxError: ")
    path.write_text("")
    [problem] = check_path(path)
    assert problem.startswith("defines 0 methods")


def test_what_cannot_be_checked(tmp_path: Path) -> None:
    with refused(Code.NOT_FOUND, str(tmp_path / "nothing")):
        check_path(tmp_path / "nothing")
    with refused(Code.WRONG_KIND, str(tmp_path)):
        check_path(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with refused(Code.WRONG_KIND, "notes.txt"):
        check_path(tmp_path / "notes.txt")
