"""Files and folders on disk: new folders that appear whole, and hashes of files."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from harness.errors import SkylineError


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


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits; read again only after the file changed."""
    status = path.stat()
    return _sha256_of_version(path, status.st_mtime_ns, status.st_size)


@cache
def _sha256_of_version(path: Path, _mtime_ns: int, _size: int) -> str:
    return fresh_sha256(path)


def fresh_sha256(path: Path) -> str:
    """The SHA-256 of the bytes that a file holds now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
