"""Functions that the tests of isolation run in children; they must be at the top of an importable module."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from harness.common.errors import Code, NotComparable, SkylineError, unknown_name


def add(left: int, right: int = 1) -> int:
    return left + right


def own_pid() -> int:
    return os.getpid()


def loaded_and_threads() -> tuple[bool, int]:
    return "torch" in sys.modules, len(list(Path("/proc/self/task").iterdir()))


def server_threads() -> int:
    """Return the number of threads of the process that forked this one."""
    return len(list(Path(f"/proc/{os.getppid()}/task").iterdir()))


def matrix_product(size: int) -> tuple[float, int]:
    """Return the sum of a product so large that torch uses all its threads, and their number."""
    import torch

    x = torch.ones(size, size)
    return float((x @ x).sum()), torch.get_num_threads()


def environment_and_folder(name: str) -> tuple[str | None, str]:
    return os.environ.get(name), str(Path.cwd())


def incomparable() -> None:
    raise NotComparable("two boards")


def mistake() -> None:
    raise unknown_name("method", "magnitud", ["magnitude"])


def subtle_mistake() -> None:
    class Local(SkylineError):
        pass

    raise Local("the parent does not know this class", Code.IN_USE)


def bug() -> None:
    raise ValueError("first line\nsecond line")


def exhaust() -> None:
    raise MemoryError("no room")


def unsendable() -> Callable[[], None]:
    return lambda: None


def die(number: int) -> None:
    os.kill(os.getpid(), number)
    signal.pause()


def leave(status: int) -> None:
    os._exit(status)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def count(steps: int, report: Callable[[int], None]) -> str:
    for step in range(steps):
        report(step)
    return "done"


def hold(fifo: Path, with_grandchild: bool = False) -> None:
    """Send this process's id through a pipe and keep the pipe open until death; a grandchild keeps it open too."""
    with fifo.open("w") as file:
        if with_grandchild:
            subprocess.Popen(["sleep", "600"], stdout=file)
        file.write(f"{os.getpid()}\n")
        file.flush()
        time.sleep(600)


def nested(value: int) -> int:
    import harness.common.processes

    harness.common.processes.PRELOAD = ()  # this child's own server need not be warm
    return harness.common.processes.run_isolated(add, value)
