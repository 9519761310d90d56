"""Write safetensors files atomically."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors by name, with `metadata`. After a kill at any moment, `path` holds its old content or all of the
    new.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The store deletes files whose names begin with a dot: a killed run may have left them half-written.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        save_file(dict(tensors), temporary, metadata=None if metadata is None else dict(metadata))
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
