"""All boards and tables that `skyline board` prints: what each shows, what it is made of, and how it is built.

The command's help, its refusals and the page are written from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from harness.common.errors import Code, SkylineError, unknown_name
from harness.common.lazy import lazy_imports

with lazy_imports():
    from leaderboard.boards import architecture, measured, published
    from leaderboard.findings import curves, trials
    from leaderboard.survey import artifacts, breakdown, claims_ledger, reproduction, roofline, workload_grid

if TYPE_CHECKING:
    from harness.records.schema import Record
    from leaderboard.boards.board import Board, BoardKind
    from leaderboard.boards.names import Cards
    from leaderboard.tables.model import Table

Need = Literal["records", "cards", "tables"]
Option = Literal["task", "model", "axis", "front"]
Made = TypeVar("Made", bound="Board | Table", covariant=True)


@dataclass(frozen=True)
class Sources:
    """What boards and tables are made of: records, the installed methods' cards, the folder of published tables."""

    records: Sequence[Record] = ()
    cards: Cards = field(default_factory=dict)
    tables: Path | None = None


@dataclass(frozen=True)
class Choice:
    """What a reader asked of a board: these tasks, this base model, the front of this axis, that front's rows alone."""

    task: Sequence[str] | None = None
    model: str | None = None
    axis: str | None = None
    front: bool = False


@dataclass(frozen=True)
class Entry(Generic[Made]):
    """A board (`name` is "" for a kind's own, else a published table's), or a table that goes with a kind of board.

    `needs` says which `Sources` it reads, `options` which fields of a `Choice` it takes: a table takes none.
    """

    kind: BoardKind
    name: str
    about: str
    needs: tuple[Need, ...]
    build: Callable[[Sources, Choice], Made]
    options: tuple[Option, ...] = ()

    def check(self, choice: Choice) -> None:
        """Raise SkylineError for a choice that this board or table does not have."""
        for option, value in vars(choice).items():
            if value and option not in self.options:
                what = f"board {self.kind} --table {self.name}" if self.name else f"board {self.kind}"
                raise SkylineError(f"--{option} is not for '{what}'; leave it out", Code.CONFLICT)


def _measured(made: Sources, choice: Choice) -> Board:
    axis = choice.axis or "disk"
    return measured.measured_board(made.records, choice.model, choice.task, cards=made.cards, axis=axis)


def _architecture(made: Sources, choice: Choice) -> Board:
    model, axis = choice.model or "bert-base", choice.axis or "disk"
    return architecture.architecture_board(made.records, model, cards=made.cards, axis=axis)


def _sizes(made: Sources, _: Choice) -> Table:
    return artifacts.sizes_table(made.records, made.tables, made.cards)


def _realised(made: Sources, _: Choice) -> Table:
    return roofline.realisation_table(made.records, cards=made.cards)


def _breakdown(made: Sources, _: Choice) -> Table:
    return breakdown.breakdown_table(breakdown.breakdown_of(made.records))


def _reproduction(made: Sources, _: Choice) -> Table:
    usual = [
        record for record in made.records if record.kind == "profile" and reproduction.Taken.of(record).usual
    ]
    return reproduction.reproduction_table(usual, made.tables)


def _grid(made: Sources, _: Choice) -> Table:
    return workload_grid.grid_table(made.records, made.tables)


def _claims(made: Sources, _: Choice) -> Table:
    return claims_ledger.claims_table(claims_ledger.measured_claims(made.records, made.tables))


def _findings(made: Sources, _: Choice) -> Table:
    return trials.findings_table(made.records)


def _curves(made: Sources, _: Choice) -> Table:
    return curves.curves_table(made.records, cards=made.cards)


RECORDS: tuple[Need, ...] = ("records",)
WITH_CARDS: tuple[Need, ...] = ("records", "cards")
WITH_TABLES: tuple[Need, ...] = ("records", "tables")

MEASURED = Entry("measured", "", "", WITH_CARDS, _measured, ("task", "model", "axis", "front"))
ARCHITECTURE = Entry("architecture", "", "", WITH_CARDS, _architecture, ("model", "axis", "front"))
PUBLISHED: tuple[Entry[Board], ...] = tuple(
    Entry("published", name, about, ("tables",), build, ("axis", "front"))
    for name, about, build in (
        ("ganesh2021", "default", lambda made, choice: published.survey_board(made.tables, choice.axis)),
        ("gordon2020", "", lambda made, choice: published.pruning_board(made.tables, choice.axis)),
        ("movva2022", "", lambda made, choice: published.sizes_board(made.tables, choice.axis)),
        ("movva2022-ratios", "", lambda made, choice: published.ratios_board(made.tables, choice.axis)),
        ("lilbobby", "", lambda made, choice: published.students_board(made.tables, choice.axis)),
    )
)
ENTRIES: Mapping[BoardKind, tuple[Entry[Board | Table], ...]] = {
    "published": PUBLISHED,
    "architecture": (
        ARCHITECTURE,
        Entry("architecture", "sizes", "beside the survey's", (*WITH_TABLES, "cards"), _sizes),
        Entry("architecture", "realised", "speedups over FLOPs", WITH_CARDS, _realised),
        Entry("architecture", "breakdown", "costs by component", RECORDS, _breakdown),
        Entry("architecture", "reproduction", "the survey's rows measured again", WITH_TABLES, _reproduction),
        Entry("architecture", "grid", "their speedups by workload", WITH_TABLES, _grid),
        Entry("architecture", "claims", "the ledger of their claims", WITH_TABLES, _claims),
    ),
    "measured": (
        MEASURED,
        Entry("measured", "findings", "the papers' findings, tried", RECORDS, _findings),
        Entry("measured", "curves", "accuracy against speed", WITH_CARDS, _curves),
    ),
}
"""By kind of board; the first is what is shown where no table is named."""


def find(kind: str, table: str | None) -> Entry[Board | Table]:
    """A kind's board, or its table of that name. Raises SkylineError with the nearest for an unknown one."""
    known = {str(name): entries for name, entries in ENTRIES.items()}
    if kind not in known:
        raise unknown_name("board", kind, known)
    if table is None:
        return known[kind][0]
    named = {entry.name: entry for entry in known[kind] if entry.name}
    if table not in named:
        raise unknown_name(f"table of the {kind} board", table, named)
    return named[table]


def tables_in_words() -> str:
    """All tables by kind of board, as the command's help names them."""
    return "; ".join(
        f"of {kind}: "
        + ", ".join(
            f"{entry.name} ({entry.about})" if entry.about else entry.name for entry in entries if entry.name
        )
        for kind, entries in ENTRIES.items()
    )
