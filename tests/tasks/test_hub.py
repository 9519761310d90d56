"""Tasks without a data folder: read from the cache of `datasets` or from the hub, or one clear error."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest

from harness.common.errors import Code
from harness.tasks import glue, hub, load_task
from tests.support.one_line_errors import refused
from tests.support.task_files import allow_any_size

SPECS = glue.TASKS
"""With the official sizes, which the fixture `bare` turns off."""

VARIABLES = (
    "SKYLINE_DATA_DIR", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_DATASETS_CACHE", "HF_ENDPOINT",
    "XDG_CACHE_HOME", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY",
    "all_proxy", "ALL_PROXY",
)  # fmt: skip


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Unset all variables, and use an empty cache."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    allow_any_size(monkeypatch)
    return tmp_path


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def fill(root: Path, repository: str, config: str, version: str, splits: dict[str, list[list[Any]]]) -> Path:
    """Write a data set as `datasets` stores it in its cache; each split is a list of shards."""
    folder = root / "datasets" / repository.replace("/", "___") / config / "0.0.0" / version
    folder.mkdir(parents=True)
    name = repository.rpartition("/")[2]
    for split, shards in splits.items():
        for number, shard in enumerate(shards):
            suffix = f"-{number:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
            table = datasets.Dataset.from_list(shard).data.table
            path = str(folder / f"{name}-{split}{suffix}.arrow")
            with pyarrow.OSFile(path, "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
    (folder / "dataset_info.json").write_text(json.dumps({"config_name": config, "dataset_name": name}))
    return folder


def sst2(*rows: tuple[str, int]) -> list[dict[str, Any]]:
    return [{"sentence": text, "label": label, "idx": n} for n, (text, label) in enumerate(rows)]


SOLUTIONS = ("--data-dir", "SKYLINE_DATA_DIR", "network")


def test_offline_by_the_environment_is_one_line_with_both_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "1")
            patch.setattr(socket, "create_connection", None)  # the network is not asked
            with refused(Code.NO_DATA, "'sst2'", variable, *SOLUTIONS):
                load_task("sst2")


def test_a_hub_that_refuses_is_one_line(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed_port}")
    for name in ("sst2", "squad"):
        with refused(Code.NO_DATA, f"'{name}'", "127.0.0.1", *SOLUTIONS):
            load_task(name)


def test_a_hub_that_listens_is_reachable(listening: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listening}")
    assert hub.reachable()
    assert load_task("sst2").source == "hub"


def test_a_filled_cache_needs_no_network(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [sst2(("fine ", 1), ("dull ", 0)), sst2(("great ", 1))]
    fill(bare, "nyu-mll/glue", "sst2", "aa", {"train": shards, "validation": [sst2(("poor ", 0))]})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    task = load_task("SST-2")
    assert [(e.text, e.pair, e.label) for e in task.train()] == [
        ("fine ", None, 1), ("dull ", None, 0), ("great ", None, 1),
    ]  # fmt: skip
    assert [e.label for e in task.dev()] == [0]
    # Another task of the same repository is not in the cache.
    with refused(Code.NO_DATA, "'rte'", "HF_HUB_OFFLINE"):
        load_task("rte")


def test_the_cache_and_the_folder_give_the_same_task(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"premise": "He ran.", "hypothesis": "He moved.", "label": 0, "idx": 0},
        {"premise": "He ran.", "hypothesis": "He slept.", "label": 2, "idx": 1},
    ]
    splits = {name: [rows] for name in ("train", "validation_matched", "validation_mismatched")}
    fill(bare, "nyu-mll/glue", "mnli", "aa", splits)
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "yes")
    from_hub = load_task("mnli")
    labels = ("entailment", "neutral", "contradiction")
    lines = ["sentence1\tsentence2\tgold_label"]
    lines += [f"{row['premise']}\t{row['hypothesis']}\t{labels[int(str(row['label']))]}" for row in rows]
    for name in ("train", "dev_matched", "dev_mismatched"):
        path = tmp_path / "data/MNLI" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))
    assert load_task("mnli", tmp_path / "data").fingerprint() == from_hub.fingerprint()


def test_squad_from_the_cache(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {
        "id": "q1", "title": "T", "context": "Anna met Ben.", "question": "Who met Ben?",
        "answers": {"text": ["Anna"], "answer_start": [0]},
    }  # fmt: skip
    fill(bare, "rajpurkar/squad", "plain_text", "aa", {"train": [[row]], "validation": [[row]]})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    task = load_task("squad")
    (example,) = task.dev()
    assert (example.text, example.pair, example.id) == ("Who met Ben?", "Anna met Ben.", "q1")
    assert example.label.texts == ("Anna",)
    assert example.label.starts == (0,)


def test_a_cache_that_lacks_a_split_does_not_count(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(bare, "nyu-mll/glue", "sst2", "aa", {"train": [sst2(("fine ", 1))]})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with refused(Code.NO_DATA, "'sst2'", *SOLUTIONS):
        load_task("sst2")


def test_a_torn_cache_is_one_line(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [sst2(("fine ", 1))]
    folder = fill(bare, "nyu-mll/glue", "sst2", "aa", {"train": rows, "validation": rows})
    (folder / "glue-train.arrow").write_bytes(b"torn")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with refused(Code.NO_DATA, "'sst2'", "nyu-mll/glue", *SOLUTIONS):
        load_task("sst2").train()


def test_a_label_that_is_no_class_is_refused(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [sst2(("fine ", 1), ("hidden ", -1))]
    fill(bare, "nyu-mll/glue", "sst2", "aa", {"train": rows, "validation": rows})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with refused(Code.OUT_OF_RANGE, "sst2, train row 1:", "label -1"):
        load_task("sst2").train()


def test_a_data_set_of_another_size_is_refused(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glue, "TASKS", SPECS)
    rows = [sst2(("fine ", 1), ("dull ", 0))]
    fill(bare, "nyu-mll/glue", "sst2", "aa", {"train": rows, "validation": rows})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with refused(Code.DAMAGED, "sst2, validation:", "2 rows", "dev split of SST-2", "872"):
        load_task("sst2").dev()


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [sst2(("fine ", 1))]
    fill(tmp_path / "elsewhere", "nyu-mll/glue", "sst2", "aa", {"train": rows})
    assert hub.cached_splits("nyu-mll/glue", "sst2") == {}
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "elsewhere/datasets"))
    assert set(hub.cached_splits("nyu-mll/glue", "sst2")) == {"train"}
    monkeypatch.delenv("HF_DATASETS_CACHE")
    monkeypatch.delenv("HF_HOME")
    fill(tmp_path / "xdg/huggingface", "nyu-mll/glue", "sst2", "aa", {"validation": rows})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert set(hub.cached_splits("nyu-mll/glue", "sst2")) == {"validation"}
