from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.common.errors import Code, NotComparable, SkylineError
from harness.common.processes import CellTimeout, ChildDied, ChildRaised, IsolationError, run_isolated
from tests.support import isolated_functions as functions
from tests.support.one_line_errors import refused

ROOT = Path(__file__).parents[2]


def test_returns_what_the_function_returns() -> None:
    assert run_isolated(functions.add, 2, right=3) == 5


def test_every_call_gets_a_fresh_process() -> None:
    pids = {run_isolated(functions.own_pid) for _ in range(3)}
    assert len(pids) == 3
    assert os.getpid() not in pids


def test_children_start_warm_and_with_two_threads() -> None:
    """torch is there already; besides the main thread there is only the one that watches the parent."""
    assert run_isolated(functions.loaded_and_threads) == (True, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_server_has_no_threads_that_a_fork_would_lose() -> None:
    assert run_isolated(functions.server_threads) == 1


def test_parallel_work_in_children_of_one_server() -> None:
    total, threads = run_isolated(functions.matrix_product, 512)
    assert total == 512**3
    assert run_isolated(functions.matrix_product, 512) == (total, threads)


def test_environment_and_folder_are_those_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_isolated(functions.environment_and_folder, "SKYLINE_TEST_NAME")[0] is None
    monkeypatch.setenv("SKYLINE_TEST_NAME", "there")
    monkeypatch.chdir(tmp_path)
    assert run_isolated(functions.environment_and_folder, "SKYLINE_TEST_NAME") == ("there", str(tmp_path))


def test_a_users_mistake_arrives_as_it_was_raised() -> None:
    with refused(Code.UNKNOWN_NAME, "'magnitud'", "'magnitude'") as caught:
        run_isolated(functions.mistake)
    assert type(caught.value) is SkylineError


def test_the_class_of_a_users_mistake_survives() -> None:
    with refused(Code.NOT_COMPARABLE, "two boards") as caught:
        run_isolated(functions.incomparable)
    assert type(caught.value) is NotComparable


def test_a_users_mistake_of_an_unknown_class_stays_a_users_mistake() -> None:
    with refused(Code.IN_USE, "the parent does not know this class"):
        run_isolated(functions.subtle_mistake)


def test_a_bug_arrives_as_one_line_with_its_traceback() -> None:
    with pytest.raises(ChildRaised) as caught:
        run_isolated(functions.bug)
    assert str(caught.value) == "ValueError: first line"
    assert "in bug" in caught.value.details
    assert not caught.value.out_of_memory


def test_out_of_memory_is_told_apart() -> None:
    with pytest.raises(ChildRaised) as caught:
        run_isolated(functions.exhaust)
    assert caught.value.out_of_memory


def test_an_unsendable_result_is_an_error_not_a_hang() -> None:
    with pytest.raises(ChildRaised):
        run_isolated(functions.unsendable)


def test_death_by_signal() -> None:
    with pytest.raises(ChildDied, match="SIGKILL") as caught:
        run_isolated(functions.die, int(signal.SIGKILL))
    assert caught.value.exitcode == -signal.SIGKILL
    assert caught.value.out_of_memory
    with pytest.raises(ChildDied, match="SIGSEGV") as caught:
        run_isolated(functions.die, int(signal.SIGSEGV))
    assert not caught.value.out_of_memory


def test_death_by_exit() -> None:
    with pytest.raises(ChildDied, match="status 3"):
        run_isolated(functions.leave, 3)


def test_the_next_call_after_a_death_works() -> None:
    with pytest.raises(ChildDied):
        run_isolated(functions.leave, 1)
    assert run_isolated(functions.add, 1) == 2


def test_time_out_ends_the_child() -> None:
    with pytest.raises(CellTimeout, match=r"0\.3 s"):
        run_isolated(functions.sleep, 600, timeout_s=0.3)


def test_messages_arrive_in_order() -> None:
    messages: list[int] = []
    assert run_isolated(functions.count, 5, on_message=messages.append) == "done"
    assert messages == list(range(5))


def test_messages_need_no_listener() -> None:
    assert run_isolated(functions.count, 5) == "done"


def test_an_error_in_the_listener_ends_the_child() -> None:
    def fail(message: int) -> None:
        raise KeyError(message)

    with pytest.raises(KeyError):
        run_isolated(functions.count, 5, on_message=fail)


def test_a_child_may_isolate_again() -> None:
    assert run_isolated(functions.nested, 41) == 42


def test_functions_that_a_child_cannot_import_are_refused() -> None:
    with pytest.raises(TypeError, match="top of an importable module"):
        run_isolated(lambda: None)


def test_all_failures_share_a_class_that_is_no_users_mistake() -> None:
    for failure in (ChildDied, ChildRaised, CellTimeout):
        assert issubclass(failure, IsolationError)
        assert not issubclass(failure, SkylineError)


@contextmanager
def parent_of_a_held_child(tmp_path: Path, call: str) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """Start a Python process in its own group. It waits for a child that holds a pipe open as long as it lives."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    code = (
        "import sys; from pathlib import Path; import harness.common.processes\n"
        "from harness.common.processes import run_isolated\n"
        "harness.common.processes.PRELOAD = ()  # nothing here needs a warm server\n"
        f"from tests.support import isolated_functions as functions; fifo = Path({str(fifo)!r})\n{call}"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        with fifo.open() as file:
            pid = int(file.readline())
            yield parent, pid, fifo
            # Returns once the last process that holds the pipe is gone.
            reader = threading.Thread(target=file.read, daemon=True)
            reader.start()
            reader.join(30)
            assert not reader.is_alive(), "the child outlived its parent"
    finally:
        parent.kill()
        parent.communicate()


def gone(pid: int) -> bool:
    """Return whether the process has ended; a zombie counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("grandchild", [False, True])
def test_the_child_dies_with_a_parent_killed_by_sigkill(tmp_path: Path, grandchild: bool) -> None:
    call = f"run_isolated(functions.hold, fifo, {grandchild})"
    with parent_of_a_held_child(tmp_path, call) as (parent, pid, _):
        assert not gone(pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert gone(pid)


def test_an_interrupt_in_the_parent_ends_the_child_quietly(tmp_path: Path) -> None:
    call = "try: run_isolated(functions.hold, fifo)\nexcept KeyboardInterrupt: sys.exit(7)"
    with parent_of_a_held_child(tmp_path, call) as (parent, pid, _):
        os.killpg(parent.pid, signal.SIGINT)
        _, errors = parent.communicate(timeout=30)
    assert parent.returncode == 7
    assert errors == b""
    assert gone(pid)


def test_a_time_out_ends_the_grandchildren_too(tmp_path: Path) -> None:
    call = "try: run_isolated(functions.hold, fifo, True, timeout_s=1)\nexcept Exception: pass"
    with parent_of_a_held_child(tmp_path, call) as (_, pid, _):
        pass
    assert gone(pid)


def test_the_main_script_is_not_run_again_in_the_child(tmp_path: Path) -> None:
    """A user's script needs no `if __name__ == "__main__"` guard."""
    script = tmp_path / "script.py"
    script.write_text(
        "print('script runs')\nimport harness.common.processes\nharness.common.processes.PRELOAD = ()\n"
        "from harness.common.processes import run_isolated\n"
        "from tests.support import isolated_functions\nprint(run_isolated(isolated_functions.add, 1))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("script runs\n2\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_parent_sleeps_while_the_child_runs() -> None:
    before = time.process_time()
    run_isolated(functions.sleep, 1.0)
    assert time.process_time() - before < 0.5
