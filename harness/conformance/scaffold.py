"""The work of `skyline new-method`: write a new adapter file from the template."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from harness.common.errors import Code, SkylineError, unknown_name
from harness.common.files import write_atomically
from harness.compression.card import FAMILIES
from harness.models.config import COMPONENTS
from harness.recipes.discovery import discover
from harness.records.costs import COSTS

TEMPLATE = Path(__file__).parent / "adapter_template.py.txt"
KEBAB = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write_adapter(identity: str, family: str, folder: Path) -> Path:
    """Write `folder`/family/id.py (with underscores for dashes), and the family's __init__.py if it does not exist.

    The new file can be imported and its hooks run; the author must fill in the card and use the option. Nothing is
    overwritten. Raises SkylineError for an id that is not in kebab case (`out-of-range`) or is taken (`duplicate`), an
    unknown family (`unknown-name`), a file that exists (`exists`) and a folder that cannot be written (`not-writable`).
    """
    if not KEBAB.fullmatch(identity):
        raise SkylineError(
            f"the id '{identity}' is not in kebab case; write it as in 'my-pruning'", Code.OUT_OF_RANGE
        )
    known = [name for name in FAMILIES if name != "baseline"]
    if family not in known:
        raise unknown_name("family", family, known)
    registry = discover()
    if identity in registry.methods or identity == "baseline":
        where = registry.methods[identity].source if identity in registry.methods else "the unchanged encoder"
        raise SkylineError(f"the id '{identity}' is taken by {where}; choose another", Code.DUPLICATE)
    stem = identity.replace("-", "_")
    path = folder / family.replace("-", "_") / f"{stem}.py"
    taken = sorted(folder.glob(f"*/{stem}.py"))
    if taken:
        raise SkylineError(f"{taken[0]} exists already; choose another id or delete it", Code.EXISTS)
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
        raise SkylineError(
            f"cannot write {path} ({error.strerror}); choose another --folder", Code.NOT_WRITABLE
        ) from None
    return path
