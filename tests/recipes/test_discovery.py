"""Discovery: one bad file, entry point or id is named, and hides no other method."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from harness.common.errors import Code
from harness.recipes.discovery import (
    GROUP,
    Registry,
    adapter_files,
    collect,
    discover,
    load_file,
    single_method,
)
from tests.support.one_line_errors import refused

ADAPTER = '''
from harness import Card, Method, Paper, options


class {name}(Method):
    card = Card(
        id="{id}", title="T", family="quantization", paper=Paper("T", "A", 2019, "V", "L"), scope="task-specific",
        fidelity="faithful", deviations="", touches=("ffn",), reduces=(),
    )

    @options
    class Options:
        """None."""
'''

Put = Callable[..., tuple[str, Path]]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Write an adapter into a package of this test alone, and say its module's name and path."""
    package = f"found_{tmp_path.name.replace('-', '_')}"
    monkeypatch.syspath_prepend(tmp_path)

    def write(stem: str, text: str | None = None, family: str = "quantization") -> tuple[str, Path]:
        path = tmp_path / package / family / f"{stem}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in (path.parent, path.parent.parent):
            (folder / "__init__.py").touch()
        path.write_text(ADAPTER.format(name="M", id=stem.replace("_", "-")) if text is None else text)
        return f"{package}.{family}.{stem}", path

    return write


def problem(registry: Registry, part: str) -> str:
    [words] = [words for source, words in registry.problems.items() if part in source]
    assert "\n" not in words
    return words


def test_the_methods_of_this_distribution() -> None:
    registry = discover()
    assert not registry.problems
    assert len(registry.methods) >= 4
    for identity, found in registry.methods.items():
        assert found.method.card.id == identity
        assert found.path is not None
        assert found.path.stem.replace("_", "-") == identity
        assert found.source == "/".join(found.path.parts[-3:])
    assert [name for name, _ in adapter_files()] == sorted(name for name, _ in adapter_files())


BROKEN = {
    "a syntax error": ("def :", "SyntaxError"),
    "a missing package": ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
    "an exception of two lines": ("raise ValueError('one\\ntwo')", "ValueError: one two; mend the file"),
    "an exit": ("raise SystemExit(3)", "SystemExit: 3; mend the file"),
    "no method": ("", "defines 0 methods; an adapter file defines exactly one class with a card"),
    "two methods": (
        ADAPTER.format(name="A", id="broken") + ADAPTER.format(name="B", id="b"),
        "defines 2 methods",
    ),
    "another id": (
        ADAPTER.format(name="A", id="brken"),
        "has the id 'brken'; by its file's name it must be 'broken'",
    ),
    "a card that is none": (
        "from harness import Method\nclass M(Method):\n    card = {'id': 'broken'}",
        "M.card is not a harness.Card",
    ),
    "no options": (
        ADAPTER.format(name="M", id="broken").partition("    @options")[0],
        "M has no Options; add a class Options decorated with @options",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_file_is_named_and_hides_no_other(fault: str, put: Put) -> None:
    text, words = BROKEN[fault]
    registry = collect([put("first"), put("broken", text), put("second")], [])
    assert list(registry.methods) == ["first", "second"]
    assert words in problem(registry, "quantization/broken.py")
    with refused(Code.UNREADABLE, "'broken'", "quantization/broken.py"):
        registry.get("broken")
    assert registry.get("second").card.id == "second"


def test_a_duplicate_id(put: Put) -> None:
    one, other = put("same"), put("same", family="early_exit")
    registry = collect([one, put("else_one"), other], [])
    assert registry.methods["same"].path == one[1]
    assert "else-one" in registry.methods
    words = problem(registry, "early_exit/same.py")
    assert words.startswith("id 'same' is taken by ")
    assert words.endswith("quantization/same.py; rename one of the two")


def test_unknown_names_suggest_the_nearest(put: Put) -> None:
    registry = collect([put("magnitude_x"), put("other")], [])
    with refused(Code.UNKNOWN_NAME, "'magnitde-x'", "'magnitude-x'"):
        registry.get("magnitde-x")


def plugin(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, GROUP)


def test_entry_points(put: Put) -> None:
    module, path = put("plugged_in")
    named, _ = put("named_otherwise")
    registry = collect(
        [put("own")],
        [
            plugin("plugged-in", f"{module}:M"),
            plugin("gone", "no_such_package.module:M"),
            plugin("nothing", f"{module}:Missing"),
            plugin("no-class", f"{module}:options"),
            plugin("base", "harness.compression.method:Method"),
            plugin("other-name", f"{named}:M"),
            plugin("last", f"{put('last')[0]}:M"),
        ],
    )
    assert list(registry.methods) == ["last", "own", "plugged-in"]
    found = registry.methods["plugged-in"]
    assert (found.path, found.source) == (path, f"entry point plugged-in = {module}:M")
    assert "ModuleNotFoundError: No module named 'no_such_package'" in problem(registry, "entry point gone")
    assert "AttributeError" in problem(registry, "entry point nothing")
    assert problem(registry, "entry point no-class") == "does not name a Method class with a card"
    assert problem(registry, "entry point base") == "does not name a Method class with a card"
    assert (
        problem(registry, "entry point other-name") == "has the id 'named-otherwise'; name the entry point so"
    )
    with refused(Code.UNREADABLE, "'gone'", "entry point gone = ", "no_such_package"):
        registry.get("gone")


def test_an_entry_point_with_the_id_of_a_file(put: Put) -> None:
    module, path = put("same")
    registry = collect([(module, path)], [plugin("same", f"{module}:M")])
    assert registry.methods["same"].source.endswith("same.py")
    assert "is taken by" in problem(registry, "entry point same")


def test_load_file_leaves_no_half_loaded_module(tmp_path: Path) -> None:
    path = tmp_path / "half.py"
    path.write_text("x = 1\nraise KeyError('later')\n")
    with refused(Code.UNREADABLE, "half.py", "KeyError: 'later'"):
        load_file(path, "half_loaded")
    assert "half_loaded" not in sys.modules
    path.write_text(ADAPTER.format(name="M", id="half"))
    assert single_method(load_file(path, "half_loaded"), "half").card.id == "half"


def test_listing_the_methods_does_not_import_torch() -> None:
    code = "import sys; from harness.recipes.discovery import discover; discover(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "methods.distillation.kd_logits" in imported
    assert not imported & {"torch", "transformers", "datasets", "evaluate", "pandas", "scipy"}
