"""The interface of a runtime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from harness.common.errors import SkylineError
from harness.common.hardware import has_bfloat16
from harness.records.schema import Precision

if TYPE_CHECKING:
    from torch import Tensor

    from harness.models.batch import Batch
    from harness.models.model import Model


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
    """One way to execute artifacts.

    In which precision is the caller's choice for the linear maps that an artifact leaves in float32; those that it
    executes in int8 itself stay so, with their own weights and scales.
    """

    name: ClassVar[str]
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    exits_early: ClassVar[bool] = False
    """Whether rows that are done at an exit ramp leave their batch, as `harness.compression.exit_rules` says."""
    prepares: ClassVar[bool] = False
    """Whether `load` needs more than the artifact's files, which `prepare` makes."""
    compiles: ClassVar[bool] = False
    """Whether the first pass of each shape takes far longer than the next ones."""
    extra: ClassVar[str | None] = None
    """The extra that installs `packages`, where they are no dependencies."""
    packages: ClassVar[tuple[str, ...]] = ()
    """What it imports, by names that are those of the distributions too."""

    def require(self, device: str) -> None:
        """Raise SkylineError where the runtime is not installed, naming the extra, or does not run on the device."""
        missing = [name for name in self.packages if find_spec(name) is None]
        if missing:
            raise SkylineError(
                f"runtime '{self.name}' needs {missing[0]}, which is not installed; "
                f"pip install 'bert-skyline[{self.extra}]'"
            )
        if device.partition(":")[0] not in self.devices:
            raise SkylineError(
                f"runtime '{self.name}' does not run on {device}; use {' or '.join(self.devices)}"
            )

    def lacks(self, precision: Precision, device: str) -> str | None:
        """Why nothing can be executed in that precision on the device; None where it can."""
        if precision != "bfloat16":
            return None

        return (
            None
            if has_bfloat16(device)
            else f"{device} has no instructions for bfloat16 here; use float32 or int8"
        )

    def versions(self) -> dict[str, str]:
        """Versions of the packages that a figure depends on."""
        return {name: metadata.version(name) for name in self.packages}

    def prepare(self, folder: Path, precision: Precision, length: int, into: Path) -> None:
        """Write into a folder what `load` needs of an artifact beside its files, for rows of up to `length` tokens."""
        raise NotImplementedError

    @abstractmethod
    def load(
        self, folder: Path, device: str, precision: Precision = "float32", prepared: Path | None = None
    ) -> Executable:
        """Load an artifact onto a device. What was not `prepared` is made first, where the runtime needs it.

        Raises SkylineError where the artifact is corrupted, the device is not there, or the runtime does not
        run on it.
        """


@dataclass(frozen=True)
class Execution:
    """An artifact and the way to execute it, as plain values that travel to another process."""

    folder: Path
    runtime: str = "eager"
    device: str = "cpu"
    precision: Precision = "float32"
    prepared: Path | None = None
