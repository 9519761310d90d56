from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

import harness.common.hardware as module
from harness.common.errors import Code
from harness.common.hardware import Hardware, check_device, hardware, versions
from tests.support.one_line_errors import refused

CPUINFO = """processor	: {0}
vendor_id	: GenuineIntel
model name	: Intel(R) Xeon(R) Platinum 8480+ CPU @ 2.00GHz
physical id	: 0
core id	: {1}
cpu MHz		: {2}
flags		: fpu avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_tile amx_int8
"""


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, mhz: float = 2000.0, cpus: int = 4) -> None:
    """A machine of four logical processors on two cores, 16 GiB."""
    text = "\n".join(CPUINFO.format(n, n // 2, mhz + n) for n in range(4))
    (folder / "cpuinfo").write_text(text)
    monkeypatch.setattr(module, "_CPUINFO", folder / "cpuinfo")
    monkeypatch.setattr(module, "_CGROUP", folder)
    monkeypatch.setattr(module, "_usable_cpus", lambda: set(range(cpus)))
    memory = type("Memory", (), {"total": 16 * 2**30 - 300 * 2**20})
    monkeypatch.setattr(psutil, "virtual_memory", memory)


def test_fields_of_a_known_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, tmp_path)
    found = hardware()
    assert found == Hardware(
        id="intel-xeon-platinum-8480-2c-16g-amx-int8-amx-bf16",
        processor="Intel Xeon Platinum 8480+",
        cores=2,
        logical_cores=4,
        memory_gib=16,
        instructions=["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16"],
        accelerator=None,
    )


def test_the_clock_does_not_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, tmp_path, mhz=2000.0)
    before = hardware()
    pretend(monkeypatch, tmp_path, mhz=3571.3)
    assert hardware() == before


def test_only_processors_that_this_process_may_use_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, tmp_path, cpus=2)
    assert (hardware().cores, hardware().logical_cores) == (1, 2)


def test_a_containers_limits_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, tmp_path)
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text(f"{4 * 2**30}\n")
    found = hardware()
    assert (found.cores, found.logical_cores, found.memory_gib) == (2, 2, 4)
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    found = hardware()
    assert (found.cores, found.logical_cores, found.memory_gib) == (1, 1, 16)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert hardware().logical_cores == 4


def test_a_system_without_cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CPUINFO", tmp_path / "absent")
    found = hardware()
    assert found.processor
    assert found.cores >= 1
    assert found.instructions == []


def test_this_machine_is_the_same_twice_and_makes_a_folder_name() -> None:
    assert hardware() == hardware()
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", hardware().id)


def test_versions() -> None:
    found = versions()
    assert set(found) == {"python", "skyline", "torch", "transformers", "tokenizers", "fvcore"}
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


def test_describing_the_machine_imports_nothing_heavy() -> None:
    code = (
        "import sys; from harness.common.hardware import hardware, versions; hardware(); versions()\n"
        "print([name for name in ('torch', 'transformers', 'tokenizers', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CPU", "", "tpu"])
def test_unknown_devices(device: str) -> None:
    with refused(Code.UNKNOWN_NAME, f"'{device}'", "cpu", "cuda"):
        check_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_cuda_that_is_not_there() -> None:
    for call in (lambda: check_device("cuda"), lambda: hardware("cuda:0")):
        with refused(Code.NO_DEVICE, "CUDA", "--device cpu"):
            call()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_that_is_there() -> None:
    assert hardware("cuda").accelerator == torch.cuda.get_device_name(0)
    count = torch.cuda.device_count()
    with refused(Code.NO_DEVICE, f"cuda:{count}", f"cuda:{count - 1}"):
        check_device(f"cuda:{count}")
