"""Write files and folders atomically: after a kill, each is there whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.common.errors import Code, SkylineError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content`, text in UTF-8. After a kill at any moment, `path` holds its old content or all of the new."""
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
    """Yield a temporary folder to fill. It is renamed to `folder` after the block, or deleted if the block raises.

    The temporary folder has the same parent and a name that begins with a dot. Raises SkylineError (`exists`) if
    `folder` exists.
    """
    if folder.exists():
        raise SkylineError(f"{folder} exists already; choose another folder or delete it", Code.EXISTS)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield temporary
        # Temporary files and folders are readable by their owner alone: let others read them too.
        for path in temporary.iterdir():
            path.chmod(0o644)
        temporary.chmod(0o755)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    write_atomically(path, json.dumps(value, indent=1) + "\n")
