"""Boards of the papers' own tables.

Rows keep the paper's order and have no rank, because their tasks, splits and teachers differ. A row is on the front if
no row that has all of its tasks dominates it on them. Each function takes the folder that contains `published` (by
default the checkout's) and the axis of the front. It raises SkylineError for an axis that the table does not have
(unknown-name), and for a table that cannot be read (unreadable, damaged).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

from harness.recipes.recipe import BASELINE
from leaderboard.boards.axes import AXES, pick_axis
from leaderboard.boards.board import Board
from leaderboard.boards.bootstrap import Drop, Score
from leaderboard.boards.names import COMBINATION
from leaderboard.boards.ranking import with_fronts
from leaderboard.boards.row import Costs, Row, Size, Speedup
from leaderboard.published_tables.reading import (
    PruningRow,
    RatioRow,
    SizeRow,
    StudentCompressionRow,
    SurveyRow,
    TableSource,
    average_drop,
    read_table,
)

SURVEY_FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "baseline": BASELINE,
        "quantization": "quantization",
        "unstructured pruning": "unstructured-pruning",
        "structured pruning": "structured-pruning",
        "KD from output logits": "distillation",
        "KD from attention maps": "distillation",
        "multiple KD combined": "distillation",
        "matrix decomposition": "matrix-decomposition",
        "dynamic inference": "dynamic-inference",
        "parameter sharing": "parameter-sharing",
        "pruning with KD": COMBINATION,
        "quantization with KD": COMBINATION,
        "compound": COMBINATION,
    }
)
"""Maps the families of the survey (Ganesh et al. 2021, Table 1) to those of `harness.compression.card.FAMILIES`."""
RATIO_FAMILIES: Mapping[str, str] = MappingProxyType(
    {"": BASELINE, "QAT": "quantization", "KD": "distillation", "MP": "unstructured-pruning"}
)


def _board(
    name: str, source: TableSource, rows: list[Row], keys: Sequence[str], axis: str | None, notes: list[str]
) -> Board:
    axes = [AXES[key] for key in keys]
    tasks = list(dict.fromkeys(task for row in rows for task in row.scores))
    as_printed = ["scores, sizes and speedups are as printed; drops are recomputed from the printed scores"]
    return Board(
        kind="published",
        name=name,
        title=f"{source.cite()}: {source.title}",
        label=source.cite(),
        tasks=tasks,
        compared=tasks,
        axis=keys[0] if axis is None else pick_axis(axis, axes),
        axes=axes,
        rows=with_fronts(rows, axes, shared_tasks=True),
        notes=[
            f"{source.authors} ({source.year}), {source.venue}, {source.table}",
            *([] if source.sure else ["title, year and venue were not read in the publication"]),
            *(as_printed if tasks else []),
            *notes,
        ],
        date=str(source.year),
    )


def survey_board(profiles: Path | None = None, axis: str | None = None) -> Board:
    """Build the board of Ganesh et al. 2021, Table 1."""
    table, source = read_table(SurveyRow, profiles)
    rows = []
    for line in table:
        with_pct, without_pct = float(line.size_with_emb_pct), float(line.size_without_emb_pct)
        speedups = {"gpu-latency": line.speedup_gpu, "cpu-latency": line.speedup_cpu}
        costs = Costs(
            Size(survey_pct=with_pct, survey_pct_without_embeddings=without_pct),
            speedup=None if line.speedup_gpu is None else Speedup(float(line.speedup_gpu)),
            by_axis={"size": with_pct} | {key: float(1 / each) for key, each in speedups.items() if each},
            source=f"{source.cite()}, row {line.row}",
        )
        notes = [f"in the survey's family '{line.family}'"]
        if line.teacher_large:
            notes.append("distilled from BERT-LARGE")
        if line.size_is_task_average:
            notes.append("sizes are averages over tasks")
        if line.device:
            notes.append(f"GPU speedup on {line.device}")
        row = _row(
            f"ganesh2021/{line.row}",
            f"{line.paper_method} ({line.provenance})",
            SURVEY_FAMILIES.get(line.family, line.family),
            recipe=line.paper_method,
            baseline=line is table[0],
            costs=costs,
            notes=notes,
        )
        rows.append(_scored(row, line.scores, table[0].scores, line.avg_drop))
    notes = [
        "speedups are on GPU; rows are compared only on tasks that both report; splits, devices and teachers differ",
        *(f"row {p.row}: {p.reason}" for p in source.problems if p.row == 1),
    ]
    return _board("ganesh2021", source, rows, ("size", "gpu-latency", "cpu-latency"), axis, notes)


def pruning_board(profiles: Path | None = None, axis: str | None = None) -> Board:
    """Build the board of Gordon et al. 2020, Table 1."""
    table, source = read_table(PruningRow, profiles)
    rows = []
    for number, line in enumerate(table, start=1):
        row = _row(
            f"gordon2020/{number}",
            f"{line.regime}, {line.pruned_pct} %",
            "unstructured-pruning",
            baseline=line is table[0],
            costs=Costs(
                by_axis={"kept": float(100 - line.pruned_pct)}, source=f"{source.cite()}, row {number}"
            ),
        )
        rows.append(_scored(row, line.scores, table[0].scores))
    notes = ["pruned: the six matrices of each layer and the word embeddings; CoLA's score is an accuracy"]
    return _board("gordon2020", source, rows, ("kept",), axis, notes)


def sizes_board(profiles: Path | None = None, axis: str | None = None) -> Board:
    """Build the board of Movva et al. 2022, Table 2."""
    table, source = read_table(SizeRow, profiles)
    base = next(line for line in table if line.size == "BASE")
    rows = []
    for number, line in enumerate(table, start=1):
        row = _row(
            f"movva2022/{line.size}",
            f"BERT {line.size}",
            "smaller-pretrained",
            model=f"bert-{line.size.lower()}",
            baseline=line is base,
            costs=_disk(line.size_mb, 100 * line.size_mb / base.size_mb, source, number),
        )
        rows.append(_scored(row, {"glue": line.avg_glue}, {"glue": base.avg_glue}))
    notes = ["the only score is the average over GLUE's tasks"]
    return _board("movva2022", source, rows, ("disk",), axis, notes)


def ratios_board(profiles: Path | None = None, axis: str | None = None) -> Board:
    """Build the board of Movva et al. 2022, Table 1: a row for each size, and for each combination of methods on it."""
    table, source = read_table(RatioRow, profiles)
    rows = [
        _row(
            f"movva2022-ratios/{line.size}{'/' if combination else ''}{combination}",
            f"BERT {line.size}{', ' if combination else ''}{combination.replace('+', ' + ')}",
            RATIO_FAMILIES.get(combination, COMBINATION),
            recipe=combination,
            model=f"bert-{line.size.lower()}",
            baseline=not combination,
            costs=_disk(line.size_mb / ratio, 100 / ratio, source, number),
            notes=[f"printed: {ratio} times smaller"] if combination else [],
        )
        for number, line in enumerate(table, start=1)
        for combination, ratio in {"": Decimal(1), **line.ratios}.items()
    ]
    notes = [
        "a printed ratio is an average over tasks: on each task, the size of the uncompressed model over that of the "
        "smallest model, of any size, that loses at most 0.5 points there; 1 if there is none",
        "the sizes in this board are computed from these averages and are not of single models",
        "QAT: quantization-aware training, KD: distillation, MP: magnitude pruning; each size has its own baseline",
        "no front: the table prints no scores",
    ]
    return _board("movva2022-ratios", source, rows, ("disk",), axis, notes)


def students_board(profiles: Path | None = None, axis: str | None = None) -> Board:
    """Build the board of the thesis behind pocketML/lil_bobby, Table 7.5."""
    table, source = read_table(StudentCompressionRow, profiles)
    teacher = table[0]
    compressions = {"p": "pruned", "q": "quantized", "p+q": "pruned and quantized"}
    rows = []
    for number, line in enumerate(table, start=1):
        suffix = compressions.get(line.compression or "", "")
        size, whole = line.size_sentence_pair_mb, teacher.size_sentence_pair_mb
        row = _row(
            f"lilbobby/{number}",
            f"{line.model}, {suffix}" if suffix else line.model,
            COMBINATION if suffix else "distillation",
            recipe=f"{line.model} {line.compression or ''}".strip(),
            model="roberta-large",
            baseline=line is teacher,
            costs=_disk(size, 100 * size / whole, source, number),
        )
        rows.append(_scored(row, line.scores, teacher.scores))
    notes = ["sizes are of the models for sentence pairs"]
    return _board("lilbobby", source, rows, ("disk",), axis, notes)


def _row(
    identity: str,
    title: str,
    family: str,
    *,
    baseline: bool,
    costs: Costs,
    recipe: str = "",
    model: str = "bert-base",
    notes: Sequence[str] = (),
) -> Row:
    """Make a row without scores. A baseline row has the family and the recipe `baseline`."""
    family, recipe = (BASELINE, BASELINE) if baseline else (family, recipe or title)
    return Row(identity, title, family, recipe, model, baseline, costs=costs, notes=tuple(notes))


def _scored(
    row: Row, scores: Mapping[str, Decimal], base: Mapping[str, Decimal], printed: Decimal | None = None
) -> Row:
    """Add printed scores and the drop computed from them; `printed` is the drop that the table prints."""
    found, mean = {task: Score(float(score)) for task, score in scores.items()}, average_drop(scores, base)
    if mean is None:
        return replace(row, scores=found)
    by_task = {task: float(scores[task] - base[task]) for task in scores if task in base}
    drop = Drop(float(mean), by_task, printed=None if printed is None else float(printed))
    return replace(row, scores=found, drop=drop)


def _disk(megabytes: Decimal, pct: Decimal, source: TableSource, row: int) -> Costs:
    """Make the costs of a row of which only the size in MB is printed; `pct` is in percent of its baseline's size."""
    size = megabytes * 10**6
    return Costs(
        Size(round(size), float(pct)),
        by_axis={"disk": float(size)},
        source=f"{source.cite()}, row {row}",
    )
