"""Read the papers' own tables from CSV into typed rows.

Figures are decimals, so that printed figures can be recomputed exactly.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from harness.common.errors import Code, SkylineError
from harness.common.lazy import lazy_imports

with lazy_imports():
    import pandas


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PublishedRow(_Frozen):
    """A row of a paper's table; `table` is the name of its file. A figure that the paper does not report is None."""

    table: ClassVar[str]

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value


class SurveyRow(PublishedRow):
    """Ganesh et al. 2021, Table 1. Scores and drop in points, sizes in percent of BERT-base, speedups as ratios."""

    table: ClassVar = "ganesh2021_table1"

    row: int
    family: str
    provenance: str
    paper_method: str
    scope: str | None
    teacher_large: bool
    device: str | None
    size_with_emb_pct: Decimal
    size_without_emb_pct: Decimal
    size_is_task_average: bool
    speedup_gpu: Decimal | None
    speedup_gpu_by_survey: bool | None
    speedup_gpu_is_task_average: bool | None
    speedup_cpu: Decimal | None
    speedup_cpu_by_survey: bool | None
    mnli: Decimal | None
    qqp: Decimal | None
    sst2: Decimal | None
    squad: Decimal | None
    avg_drop: Decimal

    @property
    def scores(self) -> dict[str, Decimal]:
        """The scores (points) that the row reports, by task, in the table's order."""
        found = {"mnli": self.mnli, "qqp": self.qqp, "sst2": self.sst2, "squad": self.squad}
        return {task: score for task, score in found.items() if score is not None}


class PruningRow(PublishedRow):
    """Gordon et al. 2020, Table 1. Scores are in points, pruned weights in percent, training losses in nats."""

    table: ClassVar = "gordon2020_table1"

    regime: str
    pruned_pct: int
    pretrain_loss: Decimal | None
    mnli: Decimal
    mnli_train_loss: Decimal
    qqp: Decimal
    qqp_train_loss: Decimal
    qnli: Decimal
    qnli_train_loss: Decimal
    sst2: Decimal
    sst2_train_loss: Decimal
    cola: Decimal
    cola_train_loss: Decimal
    avg: Decimal
    avg_train_loss_pct: Decimal

    @property
    def scores(self) -> dict[str, Decimal]:
        """The five scores (points) by task. CoLA's is an accuracy: at 90 % pruned it is the majority class's share."""
        return {"mnli": self.mnli, "qqp": self.qqp, "qnli": self.qnli, "sst2": self.sst2, "cola": self.cola}

    @property
    def losses(self) -> tuple[Decimal, ...]:
        """The five training losses, in nats."""
        return (
            self.mnli_train_loss,
            self.qqp_train_loss,
            self.qnli_train_loss,
            self.sst2_train_loss,
            self.cola_train_loss,
        )


class RatioRow(PublishedRow):
    """Movva et al. 2022, Table 1: the compression ratio of each subset of {QAT, KD, MP}, averaged over tasks.

    On each task it is the baseline's size over the smallest model's that loses at most 0.5 points there.
    """

    table: ClassVar = "movva2022_table1"

    size: str
    size_mb: Decimal
    ratios: dict[str, Decimal]


class SizeRow(PublishedRow):
    """Movva et al. 2022, Table 2: the uncompressed sizes in MB."""

    table: ClassVar = "movva2022_table2"

    size: str
    layers: int
    hidden: int
    params_millions: Decimal
    size_mb: Decimal
    avg_glue: Decimal


class StudentRow(PublishedRow):
    """The thesis behind pocketML/lil_bobby, Table 7.1: SST-2 accuracy of students, mean and sd of four runs."""

    table: ClassVar = "lilbobby_table7_1_sst2"

    student: str
    embedding: str
    dim: int
    params: Decimal
    size_mb: Decimal
    no_distill: Decimal
    no_distill_sd: Decimal
    no_distill_boot: Decimal
    no_distill_boot_sd: Decimal
    alpha05_boot: Decimal
    alpha05_boot_sd: Decimal
    alpha0_boot: Decimal
    alpha0_boot_sd: Decimal


class StudentCompressionRow(PublishedRow):
    """The same thesis, Table 7.5: pruned (p) and quantized (q) students. Scores are in points, sizes in MB."""

    table: ClassVar = "lilbobby_table7_5"

    model: str
    compression: str | None
    sst2_acc: Decimal
    qqp_acc: Decimal
    qqp_f1: Decimal
    mnli_acc: Decimal
    size_single_sentence_mb: Decimal
    size_sentence_pair_mb: Decimal

    @property
    def scores(self) -> dict[str, Decimal]:
        """The accuracies (points) by task."""
        return {"sst2": self.sst2_acc, "qqp": self.qqp_acc, "mnli": self.mnli_acc}


class Problem(_Frozen):
    """A problem of a table that cannot be recomputed from it. `row` counts from 1; None means the whole table."""

    row: int | None = None
    check: str
    reason: str
    sure: bool = True


class TableSource(_Frozen):
    """The publication of a table, and the known problems of the table.

    `sure` is False if title, year or venue were not read in the publication.
    """

    title: str
    authors: str
    year: int
    venue: str
    table: str
    sure: bool = True
    problems: tuple[Problem, ...] = ()

    def cite(self) -> str:
        """Write a short citation, such as `Ganesh et al. 2021, Table 1`."""
        first, _, others = self.authors.partition(",")
        return f"{first}{' et al.' if others else ''} {self.year}, {self.table}"


RowType = TypeVar("RowType", bound=PublishedRow)

KINDS: tuple[type[PublishedRow], ...] = (
    SurveyRow,
    PruningRow,
    RatioRow,
    SizeRow,
    StudentRow,
    StudentCompressionRow,
)
"""The row types of all tables, in the order in which the ledger shows the tables."""


def published_folder(profiles: Path | None = None) -> Path:
    """Find the folder of the tables: `profiles`/published, else the repository's, else the copy in the package.

    Raises SkylineError (not-found) if none of them exists.
    """
    here = Path(__file__).resolve().parent
    candidates = [here.parents[1] / "profiles" / "published", here]
    if profiles is not None:
        candidates.insert(0, profiles / "published")
    for folder in candidates:
        if (folder / "sources.toml").is_file():
            return folder
    raise SkylineError(
        "the published tables are missing; install Skyline again, or name their parent folder with --profiles",
        Code.NOT_FOUND,
    )


def load_sources(folder: Path) -> dict[str, TableSource]:
    """Read the source of every table in `folder`.

    Raises SkylineError if sources.toml cannot be read (unreadable) or has a wrong entry (damaged).
    """
    path = folder / "sources.toml"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        return {name: TableSource.model_validate(value) for name, value in data.items()}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SkylineError(f"{path} cannot be read ({error}); restore it", Code.UNREADABLE) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SkylineError(f"{path}: {where}: {first['msg']}; correct it", Code.DAMAGED) from None


def read_table(kind: type[RowType], profiles: Path | None = None) -> tuple[list[RowType], TableSource]:
    """Read the table with rows of this kind, and its source. Raises as `published_folder` and `load` do."""
    folder = published_folder(profiles)
    return load(kind, folder), load_sources(folder)[kind.table]


def survey_lines(profiles: Path | None = None) -> dict[int, SurveyRow]:
    """Read Ganesh et al. 2021, Table 1, by row number; row 1 is BERT-base."""
    return {line.row: line for line in load(SurveyRow, published_folder(profiles))}


def average_drop(scores: Mapping[str, Decimal], base: Mapping[str, Decimal]) -> Decimal | None:
    """Compute the mean of score - base over the shared tasks, in points; None if there is no shared task."""
    shared = [task for task in scores if task in base]
    if not shared:
        return None
    return sum((scores[task] - base[task] for task in shared), Decimal()) / len(shared)


def load(kind: type[RowType], folder: Path) -> list[RowType]:
    """Read one table from its file.

    Raises SkylineError if the file cannot be read (unreadable), or if it has no rows or a wrong cell (damaged). The
    message names the cell's line and column.
    """
    path = folder / f"{kind.table}.csv"
    try:
        frame = pandas.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, UnicodeDecodeError, pandas.errors.ParserError, pandas.errors.EmptyDataError) as error:
        raise SkylineError(
            f"{path} cannot be read ({str(error).strip()}); restore it", Code.UNREADABLE
        ) from None
    rows = []
    for line, cells in enumerate(frame.to_dict(orient="records"), start=2):
        values: dict[str, object] = {str(column): text for column, text in cells.items()}
        if kind is RatioRow:
            own = {"size", "size_mb"}
            ratios = {column: text for column, text in values.items() if column not in own}
            values = {**{column: values[column] for column in own & values.keys()}, "ratios": ratios}
        try:
            rows.append(kind.model_validate(values))
        except ValidationError as error:
            first = error.errors()[0]
            column = ".".join(str(part) for part in first["loc"])
            raise SkylineError(
                f"{path}, line {line}, column {column}: {first['msg']}; restore the table",
                Code.DAMAGED,
            ) from None
    if not rows:
        raise SkylineError(f"{path} holds no rows; restore it", Code.DAMAGED)
    return rows
