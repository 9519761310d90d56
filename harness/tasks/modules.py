"""Load our `evaluate` modules by path, without a network, and repair copies that a killed process left incomplete."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import filelock

from harness.common.errors import Code, SkylineError
from harness.common.lazy import lazy_imports

with lazy_imports():
    import evaluate


_MODULES = Path(__file__).resolve().parent / "evaluate_modules"


def load(name: str) -> Any:
    """Load one of our `evaluate` modules, ready for `compute`, without a network.

    `evaluate` copies the module into its cache below HF_HOME. Raises SkylineError: `not-writable` if it cannot use the
    cache, `damaged` if the copy there differs from our file.
    """
    source = _MODULES / name / f"{name}.py"
    for last in (False, True):
        try:
            module = evaluate.load(str(source), keep_in_memory=True)
            if Path(inspect.getfile(type(module))).read_bytes() == source.read_bytes():
                return module
        except OSError as error:
            raise SkylineError(
                f"the cache of `evaluate` cannot be used ({error}); set HF_HOME to a writable folder",
                Code.NOT_WRITABLE,
            ) from None
        except Exception:
            if last:
                raise
        _remove_incomplete_copies(name, source)
    raise SkylineError(
        f"the copy of metric '{name}' in the cache of `evaluate` differs from ours; empty that cache",
        Code.DAMAGED,
    )


def _remove_incomplete_copies(name: str, source: Path) -> None:
    """Remove incomplete copies of a module, left by a process that was killed while `evaluate` copied it.

    `evaluate` never checks a copy again. An incomplete copy holds only the first part of our file.
    """
    whole = source.read_bytes()
    folder = Path(evaluate.config.HF_MODULES_CACHE) / "evaluate_modules" / "metrics" / name
    with filelock.FileLock(f"{folder}.lock"):
        for copy in folder.glob(f"*/{name}.py"):
            content = copy.read_bytes()
            if whole.startswith(content) and content != whole:
                copy.unlink()
                suffix = f".{copy.parent.name}.{name}"
                for loaded in [key for key in sys.modules if key.endswith(suffix)]:
                    del sys.modules[loaded]
    importlib.invalidate_caches()
