"""A chart as an SVG element of the page, and as a file: SVG or PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.common.errors import Code, SkylineError
from harness.common.files import write_atomically
from harness.common.lazy import lazy_imports

with lazy_imports():
    import vl_convert

FORMATS = (".svg", ".png")
PAPER, INK = "#FFFFFF", "#1F2328"
DARK_PAPER, DARK_INK = "#0D1117", "#E6EDF3"
SCHEMES = (
    f"<style>svg{{color:{INK}}}@media (prefers-color-scheme:dark)"
    f"{{svg{{color:{DARK_INK}}}svg>rect{{fill:{DARK_PAPER}}}}}</style>"
)
"""Charts draw text and lines in `currentColor`; the SVG's only direct `rect` is its background."""
PNG_SCALE = 2


def picture(specification: dict[str, Any]) -> str:
    """Render a Vega-Lite specification as an SVG element, which a page can hold and which needs no script."""
    text: str = vl_convert.vegalite_to_svg(specification)
    return text.replace("<svg ", '<svg focusable="false" ', 1)


def write_chart(specification: dict[str, Any], path: Path) -> None:
    """Write a Vega-Lite specification as SVG or PNG, by the file's ending, whole or not at all.

    An SVG follows the reader's light or dark colour scheme; a PNG is light. Raises SkylineError (out-of-range) for
    another ending.
    """
    check_format(path)
    framed = {**specification, "background": PAPER, "padding": 12}
    if path.suffix == ".svg":
        write_atomically(path, vl_convert.vegalite_to_svg(framed).replace(">", f">{SCHEMES}", 1))
    else:
        write_atomically(path, vl_convert.vegalite_to_png(framed, scale=PNG_SCALE))


def check_format(path: Path) -> None:
    """Raise SkylineError (out-of-range) unless the file's ending is one of `FORMATS`."""
    if path.suffix not in FORMATS:
        raise SkylineError(
            f"a chart cannot be written as '{path.name}'; use a name that ends in {' or '.join(FORMATS)}",
            Code.OUT_OF_RANGE,
        )
