"""What `skyline new-method` does: write an adapter file to fill in, from the template."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from harness.common.errors import SkylineError, unknown_name
from harness.common.files import write_atomically
from harness.compression.card import FAMILIES
from harness.models.config import COMPONENTS
from harness.recipes.discovery import discover
from harness.records.schema import COSTS

TEMPLATE = Path(__file__).parent / "adapter_template.py.txt"
KEBAB = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write_adapter(identity: str, family: str, folder: Path) -> Path:
    """Write `folder`/family/id.py (dashes become underscores), and the family's __init__.py where there is none.

    The file imports and its hooks run; its card is left to fill in, its option to use. Raises SkylineError for an id
    that is not in kebab case or taken, an unknown family, and a folder that cannot be written to. Nothing is
    overwritten.
    """
    if not KEBAB.fullmatch(identity):
        raise SkylineError(f"the id '{identity}' is not in kebab case; write it as in 'my-pruning'")
    known = [name for name in FAMILIES if name != "baseline"]
    if family not in known:
        raise unknown_name("family", family, known)
    registry = discover()
    if identity in registry.methods or identity == "baseline":
        where = registry.methods[identity].source if identity in registry.methods else "the unchanged encoder"
        raise SkylineError(f"the id '{identity}' is taken by {where}; choose another")
    stem = identity.replace("-", "_")
    path = folder / family.replace("-", "_") / f"{stem}.py"
    taken = sorted(folder.glob(f"*/{stem}.py"))
    if taken:
        raise SkylineError(f"{taken[0]} exists already; choose another id or delete it")
    text = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        identity=identity,
        family=family,
        class_name="".join(part.capitalize() for part in identity.split("-")),
        components=", ".join(COMPONENTS),
        costs=", ".join(COSTS),
    )
    package = path.parent / "__init__.py"
    try:
        if not package.exists():
            write_atomically(package, f'"""The family {family}: one file a method."""\n')
        write_atomically(path, text)
    except OSError as error:
        raise SkylineError(f"cannot write {path} ({error.strerror}); choose another --folder") from None
    return path
