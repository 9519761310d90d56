"""Skyline's leaderboard: boards over records and published tables, their statistics, tables and page.

Names are imported on first use, so that `import leaderboard` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.records.checks import check_records as check_records
    from leaderboard.boards.architecture import architecture_board as architecture_board
    from leaderboard.boards.board import Board as Board
    from leaderboard.boards.board import Row as Row
    from leaderboard.boards.claims import installed_cards as installed_cards
    from leaderboard.boards.measured import measured_board as measured_board
    from leaderboard.boards.published import published_board as published_board
    from leaderboard.findings.curves import curves_table as curves_table
    from leaderboard.findings.findings import findings_table as findings_table
    from leaderboard.site.page import render_page as render_page
    from leaderboard.site.page import write_page as write_page
    from leaderboard.survey.artifacts import sizes_table as sizes_table
    from leaderboard.survey.breakdown import breakdown_of as breakdown_of
    from leaderboard.survey.breakdown import breakdown_table as breakdown_table
    from leaderboard.survey.breakdown_chart import write_chart as write_chart
    from leaderboard.survey.claims_ledger import claims_table as claims_table
    from leaderboard.survey.claims_ledger import measured_claims as measured_claims
    from leaderboard.survey.published_ledger import read_ledger as read_ledger
    from leaderboard.survey.published_ledger import tally as tally
    from leaderboard.survey.reproduction import is_usual as is_usual
    from leaderboard.survey.reproduction import repeat_table as repeat_table
    from leaderboard.survey.reproduction import reproduction_table as reproduction_table
    from leaderboard.survey.roofline import realisation_table as realisation_table
    from leaderboard.survey.workload_grid import grid_table as grid_table
    from leaderboard.tables.boards import to_csv as to_csv
    from leaderboard.tables.boards import to_json as to_json
    from leaderboard.tables.boards import to_markdown as to_markdown
    from leaderboard.tables.boards import update_readme as update_readme
    from leaderboard.tables.terminal import print_board as print_board

_HOME = {
    "Board": "leaderboard.boards.board",
    "Row": "leaderboard.boards.board",
    "architecture_board": "leaderboard.boards.architecture",
    "breakdown_of": "leaderboard.survey.breakdown",
    "breakdown_table": "leaderboard.survey.breakdown",
    "check_records": "harness.records.checks",
    "claims_table": "leaderboard.survey.claims_ledger",
    "curves_table": "leaderboard.findings.curves",
    "findings_table": "leaderboard.findings.findings",
    "grid_table": "leaderboard.survey.workload_grid",
    "installed_cards": "leaderboard.boards.claims",
    "is_usual": "leaderboard.survey.reproduction",
    "measured_board": "leaderboard.boards.measured",
    "measured_claims": "leaderboard.survey.claims_ledger",
    "print_board": "leaderboard.tables.terminal",
    "published_board": "leaderboard.boards.published",
    "read_ledger": "leaderboard.survey.published_ledger",
    "realisation_table": "leaderboard.survey.roofline",
    "render_page": "leaderboard.site.page",
    "repeat_table": "leaderboard.survey.reproduction",
    "reproduction_table": "leaderboard.survey.reproduction",
    "sizes_table": "leaderboard.survey.artifacts",
    "tally": "leaderboard.survey.published_ledger",
    "to_csv": "leaderboard.tables.boards",
    "to_json": "leaderboard.tables.boards",
    "to_markdown": "leaderboard.tables.boards",
    "update_readme": "leaderboard.tables.boards",
    "write_chart": "leaderboard.survey.breakdown_chart",
    "write_page": "leaderboard.site.page",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'leaderboard' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
