"""Lazy imports: a module that is imported inside `with lazy_imports():` loads when it is first used.

    with lazy_imports():
        import torch

        from harness.models import surgery

Imports can then stay at the top of each file, and `skyline methods` reads all adapters without loading torch. Import
modules in such a block, not functions or classes: `from torch import nn` looks for a module `torch.nn`. Do not import
a package's own modules this way in its `__init__`: other files would then import the placeholders.

We do not use `importlib.util.LazyLoader` of the standard library. It puts unloaded modules into `sys.modules`, and code
that walks through `sys.modules` (torch calls `inspect.getmodule`) loads all of them while another module is loading.
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
    """Placeholder for a module that is not loaded yet. Only the namespace of the importing file holds it."""

    def __init__(self, name: str, namespace: dict[str, Any]) -> None:
        super().__init__(name)
        vars(self).update(_namespace=namespace, _submodules=[])

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_") and self.__name__ not in sys.modules:
            # pytest and other tools ask every name of a file for private attributes; that must not load the module.
            raise AttributeError(attribute)
        return getattr(self._load(), attribute)

    def __setattr__(self, attribute: str, value: Any) -> None:
        setattr(self._load(), attribute, value)

    def _load(self) -> ModuleType:
        module = import_module(self.__name__)
        for submodule in self._submodules:
            import_module(submodule)
        # Replace the placeholder in the file by the loaded module.
        for name, value in list(self._namespace.items()):
            if value is self:
                self._namespace[name] = module
        return module


@contextmanager
def lazy_imports() -> Iterator[None]:
    """Make the modules that the calling file imports inside the block load on first use.

    Use it only at the top of a file. A module that cannot be imported raises ImportError on first use.
    """
    namespace = sys._getframe(2).f_globals  # 0: this generator, 1: contextlib, 2: the file
    eager = builtins.__import__

    def lazy(
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - the parameter name of `__import__`
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
