"""Our `evaluate` modules, loaded by path: no network, and no harm from a copy that a kill tore."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import filelock

from harness.common.errors import SkylineError
from harness.common.lazy import lazy_imports

with lazy_imports():
    import evaluate


_MODULES = Path(__file__).resolve().parent / "evaluate_modules"


def load(name: str) -> Any:
    """One of our `evaluate` modules, ready for `compute`; no network is asked.

    `evaluate` copies the module into its cache, which HF_HOME moves. Raises `SkylineError` where that cache
    cannot be written.
    """
    source = _MODULES / name / f"{name}.py"
    for last in (False, True):
        try:
            module = evaluate.load(str(source), keep_in_memory=True)
            if Path(inspect.getfile(type(module))).read_bytes() == source.read_bytes():
                return module
        except OSError as error:
            raise SkylineError(
                f"the cache of `evaluate` cannot be used ({error}); set HF_HOME to a writable folder"
            ) from None
        except Exception:
            if last:
                raise
        _drop_torn_copies(name, source)
    raise SkylineError(f"the copy of metric '{name}' in the cache of `evaluate` differs; empty that cache")


def _drop_torn_copies(name: str, source: Path) -> None:
    """Remove what a process that was killed while `evaluate` copied a module has left in its cache.

    `evaluate` never looks at a copy again; a torn one, which is a beginning of our file, would stay for ever.
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
