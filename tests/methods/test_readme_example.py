"""The worked example of methods/README.md is an adapter that conforms."""

from __future__ import annotations

import re
from pathlib import Path

import methods
from harness.conformance import run_conformance
from harness.recipes.discovery import load_file, single_method

README = Path(next(iter(methods.__path__))) / "README.md"


def test_the_worked_example_conforms(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "one_shot_magnitude.py"
    path.write_text(code, encoding="utf-8")
    method = single_method(load_file(path, "one_shot_magnitude"), path.stem)
    assert run_conformance(method, path) == []
