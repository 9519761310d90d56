"""Find methods: one file per method under `methods/`, the entry-point group `skyline.methods`, and the adapter files
that the environment variable SKYLINE_METHODS names.

A broken file, a duplicate id, or an id that differs from its file's name is reported with the file's name. All other
methods can still be used.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from harness.common.errors import Code, SkylineError, unknown_name
from harness.compression.card import Card
from harness.compression.method import Method
from harness.recipes import former_names

GROUP = "skyline.methods"
FILES = "SKYLINE_METHODS"
"""The environment variable that names adapter files outside the package `methods`, separated as in PATH."""


@dataclass(frozen=True)
class Found:
    """A method, a description of the place where it was found, and its file."""

    method: type[Method]
    source: str
    path: Path | None


@dataclass(frozen=True)
class Registry:
    """All methods by id, and the reasons why others could not be loaded, by the place where they were found."""

    methods: Mapping[str, Found]
    problems: Mapping[str, str]

    def get(self, name: str) -> type[Method]:
        """Return the method with this id. Raises SkylineError for an unknown id (`unknown-name`), and for a method that
        could not be loaded (`unreadable`).
        """
        if name in self.methods:
            return self.methods[name].method
        for source, problem in self.problems.items():
            if source.startswith(f"entry point {name} =") or Path(source).stem == name.replace("-", "_"):
                raise SkylineError(f"method '{name}' cannot be used: {source}: {problem}", Code.UNREADABLE)
        raise unknown_name("method", name, [*self.methods, "baseline"])


def file_id(stem: str) -> str:
    """Return the id that the method in a file must have: the file's stem with dashes for underscores."""
    return stem.replace("_", "-")


def methods_of(module: ModuleType) -> list[type[Method]]:
    """Return the method classes that a module defines (not those that it imports)."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Method)
        and value.__module__ == module.__name__
        and "card" in vars(value)
    ]


def load_file(path: Path, name: str) -> ModuleType:
    """Import an adapter file under the module name `name`. Raises SkylineError if it is not a Python file
    (`wrong-kind`) or cannot be imported (`unreadable`).
    """
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SkylineError(f"{path} is not a Python file; name an adapter's .py file", Code.WRONG_KIND)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise SkylineError(f"{path}: {in_words(error)}; mend the file", Code.UNREADABLE) from None
    return module


def in_words(error: BaseException) -> str:
    """Return an exception as one line: its type, its message, and the new name if an old name caused it."""
    said = ": ".join(part for part in (type(error).__name__, " ".join(str(error).split())) if part)
    return "; ".join(part for part in (said, former_names.instead(error)) if part)


def single_method(module: ModuleType, stem: str) -> type[Method]:
    """Return the one method of an adapter file. Raises SkylineError if the file defines none or several (`wrong-kind`),
    if its id is not the file's name (`conflict`), or if the class lacks a card or Options or has an old attribute.
    """
    found = methods_of(module)
    if len(found) != 1:
        raise SkylineError(
            f"defines {len(found)} methods; an adapter file defines exactly one class with a card",
            Code.WRONG_KIND,
        )
    _check_declared(found[0])
    if found[0].card.id != file_id(stem):
        raise SkylineError(
            f"has the id '{found[0].card.id}'; by its file's name it must be '{file_id(stem)}'",
            Code.CONFLICT,
        )
    return found[0]


def _check_declared(method: type[Method]) -> None:
    """Raise SkylineError if a class has no card (`wrong-kind`) or Options (`incomplete`), or an attribute that was
    renamed (`unknown-name`).
    """
    if not isinstance(method.card, Card):
        raise SkylineError(f"{method.__name__}.card is not a harness.Card; make it one", Code.WRONG_KIND)
    if not is_dataclass(getattr(method, "Options", None)):
        raise SkylineError(
            f"{method.__name__} has no Options; add a class Options decorated with @options", Code.INCOMPLETE
        )
    for old, new in former_names.ATTRIBUTES.items():
        if hasattr(method, old):
            raise SkylineError(
                f"'{old}' is called '{new}' now; rename it in {method.__name__}", Code.UNKNOWN_NAME
            )


def adapter_files() -> list[tuple[str, Path]]:
    """Return (module name, path) of each adapter file in the package `methods`, sorted."""
    package = importlib.import_module("methods")
    roots = [Path(entry) for entry in package.__path__]
    files = [path for root in roots for path in root.glob("*/*.py") if not path.stem.startswith("_")]
    return sorted((f"methods.{path.parent.name}.{path.stem}", path) for path in files)


def collect(
    files: Iterable[tuple[str, Path]], plugins: Iterable[EntryPoint], named: Iterable[Path] = ()
) -> Registry:
    """Load adapter files, then entry points, then those of the `named` files that are not loaded yet. A method that
    fails to load becomes a problem of the registry.
    """
    methods: dict[str, Found] = {}
    problems: dict[str, str] = {}

    def add(source: str, path: Path | None, method: type[Method]) -> None:
        identity = method.card.id
        if identity in methods:
            problems[source] = (
                f"id '{identity}' is taken by {methods[identity].source}; rename one of the two"
            )
        else:
            methods[identity] = Found(method, source, path)

    for name, path in files:
        source = "/".join(path.parts[-3:])
        try:
            add(source, path, single_method(importlib.import_module(name), path.stem))
        except SkylineError as error:
            problems[source] = str(error)
        except (Exception, SystemExit) as error:
            problems[source] = f"{in_words(error)}; mend the file"
    for plugin in plugins:
        source = f"entry point {plugin.name} = {plugin.value}"
        try:
            method = plugin.load()
            if not (isinstance(method, type) and issubclass(method, Method) and "card" in vars(method)):
                raise SkylineError("does not name a Method class with a card", Code.WRONG_KIND)
            _check_declared(method)
            if method.card.id != plugin.name:
                raise SkylineError(f"has the id '{method.card.id}'; name the entry point so", Code.CONFLICT)
            module_file = getattr(sys.modules[method.__module__], "__file__", None)
            add(source, Path(module_file) if module_file else None, method)
        except SkylineError as error:
            problems[source] = str(error)
        except (Exception, SystemExit) as error:
            problems[source] = f"{in_words(error)}; mend or uninstall it"
    known = {found.path.resolve() for found in methods.values() if found.path is not None}
    for path in named:
        if path.resolve() in known:
            continue
        try:
            add(str(path), path, single_method(load_file(path, adapter_module(path)), path.stem))
        except SkylineError as error:
            problems[str(path)] = str(error).removeprefix(f"{path}: ")
    return Registry(dict(sorted(methods.items())), problems)


def adapter_module(path: Path) -> str:
    """Return the module name for an adapter file outside the package `methods`."""
    return f"skyline_adapter_{path.stem}"


def discover() -> Registry:
    """Return every installed method, and those in the files that SKYLINE_METHODS names. All processes of a run inherit
    this variable. The result is cached in the process: files and entry points do not change during a run.
    """
    return _discover(os.environ.get(FILES, ""))


@cache
def _discover(named: str) -> Registry:
    paths = [Path(each).absolute() for each in named.split(os.pathsep) if each]
    return collect(adapter_files(), entry_points(group=GROUP), paths)
