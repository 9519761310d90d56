"""`skyline new-method`: what it writes conforms but for its card and for its option, which does nothing yet. Nothing is
overwritten.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.common.errors import Code
from harness.conformance import run_conformance
from harness.conformance.scaffold import write_adapter
from harness.recipes.discovery import collect, load_file, single_method
from tests.support.one_line_errors import refused

FILLED = {
    'Paper(title="", authors="", year=0, venue="", link="")': 'Paper("A", "B", 2020, "C", "https://example.org")',
    'title=""': 'title="Mine"',
    'deviations=""': 'deviations="All."',
    "touches=()": 'touches=("ffn",)',
}


def test_it_conforms_once_its_card_is_filled_in(tmp_path: Path) -> None:
    path = write_adapter("my-own-pruning", "structured-pruning", tmp_path)
    assert path == tmp_path / "structured_pruning" / "my_own_pruning.py"
    method = single_method(load_file(path, "scaffold_empty"), path.stem)
    assert method.__name__ == "MyOwnPruning"
    assert (method.card.id, method.card.family) == ("my-own-pruning", "structured-pruning")
    [failure] = run_conformance(method, path, ("card", "identity", "options", "import"))
    assert failure.check == "card"
    for field in (
        "title",
        "paper.title",
        "paper.authors",
        "paper.venue",
        "paper.link",
        "touches",
        "deviations",
    ):
        assert field in failure.message
    text = path.read_text()
    for old, new in FILLED.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    path.write_text(text)
    method = single_method(load_file(path, "scaffold_filled"), path.stem)
    [failure] = run_conformance(method, path)
    assert failure.check == "effects", "its option does nothing yet"


def test_discovery_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_adapter("found-one", "early-exit", tmp_path / "more_methods")
    assert (path.parent / "__init__.py").read_text().startswith('"""The family early-exit')
    (tmp_path / "more_methods" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    registry = collect([("more_methods.early_exit.found_one", path)], [])
    assert list(registry.methods) == ["found-one"]


def test_the_text_keeps_the_project_s_style(tmp_path: Path) -> None:
    pytest.importorskip("ruff")
    path = write_adapter("my-pruning", "structured-pruning", tmp_path)
    rules = Path(__file__).parents[2] / "pyproject.toml"
    for command in (["check", "--ignore", "RUF012"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", "--config", rules, path],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = write_adapter("my-pruning", "structured-pruning", tmp_path)
    package = path.parent / "__init__.py"
    path.write_text("mine")
    package.write_text("mine too")
    for family in ("structured-pruning", "quantization"):
        with refused(Code.EXISTS, "my_pruning.py"):
            write_adapter("my-pruning", family, tmp_path)
    write_adapter("other-pruning", "structured-pruning", tmp_path)
    assert (path.read_text(), package.read_text()) == ("mine", "mine too")
    assert sorted(p.name for p in tmp_path.rglob("*.py")) == [
        "__init__.py",
        "my_pruning.py",
        "other_pruning.py",
    ]


@pytest.mark.parametrize(
    "identity", ["My-Pruning", "my_pruning", "3-bits", "", "a--b", "-a", "a-", "../x", "a b"]
)
def test_an_id_in_another_case(identity: str, tmp_path: Path) -> None:
    with refused(Code.OUT_OF_RANGE, f"'{identity}'"):
        write_adapter(identity, "quantization", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("identity", "family", "code", "name"),
    [
        ("kd-logits", "distillation", Code.DUPLICATE, "methods/distillation/kd_logits.py"),
        ("baseline", "distillation", Code.DUPLICATE, "'baseline'"),
        ("my-own", "distilation", Code.UNKNOWN_NAME, "'distillation'"),
        ("my-own", "baseline", Code.UNKNOWN_NAME, "'baseline'"),
    ],
)
def test_refused(identity: str, family: str, code: Code, name: str, tmp_path: Path) -> None:
    with refused(code, name):
        write_adapter(identity, family, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "methods").touch()
    with refused(Code.NOT_WRITABLE, "my_own.py", "--folder"):
        write_adapter("my-own", "quantization", tmp_path / "methods")
