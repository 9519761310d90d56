"""Imports that wait: a module that is imported in `with lazy_imports():` is loaded when it is first used.

    with lazy_imports():
        import torch

        from harness.models import surgery

So every import stands at the top of its file, and `skyline methods` reads 51 adapters without loading torch. Import
modules in such a block, not names: what `from torch import nn` binds is looked for as a module of its own. A package's
`__init__` does not import its own modules so: others would then import what stands for them.

The standard library's `importlib.util.LazyLoader` is not used: it puts unloaded modules into `sys.modules`, and whoever
walks through that (`inspect.getmodule`, which torch calls) loads all of them, in the middle of loading another.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


class _Waiting(ModuleType):
    """Stands for a module that is not loaded yet, in the namespace of the file that imports it, and nowhere else."""

    def __init__(self, name: str, namespace: dict[str, Any]) -> None:
        super().__init__(name)
        vars(self).update(_namespace=namespace, _submodules=[])

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_") and self.__name__ not in sys.modules:
            # Tools that look at a file's names (pytest does) ask for private attributes; no user of a module does.
            raise AttributeError(attribute)
        return getattr(self._load(), attribute)

    def __setattr__(self, attribute: str, value: Any) -> None:
        setattr(self._load(), attribute, value)

    def _load(self) -> ModuleType:
        module = import_module(self.__name__)
        for submodule in self._submodules:
            import_module(submodule)
        # From now on the file has the module itself.
        for name, value in list(self._namespace.items()):
            if value is self:
                self._namespace[name] = module
        return module


@contextmanager
def lazy_imports() -> Iterator[None]:
    """Have the modules that the calling file imports within the block load when they are first used.

    For the top of a file alone. What cannot be imported raises ImportError on first use.
    """
    namespace = sys._getframe(2).f_globals  # 0: this generator, 1: contextlib, 2: the file
    eager = builtins.__import__

    def lazy(
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - the name that Python gives it
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if globals is not namespace or level:
            return eager(name, globals, locals, fromlist or (), level)
        if fromlist:
            package = ModuleType(name)
            for module in fromlist:
                setattr(package, module, _Waiting(f"{name}.{module}", namespace))
            return package
        top, _, rest = name.partition(".")
        known = namespace.get(top)
        waiting = known if isinstance(known, _Waiting) else _Waiting(top, namespace)
        if rest:
            waiting._submodules.append(name)
        return waiting

    builtins.__import__ = lazy
    try:
        yield
    finally:
        builtins.__import__ = eager
