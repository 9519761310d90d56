"""The machine that a figure was measured on, from stable fields only, and the versions that it was measured
with.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from pydantic import BaseModel, ConfigDict

from harness.common.errors import SkylineError
from harness.common.lazy import lazy_imports
from harness.version import __version__

with lazy_imports():
    import torch

if TYPE_CHECKING:
    pass


INSTRUCTIONS = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)
"""Instruction sets that decide which kernels run, as /proc/cpuinfo calls them (x86, then Arm)."""

DISTRIBUTIONS = ("torch", "transformers", "tokenizers", "fvcore")

_CPUINFO = Path("/proc/cpuinfo")
_CGROUP = Path("/sys/fs/cgroup")


class Hardware(BaseModel):
    """The machine as the process may use it, from stable fields only (no clock frequency, no host name).

    `cores` are physical ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    id: str
    processor: str
    cores: int
    logical_cores: int | None = None
    memory_gib: int
    instructions: list[str] = []
    accelerator: str | None = None


def hardware(device: str = "cpu") -> Hardware:
    """The machine as this process may use it; `id` is made of these fields, so that equal machines share it.

    Nothing in it moves between two runs on one machine: no clock frequency, no load, no host name. Raises
    SkylineError for a CUDA device that is not there.
    """
    cpus = _usable_cpus()
    entries = _cpuinfo()
    model = next((e[key] for e in entries for key in ("model name", "Model") if e.get(key)), None)
    processor = _tidy(model or platform.processor() or platform.machine())
    flags = set((entries[0].get("flags") or entries[0].get("Features") or "").split()) if entries else set()
    logical = min(len(cpus), _cgroup_cpus() or len(cpus))
    physical = min(_physical_cores(entries, cpus), logical)
    memory = round(_memory_bytes() / 2**30)
    instructions = [name for name in INSTRUCTIONS if name in flags]
    accelerator = _accelerator(device)
    parts = [processor, f"{physical}c", f"{memory}g", *instructions[-2:]]
    if accelerator:
        parts.append(accelerator)
    return Hardware(
        id=re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-"),
        processor=processor,
        cores=physical,
        logical_cores=logical,
        memory_gib=memory,
        instructions=instructions,
        accelerator=accelerator,
    )


@cache
def multiplies_signed() -> bool:
    """Whether the processor sums products of unsigned and signed bytes exactly.

    Without such instructions x86 adds two of them in 16 bits, where they overflow; libraries then take other ways.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    return bool({"avx512_vnni", "avx_vnni", "amx_int8"} & set(hardware().instructions))


def versions() -> dict[str, str]:
    """Versions that a figure may depend on, read from package metadata without importing anything heavy."""
    found = {"python": platform.python_version(), "skyline": __version__}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _tidy(processor: str) -> str:
    """A processor's name without trade marks and without the clock frequency that some names end in."""
    name = re.sub(r"\((?:R|TM|C)\)", "", processor, flags=re.IGNORECASE)
    name = re.sub(r"@.*$|\bCPU\b|\bProcessor\b", "", name)
    return " ".join(name.split())


def _cpuinfo() -> list[dict[str, str]]:
    """One dictionary for each logical processor; empty where the system has no /proc/cpuinfo."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    entries = []
    for block in text.strip().split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines() if ":" in line)
        entries.append({key.strip(): value.strip() for key, _, value in pairs})
    return entries


def _usable_cpus() -> set[int]:
    if sys.platform == "linux":
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _physical_cores(entries: list[dict[str, str]], cpus: set[int]) -> int:
    """Cores behind the usable logical processors; as many as these where the system does not say."""
    cores = set()
    for entry in entries:
        number = entry.get("processor", "")
        if number.isdigit() and int(number) in cpus and "core id" in entry:
            cores.add((entry.get("physical id", "0"), entry["core id"]))
    if cores:
        return len(cores)
    return min(psutil.cpu_count(logical=False) or len(cpus), len(cpus))


def _cgroup_cpus() -> int | None:
    """Processors that a container's quota allows, rounded up; None without a quota."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, -(-int(quota) // int(period)))


def _memory_bytes() -> int:
    """Memory in bytes, or a container's limit where that is lower."""
    total = int(psutil.virtual_memory().total)
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return total
    return total if limit == "max" else min(total, int(limit))


def _accelerator(device: str) -> str | None:
    if not device.startswith("cuda"):
        return None
    check_device(device)
    return torch.cuda.get_device_name(torch.device(device))


def check_device(device: str) -> None:
    """Raise a SkylineError unless `device` is `cpu`, or `cuda` (`cuda:N`) with such a device there."""
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", device)
    if match is None:
        raise SkylineError(f"unknown device '{device}'; use cpu or cuda")
    if device == "cpu":
        return
    if not torch.cuda.is_available():
        raise SkylineError("this machine has no CUDA device that torch can use; use --device cpu")
    count = torch.cuda.device_count()
    if int(match[1] or 0) >= count:
        raise SkylineError(
            f"this machine has {count} CUDA device(s), so there is no {device}; use cuda:{count - 1} or less"
        )


def has_bfloat16(device: str) -> bool:
    """Whether the processor multiplies bfloat16 matrices by instructions of its own."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
