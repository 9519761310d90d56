"""The papers' own tables, read from CSV into typed rows.

Figures stay decimals, so that what was printed can be recomputed exactly.
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
    """A row of a table from a paper; `table` is its file's name. An empty cell is a figure that is not reported."""

    table: ClassVar[str]

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value


class SurveyRow(PublishedRow):
    """Ganesh et al. 2021, Table 1. Scores and drop in points, sizes in percent of BERT-base, ratios."""

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
        """The scores that the row reports, by task, in the table's order."""
        found = {"mnli": self.mnli, "qqp": self.qqp, "sst2": self.sst2, "squad": self.squad}
        return {task: score for task, score in found.items() if score is not None}


class PruningRow(PublishedRow):
    """Gordon et al. 2020, Table 1. Scores in points, pruned weights in percent, training losses in nats."""

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
        """The five scores by task (CoLA's is an accuracy here: at 90 % it is the majority class's share)."""
        return {"mnli": self.mnli, "qqp": self.qqp, "qnli": self.qnli, "sst2": self.sst2, "cola": self.cola}

    @property
    def losses(self) -> tuple[Decimal, ...]:
        """The five training losses."""
        return (
            self.mnli_train_loss,
            self.qqp_train_loss,
            self.qnli_train_loss,
            self.sst2_train_loss,
            self.cola_train_loss,
        )


class RatioRow(PublishedRow):
    """Movva et al. 2022, Table 1: compression ratio of each subset of {QAT, KD, MP} within 0.5 points."""

    table: ClassVar = "movva2022_table1"

    size: str
    size_mb: Decimal
    ratios: dict[str, Decimal]


class SizeRow(PublishedRow):
    """Movva et al. 2022, Table 2: the uncompressed sizes."""

    table: ClassVar = "movva2022_table2"

    size: str
    layers: int
    hidden: int
    params_millions: Decimal
    size_mb: Decimal
    avg_glue: Decimal


class StudentRow(PublishedRow):
    """The thesis behind pocketML/lil_bobby, Table 7.1: students' SST-2 accuracy, mean and sd of four runs."""

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
    """The same thesis, Table 7.5: students pruned (p) and quantized (q); scores in points, sizes in MB."""

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
        """The accuracies by task."""
        return {"sst2": self.sst2_acc, "qqp": self.qqp_acc, "mnli": self.mnli_acc}


class Problem(_Frozen):
    """What does not add up in a table and cannot be recomputed from it. `row` counts from 1, None is all."""

    row: int | None = None
    check: str
    reason: str
    sure: bool = True


class TableSource(_Frozen):
    """Where a table was published."""

    title: str
    authors: str
    year: int
    venue: str
    table: str
    problems: tuple[Problem, ...] = ()

    def cite(self) -> str:
        """A short citation, such as `Ganesh et al. 2021, Table 1`."""
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
"""The rows of all tables, in the order in which the ledger shows the tables."""


def published_folder(profiles: Path | None = None) -> Path:
    """Where the tables are: `profiles`/published, else the repository's, else the copy in the package.

    Raises SkylineError where none of them exists.
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
    """The source of every table in `folder`. Raises SkylineError where sources.toml is missing or wrong."""
    path = folder / "sources.toml"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        return {name: TableSource.model_validate(value) for name, value in data.items()}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SkylineError(f"{path} cannot be read ({error}); restore it", Code.UNREADABLE) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SkylineError(f"{path}: {where}: {first['msg']}; mend it", Code.DAMAGED) from None


def read_table(kind: type[RowType], profiles: Path | None = None) -> tuple[list[RowType], TableSource]:
    """The table whose rows are of that kind, and where it was published. Raises as `published_folder` and `load` do."""
    folder = published_folder(profiles)
    return load(kind, folder), load_sources(folder)[kind.table]


def survey_lines(profiles: Path | None = None) -> dict[int, SurveyRow]:
    """Ganesh et al. 2021, Table 1, by number of row; row 1 is BERT-base."""
    return {line.row: line for line in load(SurveyRow, published_folder(profiles))}


def average_drop(scores: Mapping[str, Decimal], base: Mapping[str, Decimal]) -> Decimal | None:
    """Mean over the tasks that both have of score - base, in points; None where they share none."""
    shared = [task for task in scores if task in base]
    if not shared:
        return None
    return sum((scores[task] - base[task] for task in shared), Decimal()) / len(shared)


def load(kind: type[RowType], folder: Path) -> list[RowType]:
    """Read one table from its file. Raises SkylineError naming the file, the line and the column that is wrong."""
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
