"""An adapter outside the package, as a file."""

from __future__ import annotations

from pathlib import Path

METHOD = '''
"""Cuts nothing."""

from harness import Card, Method, Paper, options


class LeaveAlone(Method):
    card = Card(
        id="leave-alone",
        title="Leave alone",
        family="quantization",
        paper=Paper("A title", "Somebody", 2019, "A venue", "https://example.org"),
        scope="task-specific",
        fidelity="variant",
        deviations="Everything.",
        touches=("ffn",),
        reduces=(),
    )
    trains = False

    @options
    class Options:
        """`strength`: of nothing."""

        strength: float = 0.5
'''


def written(folder: Path, text: str = METHOD, name: str = "leave_alone.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path
