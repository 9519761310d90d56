"""The order of packages: each imports only what stands below it, and no modules import each other in a circle.

Imports inside functions and for types alone are counted.
"""

from __future__ import annotations

from graphlib import TopologicalSorter

import grimp
import pytest

PACKAGES = (
    "common",
    "tasks",
    "records",
    "models",
    "runtimes",
    "compression",
    "profiling",
    "recipes",
    "runs",
    "conformance",
    "pytest_plugin",
    "cli",
)
"""Of `harness`, from the ground up."""
FLAT = {"harness.__main__", "harness.version"}
"""The only modules that stand in `harness` itself."""
OF_THE_BOARDS = {"harness.cli", "harness.conformance"}
"""The only packages of `harness` that may import `leaderboard`."""


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("harness", "leaderboard", "methods", cache_dir=None)


def imports(graph: grimp.ImportGraph) -> dict[str, set[str]]:
    return {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def package_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def test_nothing_is_flat_but_the_face_and_the_version(graph: grimp.ImportGraph) -> None:
    own = {module for module in graph.modules if module.count(".") == 1 and module.startswith("harness.")}
    assert own == FLAT | {f"harness.{name}" for name in PACKAGES}


def test_packages_import_only_what_stands_below_them(graph: grimp.ImportGraph) -> None:
    rank = {f"harness.{name}": place for place, name in enumerate(PACKAGES)}
    upward = {
        (module, imported)
        for module, found in imports(graph).items()
        for imported in found
        if rank.get(package_of(imported), -1) > rank.get(package_of(module), len(PACKAGES))
    }
    assert upward == set()


def test_no_modules_import_each_other_in_a_circle(graph: grimp.ImportGraph) -> None:
    TopologicalSorter(imports(graph)).prepare()  # raises CycleError, which names the circle


def test_nothing_inside_imports_the_face(graph: grimp.ImportGraph) -> None:
    inside = graph.find_modules_that_directly_import("harness")
    assert {module for module in inside if module.startswith("harness.")} == set()


def test_only_the_command_and_conformance_know_the_boards(graph: grimp.ImportGraph) -> None:
    knowing = {
        package_of(module)
        for module, found in imports(graph).items()
        if module.startswith("harness.") and any(each.split(".")[0] == "leaderboard" for each in found)
    }
    assert knowing <= OF_THE_BOARDS


def test_methods_stand_on_compression_and_import_no_other_method(graph: grimp.ImportGraph) -> None:
    below = {f"harness.{name}" for name in PACKAGES[: PACKAGES.index("compression") + 1]} | {"harness"}
    for module, found in imports(graph).items():
        if not module.startswith("methods."):
            continue
        for imported in found:
            own_helper = imported.startswith("methods.") and imported.split(".")[-1].startswith("_")
            assert own_helper or package_of(imported) in below, (module, imported)
