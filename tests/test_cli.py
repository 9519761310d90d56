"""The command: what it prints, and that every mistake is one clear line with exit status 2."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("SKYLINE_DATA_DIR", raising=False)

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["skyline", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call


def test_methods_prints_every_card(run: Run) -> None:
    status, out, _ = run("methods", "--json")
    cards = {card["id"]: card for card in json.loads(out)["methods"]}
    assert status == 0
    assert {"dynamic-int8", "magnitude", "random-pruning", "kd-logits"} <= set(cards)
    assert cards["magnitude"]["paper"]["year"] == 2020


@pytest.mark.parametrize("arguments", [["--help"], ["methods"]])
def test_light_commands_load_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from harness import cli\n"
        f"sys.argv = ['skyline', *{arguments!r}]\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'pandas', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


MISTAKES = {
    "unknown command": (["metods"], "methods"),
    "unknown method": (["profile", "dynamic-int9"], "did you mean 'dynamic-int8'"),
    "unknown option": (["profile", "magnitude:sparsty=0.5"], "did you mean 'sparsity'"),
    "option out of range": (["profile", "magnitude:sparsity=1.5"], "sparsity=1.5"),
    "option of a wrong type": (["profile", "kd-logits:layers=few"], "layers=few"),
    "unreadable recipe": (["profile", "magnitude:0.5"], "option=value"),
    "empty recipe": (["profile", ""], "recipe is empty"),
    "impossible order": (["profile", "dynamic-int8 > kd-logits"], "put 'dynamic-int8' last"),
    "two that conflict": (["profile", "magnitude + random-pruning"], "'magnitude' and 'random-pruning'"),
    "unknown model": (["profile", "baseline", "--model", "bert-bse"], "did you mean 'bert-base'"),
    "missing model folder": (["profile", "baseline", "--model", "./nowhere"], "no folder"),
    "hub name without a hub": (["profile", "baseline", "--model", "some/model"], "hub does not answer"),
    "unknown device": (["profile", "baseline", "--model", "bert-tiny", "--device", "tpu"], "tpu"),
    "unknown runtime": (["profile", "baseline", "--model", "bert-tiny", "--runtime", "eagr"], "eager"),
    "length below 1": (["profile", "baseline", "--seq", "0"], "0"),
    "length beyond the positions": (["profile", "baseline", "--model", "bert-tiny", "--seq", "513"], "512"),
    "unknown suite": (["run", "quikstart", "--dry-run"], "did you mean 'quickstart'"),
    "nothing to run": (["run"], "--recipe and --task"),
    "unknown task": (["run", "--recipe", "baseline", "--task", "sst3"], "did you mean 'sst2'"),
    "no data": (["run", "--recipe", "baseline", "--task", "sst2"], "--data-dir"),
    "missing data folder": (
        ["run", "--recipe", "baseline", "--task", "sst2", "--data-dir", "x"],
        "no data folder",
    ),
    "unknown engine": (["run", "quickstart", "--engine", "slurm"], "unknown engine"),
    "no seeds": (["run", "quickstart", "--seeds", "0"], "--seeds 0"),
    "bad budget": (
        ["run", "--recipe", "baseline", "--task", "toy-pairs", "--epochs", "-1"],
        "budget.baseline.epochs",
    ),
    "bad precision": (
        ["run", "--recipe", "baseline", "--task", "toy-pairs", "--precision", "int4"],
        "precision",
    ),
    "unknown board": (["board", "mesured"], "did you mean 'measured'"),
    "two formats": (["board", "published", "--json", "--csv"], "choose one"),
    "missing profiles": (["board", "measured", "--profiles", "nowhere"], "no folder nowhere"),
    "unknown axis": (["board", "published", "--axis", "sise"], "axis"),
    "nothing to check": (["check", "nowhere.json"], "nowhere.json"),
    "unknown family": (["new-method", "my-method", "--family", "quantisation"], "quantization"),
    "no number": (["run", "quickstart", "--seeds", "many"], "--seeds"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_line(
    mistake: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, hint = MISTAKES[mistake]
    status, out, errors = run(*arguments)
    assert (status, out) == (2, "")
    assert errors.count("\n") == 1
    assert errors.startswith("skyline: ")
    assert hint in errors
    assert "Traceback" not in errors
    assert list(tmp_path.rglob("*.json")) == []


def test_published_board_as_json_has_the_base_row_and_25_others(run: Run) -> None:
    status, out, _ = run("board", "published", "--json")
    board = json.loads(out)
    assert status == 0
    assert len(board["rows"]) == 26
    assert board["axes"]


def test_a_foreign_record_is_named_and_the_others_are_shown(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "measured" / "machine"
    folder.mkdir(parents=True)
    (folder / "foreign.json").write_text('{"score": 1}')
    status, _, errors = run("board", "measured", "--profiles", tmp_path)
    assert status == 2
    assert "foreign.json is no Skyline record" in errors
