"""Lazy imports: when a module loads, and how its placeholder behaves before and after."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def run(tmp_path: Path):
    """Run code next to a package `shop` whose two modules print when they load."""
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "__init__.py").write_text("")
    (shop / "bread.py").write_text("print('bread')\nprice = 3\n_private = 4\n")
    (shop / "milk.py").write_text("print('milk')\nprice = 2\n")

    def ran(code: str) -> list[str]:
        script = tmp_path / "script.py"
        script.write_text(f"from harness.common.lazy import lazy_imports\n{code}")
        environment = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
        done = subprocess.run(
            [sys.executable, "script.py"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()

    return ran


def test_a_module_loads_when_it_is_used(run) -> None:
    block = "with lazy_imports():\n    from shop import bread, milk as drink\n    import shop.milk\n"
    assert run(block) == []
    assert run(f"{block}print('used', bread.price)") == ["bread", "used", "3"]
    assert run(f"{block}print('used', drink.price, shop.milk.price)") == ["milk", "used", "2", "2"]


def test_afterwards_the_file_has_the_module_itself(run) -> None:
    block = "import sys\nwith lazy_imports():\n    from shop import bread\n"
    assert run(f"{block}bread.price\nprint(bread is sys.modules['shop.bread'])") == ["bread", "True"]


def test_what_is_set_on_it_is_set_on_the_module(run) -> None:
    code = "with lazy_imports():\n    from shop import bread\nkept = bread\nkept.price = 5\n"
    assert run(f"{code}import shop.bread\nprint(shop.bread.price, kept.price)") == ["bread", "5", "5"]


def test_who_asks_for_private_names_loads_nothing(run) -> None:
    code = "with lazy_imports():\n    from shop import bread\nprint(hasattr(bread, '_private'))\n"
    assert run(code) == ["False"]
    assert run(f"{code}bread.price\nprint(bread._private)") == ["False", "bread", "4"]


def test_outside_the_block_imports_are_as_ever(run) -> None:
    assert run("with lazy_imports():\n    import json\nfrom shop import bread\n") == ["bread"]


def test_what_is_not_there_is_an_error_on_first_use(run) -> None:
    code = "with lazy_imports():\n    from shop import cheese\n"
    assert run(code) == []
    assert run(f"{code}try:\n    cheese.price\nexcept ImportError:\n    print('no')") == ["no"]
