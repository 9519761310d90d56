"""Files and folders on disk: new folders that appear whole, and hashes of files."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.common.errors import SkylineError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content` so that `path` holds either all of it or what it held before, a kill at any moment
    included.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` when the block ends, and disappears where it fails.

    It stands beside `folder` under a name that begins with a dot. Raises SkylineError where `folder` exists.
    """
    if folder.exists():
        raise SkylineError(f"{folder} exists already; choose another folder or delete it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield temporary
        # What makes temporary files and folders lets nobody else read them.
        for path in temporary.iterdir():
            path.chmod(0o644)
        temporary.chmod(0o755)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def read_json(path: Path) -> Any:
    """Read a JSON file of the workspace."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file of the workspace, atomically."""
    write_atomically(path, json.dumps(value, indent=1) + "\n")
