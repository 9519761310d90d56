"""The registry of all boards and tables that `skyline board` prints: what each reads, and how it is built.

The command takes its help and its refusals from here, and the page its list of boards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from harness.common.errors import Code, SkylineError, unknown_name
from harness.common.lazy import lazy_imports

with lazy_imports():
    from leaderboard.boards import architecture, archive, declaration, measured, published
    from leaderboard.findings import curves, same_again, statements, task_agreement, trials
    from leaderboard.site import charts
    from leaderboard.survey import (
        artifacts,
        breakdown,
        breakdown_chart,
        claims_ledger,
        reproduction,
        roofline,
        workload_grid,
    )
    from leaderboard.tables import coverage

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
    """The input of boards and tables: records, the installed methods' cards, and the folder of published tables.

    `boards` holds the paths of the declarations that stand beside the records, by the boards' names.
    """

    records: Sequence[Record] = ()
    boards: Mapping[str, Path] = field(default_factory=dict)
    cards: Cards = field(default_factory=dict)
    tables: Path | None = None


@dataclass(frozen=True)
class Choice:
    """The options that a reader gave: tasks, base model, cost axis, and whether to show the front alone."""

    task: Sequence[str] | None = None
    model: str | None = None
    axis: str | None = None
    front: bool = False


@dataclass(frozen=True)
class Entry(Generic[Made]):
    """A board, or a table that goes with a kind of board.

    `name` is "" for a board over records, and a published table's name for its board.
    `needs` lists the `Sources` that `build` reads, `options` the fields of a `Choice` that it takes: a table takes
    none. `draw` makes the chart (Vega-Lite) of what was built, and is None if there is no chart.
    """

    kind: BoardKind
    name: str
    about: str
    needs: tuple[Need, ...]
    build: Callable[[Sources, Choice], Made]
    options: tuple[Option, ...] = ()
    draw: Callable[[Sources, Any], dict[str, Any]] | None = None

    def check(self, choice: Choice, chart: Path | None = None) -> None:
        """Raise SkylineError (conflict) for an option that this board or table does not take."""
        taken = (*self.options, "chart") if self.draw else self.options
        for option, value in {**vars(choice), "chart": chart}.items():
            if value and option not in taken:
                what = f"board {self.kind} --table {self.name}" if self.name else f"board {self.kind}"
                raise SkylineError(f"'{what}' does not take --{option}; leave it out", Code.CONFLICT)


def _declared(name: str, data: Sources, choice: Choice) -> Board:
    """Build the board that a file declares; without a file, the derived board or the archive of all records."""
    path = data.boards.get(name)
    declared = None if path is None else declaration.read_declaration(path)
    if name == "archive" and declared is None:
        return archive.archive_board(data.records, cards=data.cards)
    if isinstance(declared, declaration.ArchiveDeclaration):
        for option, value in vars(choice).items():
            if value:
                raise SkylineError(
                    f"'board {name}' is an archive and does not take --{option}", Code.CONFLICT
                )
        return archive.archive_board(data.records, declared, name=name, cards=data.cards)
    if declared is not None and path is not None:
        recorded = sorted({record.task for record in data.records if record.task})
        declaration.check_tasks(declared, recorded, path)
    return measured.measured_board(
        data.records,
        declared,
        name="" if name == "measured" else name,
        model=choice.model,
        tasks=choice.task,
        cards=data.cards,
        axis=choice.axis,
    )


def _measured(data: Sources, choice: Choice) -> Board:
    return _declared("measured", data, choice)


def _archive(data: Sources, choice: Choice) -> Board:
    return _declared("archive", data, choice)


def _coverage(data: Sources, choice: Choice) -> Table:
    return coverage.coverage_table(_measured(data, choice))


def _architecture(data: Sources, choice: Choice) -> Board:
    model, axis = choice.model or "bert-base", choice.axis or "disk"
    return architecture.architecture_board(data.records, model, cards=data.cards, axis=axis)


def _front(_: Sources, board: Board) -> dict[str, Any]:
    return charts.specification(board, board.chosen_axis, alone=True)


def _sizes(data: Sources, _: Choice) -> Table:
    return artifacts.sizes_table(data.records, data.tables, data.cards)


def _realised(data: Sources, _: Choice) -> Table:
    return roofline.realisation_table(data.records, cards=data.cards)


def _breakdown(data: Sources, _: Choice) -> Table:
    return breakdown.breakdown_table(breakdown.breakdown_of(data.records))


def _components(data: Sources, _: Table) -> dict[str, Any]:
    return breakdown_chart.specification(breakdown.breakdown_of(data.records))


def _reproduction(data: Sources, _: Choice) -> Table:
    usual = [r for r in data.records if r.kind == "profile" and reproduction.Taken.of(r).usual]
    return reproduction.reproduction_table(usual, data.tables)


def _grid(data: Sources, _: Choice) -> Table:
    return workload_grid.grid_table(data.records, data.tables)


def _claims(data: Sources, _: Choice) -> Table:
    return claims_ledger.claims_table(claims_ledger.measured_claims(data.records, data.tables))


def _terms(data: Sources) -> tuple[str, str | None]:
    """Return base model and protocol of the measured board that a file declares, else the usual ones."""
    path = data.boards.get("measured")
    declared = None if path is None else declaration.read_declaration(path)
    if isinstance(declared, declaration.Declaration):
        return declared.model, declared.protocol
    return statements.MODEL, None


def _findings(data: Sources, _: Choice) -> Table:
    model, protocol = _terms(data)
    return trials.findings_table(data.records, model, protocol)


def _again(data: Sources, choice: Choice) -> Table:
    path = data.boards.get("measured")
    declared = None if path is None else declaration.read_declaration(path)
    if not isinstance(declared, declaration.Declaration):
        raise SkylineError(
            "this folder declares no measured board; name a folder with boards/measured.toml by --profiles",
            Code.NO_DATA,
        )
    return same_again.again_table(data.records, declared, data.cards)


def _tasks(data: Sources, choice: Choice) -> Table:
    return task_agreement.agreement_table(_measured(data, choice))


def _curves(data: Sources, _: Choice) -> Table:
    model, protocol = _terms(data)
    return curves.curves_table(data.records, model, cards=data.cards, protocol=protocol)


RECORDS: tuple[Need, ...] = ("records",)
CARDS: tuple[Need, ...] = ("records", "cards")
TABLES: tuple[Need, ...] = ("records", "tables")

COMPARED: tuple[Option, ...] = ("task", "model", "axis", "front")
MEASURED = Entry("measured", "", "", CARDS, _measured, COMPARED, _front)
ARCHIVE = Entry("archive", "", "", CARDS, _archive)
ARCHITECTURE = Entry("architecture", "", "", CARDS, _architecture, ("model", "axis", "front"), _front)
PUBLISHED: tuple[Entry[Board], ...] = tuple(
    Entry("published", name, about, ("tables",), build, ("axis", "front"), _front)
    for name, about, build in (
        ("ganesh2021", "default", lambda data, choice: published.survey_board(data.tables, choice.axis)),
        ("gordon2020", "", lambda data, choice: published.pruning_board(data.tables, choice.axis)),
        ("movva2022", "", lambda data, choice: published.sizes_board(data.tables, choice.axis)),
        ("movva2022-ratios", "", lambda data, choice: published.ratios_board(data.tables, choice.axis)),
        ("lilbobby", "", lambda data, choice: published.students_board(data.tables, choice.axis)),
    )
)
ENTRIES: Mapping[BoardKind, tuple[Entry[Board | Table], ...]] = {
    "published": PUBLISHED,
    "architecture": (
        ARCHITECTURE,
        Entry("architecture", "sizes", "the survey's sizes and ours", (*TABLES, "cards"), _sizes),
        Entry("architecture", "realised", "speedup over the ratio of FLOPs", CARDS, _realised),
        Entry("architecture", "breakdown", "costs by component", RECORDS, _breakdown, (), _components),
        Entry("architecture", "reproduction", "the survey's rows, built and measured", TABLES, _reproduction),
        Entry("architecture", "grid", "their speedups by workload", TABLES, _grid),
        Entry("architecture", "claims", "a verdict on each of their figures", TABLES, _claims),
    ),
    "measured": (
        MEASURED,
        Entry("measured", "findings", "the papers' findings, tested", RECORDS, _findings),
        Entry("measured", "curves", "accuracy against speed", CARDS, _curves),
        Entry("measured", "coverage", "seeds and profiles of each row", CARDS, _coverage),
        Entry("measured", "tasks", "how far the tasks agree", CARDS, _tasks),
        Entry("measured", "again", "the baseline made twice", CARDS, _again),
    ),
    "archive": (ARCHIVE,),
}
"""All entries by kind of board; the first is shown if no table is named."""


def find(kind: str, table: str | None, boards: Iterable[str] = ()) -> Entry[Board | Table]:
    """Find a kind's board, or its table of that name; `boards` are the names of further boards that files declare.

    Raises SkylineError (unknown-name) with the nearest name.
    """
    known = {str(name): entries for name, entries in ENTRIES.items()}
    known |= {name: _entries_of(name) for name in boards if name not in known}
    if kind not in known:
        raise unknown_name("board", kind, known)
    if table is None:
        return known[kind][0]
    named = {entry.name: entry for entry in known[kind] if entry.name}
    if table not in named:
        raise unknown_name(f"table of the {kind} board", table, named)
    return named[table]


def _entries_of(name: str) -> tuple[Entry[Board | Table], ...]:
    """Make the entries of a board that a file declares: the board and its coverage."""

    def build(data: Sources, choice: Choice) -> Board:
        return _declared(name, data, choice)

    def cover(data: Sources, choice: Choice) -> Table:
        return coverage.coverage_table(_declared(name, data, choice))

    return (
        Entry("measured", "", "", CARDS, build, COMPARED, _front),
        Entry("measured", "coverage", "", CARDS, cover),
    )


def tables_in_words() -> str:
    """List all tables by kind of board, for the command's help."""
    return "; ".join(
        f"of {kind}: "
        + ", ".join(
            f"{entry.name} ({entry.about})" if entry.about else entry.name for entry in entries if entry.name
        )
        for kind, entries in ENTRIES.items()
    )
