"""Functions that damage a model's folder, for the tests of artifacts and checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

Damage = Callable[[Path], object]


def change_config(**changes: object) -> Damage:
    """Change values in config.json; `...` removes a field."""

    def spoil(folder: Path) -> None:
        data = {**json.loads((folder / "config.json").read_text()), **changes}
        data = {key: value for key, value in data.items() if value is not Ellipsis}
        (folder / "config.json").write_text(json.dumps(data))

    return spoil


def change_weights(name: str, edit: Callable[[dict[str, Tensor]], object]) -> Damage:
    """Change the tensors in a file of weights."""

    def spoil(folder: Path) -> None:
        tensors = {key: tensor.clone() for key, tensor in load_file(folder / name).items()}
        edit(tensors)
        # Unlink first: a loaded model may still be mapped to the old file.
        (folder / name).unlink()
        save_file(tensors, folder / name)

    return spoil


def write(name: str, content: bytes) -> Damage:
    """Replace the content of a file."""
    return lambda folder: (folder / name).write_bytes(content)


def drop(name: str) -> Damage:
    """Delete a file."""
    return lambda folder: (folder / name).unlink()


def cut(name: str, keep: float) -> Damage:
    """Keep only the first share `keep` of a file."""

    def spoil(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])

    return spoil


def flip(name: str, place: float, bit: int = 0) -> Damage:
    """Flip one bit of a file, at the share `place` of its length."""

    def spoil(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[int(len(content) * place)] ^= 1 << bit
        (folder / name).write_bytes(content)

    return spoil
