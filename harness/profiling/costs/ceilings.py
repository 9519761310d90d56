"""Measures a machine's ceilings for a roofline: how fast it multiplies large matrices and copies memory.

Source: Williams et al. 2009, "Roofline: an insightful visual performance model".
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from harness.common.hardware import multiplies_signed
from harness.models.artifacts import ArtifactConfig
from harness.models.int8_linear import float_int_mm
from harness.records.schema import PRECISIONS, Ceilings, Precision

BUDGET_S = 0.25
"""Seconds of wall time for all ceilings together, without warm-ups."""
FEWEST = 3
"""Repetitions of each measurement, at least."""
SIZE, CUDA_SIZE = 1024, 4096
"""Rows and columns of the square matrices: enough for blocked kernels, few enough for several products in 0.05 s."""
COPIED_BYTES, CUDA_COPIED_BYTES = 64 << 20, 512 << 20
"""Bytes that are copied: source and target exceed the last-level cache of most machines."""


def measure_ceilings(
    device: str, executed: Precision, precisions: Sequence[Precision] = PRECISIONS
) -> Ceilings:
    """Time a copy and matrix products in float32, in `executed` and in `precisions`, with this process's threads.

    Each figure is the median of several, after one to warm up. Call it on an idle device, in the process whose passes
    are compared with the ceilings. It takes about a quarter of a second on a processor, plus allocating the memory.
    """
    size = CUDA_SIZE if device.startswith("cuda") else SIZE
    wanted: list[Precision] = [each for each in PRECISIONS if each in {"float32", executed, *precisions}]
    share = BUDGET_S / (len(wanted) + 1)
    with torch.inference_mode():
        products = {each: matmul_flops(each, size, device, share) for each in wanted}
        nbytes = CUDA_COPIED_BYTES if device.startswith("cuda") else COPIED_BYTES
        copied = copy_bytes(nbytes, device, share)
    return Ceilings(matmul_flops=products, copy_bytes=copied, executed=executed)


def executed_precision(config: ArtifactConfig, precision: Precision) -> Precision:
    """Return the lowest precision of an artifact's linear maps: int8 if it executes any in int8 itself."""
    return "int8" if config.kernels else precision


def matmul_flops(precision: Precision, size: int, device: str, budget_s: float) -> float:
    """Return FLOP/s (a multiply-add is two) of x Wᵀ for matrices x and W, both (size, size)."""
    generator = torch.Generator(device).manual_seed(0)
    left, right = (_matrix(precision, size, device, generator) for _ in range(2))
    in_floats = not device.startswith("cuda") and not multiplies_signed()  # as `Int8Linear` does then

    def multiply() -> Tensor:
        if precision == "int8":
            return float_int_mm(left, right) if in_floats else torch._int_mm(left, right.t())
        return left @ right.t()

    return 2 * size**3 / _median_seconds(multiply, device, budget_s)


def _matrix(precision: Precision, size: int, device: str, generator: torch.Generator) -> Tensor:
    if precision == "int8":
        return torch.randint(-127, 128, (size, size), dtype=torch.int8, device=device, generator=generator)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    return torch.randn(size, size, device=device, generator=generator).to(dtype)


def copy_bytes(nbytes: int, device: str, budget_s: float) -> float:
    """Return bytes/s of a copy of `nbytes`; bytes read and bytes written both count."""
    source = torch.ones(nbytes // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _median_seconds(lambda: target.copy_(source), device, budget_s)


def _median_seconds(work: Callable[[], Tensor], device: str, budget_s: float) -> float:
    cuda = device.startswith("cuda")
    _seconds(work, cuda)
    found: list[float] = []
    while len(found) < FEWEST or sum(found) < budget_s:
        found.append(_seconds(work, cuda))
    return statistics.median(found)


def _seconds(work: Callable[[], Tensor], cuda: bool) -> float:
    if cuda:
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if cuda:
        torch.cuda.synchronize()
    return max(time.perf_counter() - began, 1e-9)
