"""Hashes of values and of files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any


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


def digest(value: Mapping[str, Any]) -> str:
    """A SHA-256 over canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
