"""The weights of a Hugging Face folder, or only their shapes and types."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from harness.common.errors import Code, SkylineError
from harness.common.hashing import sha256

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "BOOL": torch.bool,
}
"""Types of weights by their names in safetensors. Weights of any other type are not plain numbers."""


def weight_file(folder: Path) -> Path:
    """Return the file of a checkpoint's weights. Raises SkylineError (NOT_FOUND) if there is none."""
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise SkylineError(
        f"{folder} has no {' and no '.join(WEIGHT_FILES)}; copy the weights too", Code.NOT_FOUND
    )


def read_weights(folder: Path) -> tuple[dict[str, Tensor], str]:
    """Return all weights by name, and the SHA-256 of their file.

    Raises SkylineError for a file that cannot be read (UNREADABLE, DAMAGED) or holds something else (WRONG_KIND).
    """
    path = weight_file(folder)
    if path.suffix != ".safetensors":
        return _unpickled(path, "cpu"), sha256(path)
    try:
        return load_file(path), sha256(path)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None


def weights_on_meta(folder: Path) -> dict[str, Tensor]:
    """Return all weights by name on the meta device: shapes and types without memory. Raises as `read_weights`."""
    path = weight_file(folder)
    if path.suffix != ".safetensors":
        return _unpickled(path, "meta")
    try:
        # With framework="pt" the library would reserve memory for the whole file.
        with safe_open(path, framework="np") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            stored = {name: (part.get_shape(), part.get_dtype()) for name, part in parts.items()}
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None
    return {
        name: torch.empty(shape, dtype=DTYPES.get(dtype, torch.uint8), device="meta")
        for name, (shape, dtype) in stored.items()
    }


def _unreadable(path: Path, error: Exception) -> SkylineError:
    return SkylineError(f"{path} cannot be read ({error}); copy the checkpoint again", Code.UNREADABLE)


def _unpickled(path: Path, device: str) -> dict[str, Tensor]:
    try:
        # Memory-map the file, so that loading to the meta device reads no weights. Only zip files can be mapped.
        lazy = device == "meta" and zipfile.is_zipfile(path)
        loaded = torch.load(path, map_location=device, weights_only=True, mmap=lazy)
    except Exception:  # a damaged or malicious pickle raises exceptions of many types
        raise SkylineError(
            f"{path} is damaged or holds more than weights; copy it again or convert it to model.safetensors",
            Code.DAMAGED,
        ) from None
    if not isinstance(loaded, dict):
        raise SkylineError(f"{path} is not a state_dict; save the model's state_dict", Code.WRONG_KIND)
    return {name: part for name, part in loaded.items() if isinstance(part, Tensor)}
