"""Run the command `skyline` inside the test's process. Cells still run in child processes, as in a shell."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main as cli


@dataclass(frozen=True)
class Finished:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The standard output as JSON."""
        return json.loads(self.out)


def skyline(*arguments: str | Path) -> Finished:
    """Run `skyline` with these arguments, without the hub and without a data folder from the environment."""
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["skyline", *map(str, arguments)])
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.delenv("SKYLINE_DATA_DIR", raising=False)
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    return Finished(int(stopped.value.code or 0), out.getvalue(), err.getvalue())
