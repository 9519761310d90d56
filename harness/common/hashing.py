"""SHA-256 hashes of values and files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal. It is cached until the file's time or size changes."""
    status = path.stat()
    return _sha256_of_version(path, status.st_mtime_ns, status.st_size)


@cache
def _sha256_of_version(path: Path, _mtime_ns: int, _size: int) -> str:
    return fresh_sha256(path)


def fresh_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal. Reads the file on every call."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Mapping[str, Any]) -> str:
    """Return the SHA-256 of `value` as canonical JSON, in hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
