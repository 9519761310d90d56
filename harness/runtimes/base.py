"""The interface that every runtime implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from harness.common.errors import Code, SkylineError
from harness.common.hardware import has_bfloat16
from harness.records.schema import Precision

if TYPE_CHECKING:
    from torch import Tensor

    from harness.models.batch import Batch
    from harness.models.model import Model


@dataclass(frozen=True)
class Executable:
    """An artifact that is loaded: `executable(batch)` returns the logits.

    `model` is the encoder whose modules run, so that its components can be timed. It is None if the runtime replaced
    them by a graph or compiled code.
    """

    run: Callable[[Batch], Tensor]
    model: Model | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """Return the logits (b, outputs), or (b, n, 2) for spans, of a batch on the executable's device."""
        return self.run(batch)


class Runtime(ABC):
    """One way to execute artifacts.

    The caller chooses the precision of the linear maps that an artifact leaves in float32. Maps that the artifact
    executes in int8 keep their weights and scales in every precision.
    """

    name: ClassVar[str]
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    exits_early: ClassVar[bool] = False
    """Whether rows leave their batch at the exit ramp that decides them (see `harness.compression.exit_rules`)."""
    prepares: ClassVar[bool] = False
    """Whether `load` needs files that `prepare` makes from the artifact, such as an exported graph."""
    compiles: ClassVar[bool] = False
    """Whether the first pass of each shape takes much longer than the next ones."""
    extra: ClassVar[str | None] = None
    """The pip extra that installs `packages`; None if Skyline depends on them."""
    packages: ClassVar[tuple[str, ...]] = ()
    """The packages that it imports. Each distribution has the same name as its package."""

    def require(self, device: str) -> None:
        """Raise SkylineError if the runtime is not installed, naming the extra, or does not run on the device.

        Their codes are `NOT_INSTALLED` and `CONFLICT`.
        """
        missing = [name for name in self.packages if find_spec(name) is None]
        if missing:
            raise SkylineError(
                f"runtime '{self.name}' needs {missing[0]}, which is not installed; "
                f"pip install 'bert-skyline[{self.extra}]'",
                Code.NOT_INSTALLED,
            )
        if device.partition(":")[0] not in self.devices:
            raise SkylineError(
                f"runtime '{self.name}' does not run on {device}; use {' or '.join(self.devices)}",
                Code.CONFLICT,
            )

    def lacks(self, precision: Precision, device: str) -> str | None:
        """Return why the runtime cannot execute in that precision on the device; None if it can."""
        if precision != "bfloat16" or has_bfloat16(device):
            return None
        return f"{device} has no instructions for bfloat16 here; use float32 or int8"

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that a figure depends on, by package."""
        return {name: metadata.version(name) for name in self.packages}

    def prepare(self, folder: Path, precision: Precision, length: int, into: Path) -> None:
        """Write the files that `load` needs in addition to the artifact's, for rows of up to `length` tokens."""
        raise NotImplementedError

    @abstractmethod
    def load(
        self, folder: Path, device: str, precision: Precision = "float32", prepared: Path | None = None
    ) -> Executable:
        """Load an artifact onto a device.

        `prepared` is a folder that `prepare` wrote. Without it, a runtime that needs such files makes them first.
        Raises SkylineError if the artifact is damaged, the device does not exist, or the runtime does not run on it.
        """


@dataclass(frozen=True)
class Execution:
    """An artifact and the way to execute it, as plain values that another process can receive."""

    folder: Path
    runtime: str = "eager"
    device: str = "cpu"
    precision: Precision = "float32"
    prepared: Path | None = None
