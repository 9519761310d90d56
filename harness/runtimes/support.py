"""Which model a runtime can run on which workload: every rule that a configuration is enough for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.common.errors import Unsupported
from harness.common.hardware import check_device
from harness.models.shape_checks import check_length
from harness.runtimes import refused_exits

if TYPE_CHECKING:
    from harness.models.config import EncoderConfig
    from harness.models.students.bottleneck_config import BottleneckConfig
    from harness.models.students.config import StudentConfig
    from harness.records.schema import Precision, Workload
    from harness.runtimes.base import Runtime


def check_support(
    runtime: Runtime,
    precision: Precision,
    device: str,
    workload: Workload,
    config: EncoderConfig | StudentConfig | BottleneckConfig,
    kernels: Mapping[str, str] | None = None,
) -> None:
    """Raise the reason why a runtime cannot run a model of this configuration on a workload, if there is one.

    `kernels` are the maps that the artifact itself executes in int8, where that is known. Raises Unsupported for what
    the runtime is not made for. Raises SkylineError for a mistake of the user: the device is not there, the runtime is
    not installed, the sequences are longer than the model's positions.
    """
    check_device(device)
    runtime.require(device)
    check_length(workload.length, config.positions)
    if workload.cached is not None and runtime.name != "eager":
        raise Unsupported(
            f"runtime '{runtime.name}' reads whole rows, not what a cache leaves of them; use eager"
        )
    if reason := runtime.lacks(precision, device) or refused_exits(runtime, config):
        raise Unsupported(reason)
    if precision == "bfloat16" and kernels:
        raise Unsupported("the artifact executes its maps in int8, and bfloat16 changes nothing; use float32")
