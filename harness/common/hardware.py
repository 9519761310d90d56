"""Describe the machine and the package versions that a figure was measured with."""

from __future__ import annotations

import os
import platform
import re
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

from harness.common.errors import Code, SkylineError
from harness.common.lazy import lazy_imports
from harness.version import __version__

with lazy_imports():
    import torch

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
"""Instruction sets that decide which kernels run, named as in /proc/cpuinfo (x86, then Arm)."""

DISTRIBUTIONS = ("torch", "transformers", "tokenizers", "fvcore")

_CPUINFO = Path("/proc/cpuinfo")
_CGROUP = Path("/sys/fs/cgroup")


class Hardware(BaseModel):
    """The part of the machine that this process may use. `cores` counts physical cores; memory is in GiB."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    id: str
    processor: str
    cores: int
    logical_cores: int | None = None
    memory_gib: int
    instructions: list[str] = []
    accelerator: str | None = None


def hardware(device: str = "cpu") -> Hardware:
    """Describe the part of the machine that this process may use.

    `id` is made of the other fields, so equal machines have the same id. All fields stay the same between two runs on
    one machine: clock frequency, load and host name are left out. Raises SkylineError as `check_device` does.
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
    """Return whether the processor sums products of unsigned and signed bytes exactly.

    x86 without these instructions adds two products in 16 bits, which can overflow; libraries then use other kernels.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    return bool({"avx512_vnni", "avx_vnni", "amx_int8"} & set(hardware().instructions))


def versions() -> dict[str, str]:
    """Return the versions that a figure may depend on. Reads package metadata and imports nothing heavy."""
    found = {"python": platform.python_version(), "skyline": __version__}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _tidy(processor: str) -> str:
    """Remove trade marks and the clock frequency from a processor's name."""
    name = re.sub(r"\((?:R|TM|C)\)", "", processor, flags=re.IGNORECASE)
    name = re.sub(r"@.*$|\bCPU\b|\bProcessor\b", "", name)
    return " ".join(name.split())


def _cpuinfo() -> list[dict[str, str]]:
    """Read one dictionary for each logical processor; [] if the system has no /proc/cpuinfo."""
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
    """Count the cores of the usable logical processors; if unknown, one for each logical processor."""
    cores = set()
    for entry in entries:
        number = entry.get("processor", "")
        if number.isdigit() and int(number) in cpus and "core id" in entry:
            cores.add((entry.get("physical id", "0"), entry["core id"]))
    if cores:
        return len(cores)
    return min(psutil.cpu_count(logical=False) or len(cpus), len(cpus))


def _cgroup_cpus() -> int | None:
    """Return the number of processors in the container's quota, rounded up; None without a quota."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, -(-int(quota) // int(period)))


def _memory_bytes() -> int:
    """Return the memory in bytes, or the container's limit if it is lower."""
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
    """Check that `device` is `cpu`, or that it is `cuda` or `cuda:N` and the machine has it.

    Raises SkylineError: `unknown-name` for another device, `no-device` for one that the machine lacks.
    """
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", device)
    if match is None:
        raise SkylineError(f"unknown device '{device}'; use cpu or cuda", Code.UNKNOWN_NAME)
    if device == "cpu":
        return
    if not torch.cuda.is_available():
        raise SkylineError(
            "this machine has no CUDA device that torch can use; use --device cpu", Code.NO_DEVICE
        )
    count = torch.cuda.device_count()
    if int(match[1] or 0) >= count:
        raise SkylineError(
            f"this machine has {count} CUDA device(s) and no {device}; use cuda:{count - 1} or less",
            Code.NO_DEVICE,
        )


def has_bfloat16(device: str) -> bool:
    """Return whether `device` has instructions for bfloat16 matrix products."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
