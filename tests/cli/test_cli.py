"""The command: what it prints, and that every mistake is one clear line with exit status 2."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main as cli
from harness.common.processes import ChildDied, ChildRaised
from harness.records.schema import Workload
from tests.support.command import skyline


def test_methods_prints_every_card() -> None:
    done = skyline("methods", "--json")
    cards = {card["id"]: card for card in done.json["methods"]}
    assert done.status == 0
    assert {"dynamic-int8", "magnitude", "random-pruning", "kd-logits"} <= set(cards)
    assert cards["magnitude"]["paper"]["year"] == 2020


@pytest.mark.parametrize("arguments", [["--help"], ["methods"]])
def test_light_commands_load_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from harness.cli import main as cli\n"
        f"sys.argv = ['skyline', *{arguments!r}]\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'pandas', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


TRAIN = ["run", "--recipe", "baseline", "--task", "toy-pairs"]

MISTAKES = {
    "unknown command": (["metods"], "methods"),
    "unknown method": (["profile", "dynamic-int9"], "'dynamic-int8'"),
    "unknown option": (["profile", "magnitude:sparsty=0.5"], "'sparsity'"),
    "option out of range": (["profile", "magnitude:sparsity=1.5"], "sparsity=1.5"),
    "option of a wrong type": (["profile", "kd-logits:layers=few"], "layers=few"),
    "unreadable recipe": (["profile", "magnitude:0.5"], "option=value"),
    "empty recipe": (["profile", ""], "empty"),
    "impossible order": (["profile", "dynamic-int8 > kd-logits"], "'dynamic-int8'"),
    "two that conflict": (["profile", "magnitude + random-pruning"], "'magnitude' and 'random-pruning'"),
    "unknown model": (["profile", "baseline", "--model", "bert-bse"], "'bert-base'"),
    "missing model folder": (["profile", "baseline", "--model", "./nowhere"], "nowhere"),
    "hub name without a hub": (["profile", "baseline", "--model", "some/model"], "some/model"),
    "unknown device": (["profile", "baseline", "--model", "bert-tiny", "--device", "tpu"], "tpu"),
    "unknown runtime": (["profile", "baseline", "--model", "bert-tiny", "--runtime", "eagr"], "eager"),
    "length below 1": (["profile", "baseline", "--seq", "0"], "0"),
    "length beyond the positions": (["profile", "baseline", "--model", "bert-tiny", "--seq", "513"], "512"),
    "unknown suite": (["run", "quikstart", "--dry-run"], "'quickstart'"),
    "nothing to run": (["run"], "--recipe and --task"),
    "unknown task": (["run", "--recipe", "baseline", "--task", "sst3"], "'sst2'"),
    "no data": (["run", "--recipe", "baseline", "--task", "sst2"], "--data-dir"),
    "missing data folder": (
        ["run", "--recipe", "baseline", "--task", "sst2", "--data-dir", "x"],
        "--data-dir",
    ),
    "unknown engine": (["run", "quickstart", "--engine", "slurm"], "'slurm'"),
    "no seeds": (["run", "quickstart", "--seeds", "0"], "--seeds 0"),
    "too many seeds": (["run", "quickstart", "--seeds", "10000000"], "--seeds 10000000"),
    "another engine in a dry run": (["run", "quickstart", "--engine", "ray", "--dry-run"], "'ray'"),
    "no workers in a dry run": (["run", "quickstart", "--workers", "0", "--dry-run"], "--workers 0"),
    "a suite that is a folder": (["run", "folder.toml"], "folder.toml"),
    "a suite without cells": (["run", "empty.toml"], "empty.toml"),
    "a workload of no sequences": (["run", "zero.toml"], "profiling.0.workloads.0.0 = 0"),
    "a workload too long": (["run", "long.toml", "--dry-run"], "1000"),
    "seeds for a suite that trains nothing": (["run", "untrained.toml", "--seeds", "2"], "--seeds"),
    "epochs for a suite that trains nothing": (["run", "untrained.toml", "--epochs", "2"], "--epochs"),
    "no profiles of what is not trained": (["run", "untrained.toml", "--no-profile"], "--no-profile"),
    "a checkpoint of another kind": ([*TRAIN, "--model", "gpt2"], "'gpt2'"),
    "a checkpoint of another kind in a dry run": ([*TRAIN, "--model", "gpt2", "--dry-run"], "'gpt2'"),
    "a checkpoint of another kind to profile": (["profile", "baseline", "--model", "gpt2"], "'gpt2'"),
    "an unreadable checkpoint": ([*TRAIN, "--model", "torn", "--dry-run"], "torn/config.json"),
    "a checkpoint without weights": ([*TRAIN, "--model", "bare", "--dry-run"], "model.safetensors"),
    "a seed beyond every generator's": (["profile", "baseline", "--seed", "9" * 23], "--seed 999"),
    "a time cap that is NaN": (["profile", "baseline", "--time-cap", "nan"], "--time-cap nan"),
    "a batch beyond all memory": (["profile", "baseline", "--batch", "10000000"], "--batch 10000000"),
    "bad budget": ([*TRAIN, "--epochs", "-1"], "--epochs -1.0"),
    "endless budget": ([*TRAIN, "--learning-rate", "inf"], "--learning-rate inf"),
    "bad precision": ([*TRAIN, "--precision", "fp8"], "--precision fp8"),
    "mistyped precision": ([*TRAIN, "--precision", "bfloat61"], "'bfloat16'"),
    "a folder that is a file": ([*TRAIN, "--model", "tiny", "--out", "file"], "--out"),
    "unknown board": (["board", "mesured"], "'measured'"),
    "two formats": (["board", "published", "--json", "--csv"], "--json"),
    "missing profiles": (["board", "measured", "--profiles", "nowhere"], "nowhere"),
    "unknown axis": (["board", "published", "--axis", "sise"], "axis"),
    "nothing to check": (["check", "nowhere.json"], "nowhere.json"),
    "unknown family": (["new-method", "my-method", "--family", "quantisation"], "quantization"),
    "no number": (["run", "quickstart", "--seeds", "many"], "--seeds"),
}

SUITE = """
title = "mine"
profile_model = "tiny"
[[profiling]]
recipes = ["magnitude"]
"""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with faulty suites and checkpoints."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "empty.toml").write_text('title = "mine"')
    (tmp_path / "untrained.toml").write_text(SUITE)
    (tmp_path / "zero.toml").write_text(SUITE + "workloads = [[0, 16]]")
    (tmp_path / "long.toml").write_text(SUITE + "workloads = [[1, 16], [1, 1000]]")
    configs = {
        "gpt2": json.dumps({"model_type": "gpt2"}),
        "torn": '{"model_type": ',
        "bare": json.dumps(
            {
                "hidden_size": 16,
                "num_attention_heads": 2,
                "num_hidden_layers": 1,
                "intermediate_size": 32,
                "vocab_size": 100,
                "max_position_embeddings": 64,
                "type_vocab_size": 2,
            }
        ),
    }
    for name, text in configs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    return tmp_path


def contents(folder: Path) -> dict[str, str | None]:
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_line(mistake: str, workplace: Path) -> None:
    before = contents(workplace)
    arguments, name = MISTAKES[mistake]
    done = skyline(*arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert done.err.startswith("skyline: ")
    assert name in done.err
    assert "Traceback" not in done.err
    assert contents(workplace) == before, "a refused command wrote something"


ERRORS = {
    "out of memory": (
        ChildRaised("RuntimeError", "DefaultCPUAllocator: not enough memory: you tried to allocate", ""),
        1,
        "--batch",
    ),
    "killed": (ChildDied(-9), 1, "SIGKILL"),
    "a file's": (
        PermissionError(13, "Permission denied", "here/index.html"),
        2,
        "here/index.html",
    ),
    "a disk's": (OSError(28, "No space left on device"), 2, "No space left on device"),
    "a value's": (None, 2, "Workload: batch = 0"),
}


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_without_a_message_of_its_own_is_one_clear_line(
    error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised, expected, name = ERRORS[error]

    def fail(*_: object) -> None:
        if raised is None:
            Workload(batch=0)
        else:
            raise raised

    monkeypatch.setattr("harness.recipes.discovery.discover", fail)
    done = skyline("methods")
    assert (done.status, done.out) == (expected, "")
    assert done.err.startswith("skyline: ")
    assert done.err.count("\n") == 1
    assert name in done.err


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("harness.recipes.discovery.discover", fail)
    monkeypatch.setattr(sys, "argv", ["skyline", "methods"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


@pytest.mark.usefixtures("workplace")
def test_model_replaces_the_profiled_model_of_a_suite_without_training() -> None:
    done = skyline("run", "untrained.toml", "--model", "mini", "--dry-run", "--json")
    assert done.status == 0
    assert [cell.split(".")[2] for cell in done.json["cells"]] == ["mini", "mini"]


def test_check_ends_with_2_and_names_each_path_once(workplace: Path) -> None:
    (workplace / "record.json").write_text("{")
    done = skyline("check", "untrained.toml", "record.json", "long.toml")
    assert done.status == 2
    assert done.out == "untrained.toml: ok\n"
    record, suite = done.err.splitlines()
    assert record.startswith("record.json: ")
    assert suite.startswith("long.toml: ")
    assert "1000" in suite


def test_published_board_as_json_has_the_base_row_and_25_others() -> None:
    done = skyline("board", "published", "--json")
    assert done.status == 0
    assert len(done.json["rows"]) == 26
    assert done.json["axes"]


def test_a_foreign_record_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    folder = tmp_path / "measured" / "machine"
    folder.mkdir(parents=True)
    (folder / "foreign.json").write_text('{"score": 1}')
    done = skyline("board", "measured", "--profiles", tmp_path)
    assert done.status == 2
    assert "foreign.json" in done.err
