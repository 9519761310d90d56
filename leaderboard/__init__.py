"""Skyline's leaderboard: boards over records and published tables, their statistics, tables and page.

Names are imported on first use, so that `import leaderboard` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.record_checks import check_records as check_records
    from leaderboard.architecture import architecture_board as architecture_board
    from leaderboard.board import Board as Board
    from leaderboard.board import Row as Row
    from leaderboard.breakdown import breakdown_of as breakdown_of
    from leaderboard.breakdown import breakdown_table as breakdown_table
    from leaderboard.breakdown_chart import write_chart as write_chart
    from leaderboard.claims import installed_cards as installed_cards
    from leaderboard.claims_ledger import claims_table as claims_table
    from leaderboard.claims_ledger import measured_claims as measured_claims
    from leaderboard.curves import curves_table as curves_table
    from leaderboard.findings import findings_table as findings_table
    from leaderboard.ledger import read_ledger as read_ledger
    from leaderboard.ledger import tally as tally
    from leaderboard.measured import measured_board as measured_board
    from leaderboard.page import render_page as render_page
    from leaderboard.page import write_page as write_page
    from leaderboard.published_boards import published_board as published_board
    from leaderboard.realisation import realisation_table as realisation_table
    from leaderboard.reproduction import is_usual as is_usual
    from leaderboard.reproduction import repeat_table as repeat_table
    from leaderboard.reproduction import reproduction_table as reproduction_table
    from leaderboard.survey_artifacts import sizes_table as sizes_table
    from leaderboard.tables import to_csv as to_csv
    from leaderboard.tables import to_json as to_json
    from leaderboard.tables import to_markdown as to_markdown
    from leaderboard.tables import update_readme as update_readme
    from leaderboard.terminal import print_board as print_board
    from leaderboard.workload_grid import grid_table as grid_table

_HOME = {
    "Board": "leaderboard.board",
    "Row": "leaderboard.board",
    "architecture_board": "leaderboard.architecture",
    "breakdown_of": "leaderboard.breakdown",
    "breakdown_table": "leaderboard.breakdown",
    "check_records": "harness.record_checks",
    "claims_table": "leaderboard.claims_ledger",
    "curves_table": "leaderboard.curves",
    "findings_table": "leaderboard.findings",
    "grid_table": "leaderboard.workload_grid",
    "installed_cards": "leaderboard.claims",
    "is_usual": "leaderboard.reproduction",
    "measured_board": "leaderboard.measured",
    "measured_claims": "leaderboard.claims_ledger",
    "print_board": "leaderboard.terminal",
    "published_board": "leaderboard.published_boards",
    "read_ledger": "leaderboard.ledger",
    "realisation_table": "leaderboard.realisation",
    "render_page": "leaderboard.page",
    "repeat_table": "leaderboard.reproduction",
    "reproduction_table": "leaderboard.reproduction",
    "sizes_table": "leaderboard.survey_artifacts",
    "tally": "leaderboard.ledger",
    "to_csv": "leaderboard.tables",
    "to_json": "leaderboard.tables",
    "to_markdown": "leaderboard.tables",
    "update_readme": "leaderboard.tables",
    "write_chart": "leaderboard.breakdown_chart",
    "write_page": "leaderboard.page",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'leaderboard' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
