"""An adapter that uses a name of before is refused with one line that says the new one."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness.common.errors import Code
from harness.compression.context import Context
from harness.compression.method import Method
from harness.recipes.discovery import in_words, load_file, single_method
from harness.recipes.former_names import ATTRIBUTES, MODULES, NAMES, OF_CONTEXT
from tests.support.adapter_files import METHOD, written
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import context


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        (
            "from harness.training import (\n    Context,\n    train_round,\n)",
            "import Context from harness.compression.context and "
            "import train_round from harness.compression.training",
        ),
        ("from harness import surgery", "import harness.models.surgery"),
        ("import harness.surgery", "import harness.models.surgery"),
        ("from harness.records import Record", "import Record from harness.records.schema"),
        ("from harness.codecs.pipeline import Codec", "import Codec from harness.models.codecs.pipeline"),
    ],
)
def test_an_old_import(line: str, instead: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"import os\n{line}\n{METHOD}")
    with refused(Code.UNREADABLE, f"; {instead};"):
        load_file(path, "of_before")


@pytest.mark.parametrize("line", ["from harness.models.surgery import nothing", "import no_such_package"])
def test_what_was_never_there_has_no_new_name(line: str, tmp_path: Path) -> None:
    with refused(Code.UNREADABLE) as caught:
        load_file(written(tmp_path, line), "of_before")
    assert "; import" not in str(caught.value)


@pytest.mark.parametrize("old", ATTRIBUTES)
def test_an_old_attribute(old: str, tmp_path: Path) -> None:
    path = written(tmp_path, METHOD.replace("    trains = False\n", f"    {old} = False\n"))
    with refused(Code.UNKNOWN_NAME, f"'{old}'", f"'{ATTRIBUTES[old]}'"):
        single_method(load_file(path, "of_before"), path.stem)


def test_an_old_attribute_of_the_context() -> None:
    with pytest.raises(AttributeError) as caught:
        context().trains  # type: ignore[attr-defined]  # noqa: B018
    assert in_words(caught.value).endswith(OF_CONTEXT["trains"])


def test_the_new_names_are_there() -> None:
    for module in {*MODULES.values(), *(new for _, new in NAMES)}:
        assert find_spec(module) is not None, module
    for (_, module), names in NAMES.items():
        assert [name for name in names.split() if not hasattr(import_module(module), name)] == []
    assert all(hasattr(Method, new) and not hasattr(Method, old) for old, new in ATTRIBUTES.items())
    assert not set(OF_CONTEXT) & set(Context.__dataclass_fields__)
