"""The interface of a runtime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

    from harness.model import Batch, Model


@dataclass(frozen=True)
class Executable:
    """An artifact ready to run: `executable(batch)` gives the logits.

    `model` is the encoder whose modules really run, for timing its components; None where the runtime has
    compiled them away.
    """

    run: Callable[[Batch], Tensor]
    model: Model | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """Logits (b, outputs), or (b, n, 2) for spans, of a batch on the executable's device."""
        return self.run(batch)


class Runtime(ABC):
    """One way to execute artifacts."""

    name: ClassVar[str]
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    exits_early: ClassVar[bool] = False
    """Whether rows that are done at an exit ramp leave their batch, as `harness.exits` says."""

    @abstractmethod
    def load(self, folder: Path, device: str) -> Executable:
        """Load an artifact onto a device.

        Raises SkylineError where the artifact is corrupted, the device is not there, or the runtime does not
        run on it.
        """
