"""The boards that the papers' own tables make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

from harness.common.errors import unknown_name
from leaderboard.boards.board import AXES, Axis, Board, Row, pick_axis
from leaderboard.boards.names import BASELINE, COMBINATION, SURVEY_FAMILIES
from leaderboard.boards.ranking import mark_fronts
from leaderboard.published_tables import reading as published
from leaderboard.published_tables.reading import TableSource
from leaderboard.survey.published_ledger import average_drop

RATIO_FAMILIES: Mapping[str, str] = MappingProxyType(
    {"": BASELINE, "QAT": "quantization", "KD": "distillation", "MP": "unstructured-pruning"}
)
BASE_NOTE = "scores, sizes and speedups as printed; drops recomputed from the printed scores"


def published_board(
    profiles: Path | None = None, table: str = "ganesh2021", axis: str | None = None
) -> Board:
    """The board of one paper's table: `ganesh2021` (default) or another of `TABLES`.

    Rows keep the paper's order and have no rank: their tasks, splits and teachers differ. A row is on the
    front where no row that has all of its tasks is as good on them and as cheap. Raises SkylineError for an
    unknown table or axis, and where the tables cannot be read.
    """
    build = BUILDERS.get(table)
    if build is None:
        raise unknown_name("published table", table, BUILDERS)
    folder = published.published_folder(profiles)
    return build(folder, axis).model_copy(update={"name": table})


def _finish(
    source: TableSource, rows: list[Row], axes: list[Axis], axis: str | None, notes: list[str]
) -> Board:
    keys = [known.key for known in axes]
    chosen = pick_axis(axis, keys) if axis is not None else keys[0]
    mark_fronts(rows, axes, chosen, shared_tasks=True)
    tasks = list(dict.fromkeys(task for row in rows for task in row.scores))
    return Board(
        kind="published",
        title=f"{source.cite()}: {source.title}",
        label=source.cite(),
        tasks=tasks,
        compared=tasks,
        axis=chosen,
        axes=axes,
        rows=rows,
        notes=[f"{source.authors} ({source.year}), {source.venue}, {source.table}", BASE_NOTE, *notes],
        date=str(source.year),
    )


def _survey(folder: Path, axis: str | None) -> Board:
    source = published.load_sources(folder)["ganesh2021_table1"]
    table = published.load_survey(folder)
    base = table[0].scores
    rows = []
    for line in table:
        drop = average_drop(line.scores, base)
        costs = {"size": float(line.size_with_emb_pct)}
        speedups = {"gpu-latency": line.speedup_gpu, "cpu-latency": line.speedup_cpu}
        costs |= {key: float(1 / speedup) for key, speedup in speedups.items() if speedup}
        notes = [f"in the survey's family '{line.family}'"]
        if line.teacher_large:
            notes.append("distilled from BERT-LARGE")
        if line.size_is_task_average:
            notes.append("sizes are averages over tasks")
        if line.device:
            notes.append(f"GPU speedup on {line.device}")
        rows.append(
            Row(
                id=f"ganesh2021/{line.row}",
                title=f"{line.paper_method} ({line.provenance})",
                family=SURVEY_FAMILIES.get(line.family, line.family),
                recipe="baseline" if line.row == 1 else line.paper_method,
                model="bert-base",
                baseline=line.row == 1,
                scores=_floats(line.scores),
                drop=None if drop is None else float(drop),
                drops=_drops(line.scores, base),
                drop_published=float(line.avg_drop),
                tasks=[task for task in line.scores if task in base],
                size_pct=float(line.size_with_emb_pct),
                size_pct_without_embeddings=float(line.size_without_emb_pct),
                speedup=None if line.speedup_gpu is None else float(line.speedup_gpu),
                costs=costs,
                notes=notes,
                source=f"{source.cite()}, row {line.row}",
            )
        )
    notes = [
        "the speedup is the GPU's; rows are compared on shared tasks only; splits, devices, teachers differ",
        *(f"row {p.row}: {p.reason}" for p in source.problems if p.row == 1),
    ]
    axes = [AXES["size"], AXES["gpu-latency"], AXES["cpu-latency"]]
    return _finish(source, rows, axes, axis, notes)


def _pruning(folder: Path, axis: str | None) -> Board:
    source = published.load_sources(folder)["gordon2020_table1"]
    table = published.load_pruning(folder)
    base = table[0].scores
    rows = []
    for number, line in enumerate(table, start=1):
        drop = average_drop(line.scores, base)
        rows.append(
            Row(
                id=f"gordon2020/{number}",
                title=f"{line.regime}, {line.pruned_pct} %",
                family="baseline" if number == 1 else "unstructured-pruning",
                recipe="baseline" if number == 1 else f"{line.regime}, {line.pruned_pct} %",
                model="bert-base",
                baseline=number == 1,
                scores=_floats(line.scores),
                drop=None if drop is None else float(drop),
                drops=_drops(line.scores, base),
                tasks=list(line.scores),
                costs={"kept": float(100 - line.pruned_pct)},
                source=f"{source.cite()}, row {number}",
            )
        )
    notes = ["pruned: the six matrices of each layer and the word embeddings; CoLA's figure is an accuracy"]
    return _finish(source, rows, [AXES["kept"]], axis, notes)


def _sizes(folder: Path, axis: str | None) -> Board:
    source = published.load_sources(folder)["movva2022_table2"]
    table = published.load_sizes(folder)
    base = next(line for line in table if line.size == "BASE")
    rows = []
    for number, line in enumerate(table, start=1):
        drop = line.avg_glue - base.avg_glue
        rows.append(
            Row(
                id=f"movva2022/{line.size}",
                title=f"BERT {line.size}",
                family="baseline" if line is base else "smaller-pretrained",
                recipe="baseline" if line is base else f"BERT {line.size}",
                model=f"bert-{line.size.lower()}",
                baseline=line is base,
                scores={"glue": float(line.avg_glue)},
                drop=float(drop),
                drops={"glue": float(drop)},
                tasks=["glue"],
                disk_bytes=round(line.size_mb * 10**6),
                disk_pct=float(100 * line.size_mb / base.size_mb),
                costs={"disk": float(line.size_mb * 10**6)},
                source=f"{source.cite()}, row {number}",
            )
        )
    return _finish(source, rows, [AXES["disk"]], axis, ["one score: the average over GLUE's tasks"])


def _ratios(folder: Path, axis: str | None) -> Board:
    """A row for each size, and one for each combination of quantization, distillation and pruning on it."""
    source = published.load_sources(folder)["movva2022_table1"]
    rows = []
    for number, line in enumerate(published.load_ratios(folder), start=1):
        for combination, ratio in {"": Decimal(1), **line.ratios}.items():
            bytes_ = line.size_mb * 10**6 / ratio
            family = RATIO_FAMILIES.get(combination, COMBINATION)
            rows.append(
                Row(
                    id=f"movva2022-ratios/{line.size}{'/' if combination else ''}{combination}",
                    title=f"BERT {line.size}{', ' if combination else ''}{combination.replace('+', ' + ')}",
                    family=family,
                    recipe=combination or BASELINE,
                    model=f"bert-{line.size.lower()}",
                    baseline=not combination,
                    disk_bytes=round(bytes_),
                    disk_pct=float(100 / ratio),
                    costs={"disk": float(bytes_)},
                    notes=[f"printed: {ratio} times smaller"] if combination else [],
                    source=f"{source.cite()}, row {number}",
                )
            )
    notes = [
        "the table prints how many times smaller a model becomes at most 0.5 points below its own size's average",
        "QAT: quantization-aware training, KD: distillation, MP: magnitude pruning; a baseline is its own size's",
        "no front: the table prints no scores",
    ]
    board = _finish(source, rows, [AXES["disk"]], axis, notes)
    return board.model_copy(update={"notes": [note for note in board.notes if note != BASE_NOTE]})


def _students(folder: Path, axis: str | None) -> Board:
    source = published.load_sources(folder)["lilbobby_table7_5"]
    table = published.load_student_compression(folder)
    teacher = table[0]
    base = _student_scores(teacher)
    compressions = {"p": "pruned", "q": "quantized", "p+q": "pruned and quantized"}
    rows = []
    for number, line in enumerate(table, start=1):
        scores = _student_scores(line)
        drop = average_drop(scores, base)
        suffix = compressions.get(line.compression or "", "")
        family = "baseline" if line is teacher else ("combination" if suffix else "distillation")
        rows.append(
            Row(
                id=f"lilbobby/{number}",
                title=f"{line.model}, {suffix}" if suffix else line.model,
                family=family,
                recipe="baseline" if line is teacher else f"{line.model} {line.compression or ''}".strip(),
                model="roberta-large",
                baseline=line is teacher,
                scores=_floats(scores),
                drop=None if drop is None else float(drop),
                drops=_drops(scores, base),
                tasks=list(scores),
                disk_bytes=round(line.size_sentence_pair_mb * 10**6),
                disk_pct=float(100 * line.size_sentence_pair_mb / teacher.size_sentence_pair_mb),
                costs={"disk": float(line.size_sentence_pair_mb * 10**6)},
                source=f"{source.cite()}, row {number}",
            )
        )
    return _finish(source, rows, [AXES["disk"]], axis, ["the size is that of the model for sentence pairs"])


def _student_scores(line: published.StudentCompressionRow) -> dict[str, Decimal]:
    return {"sst2": line.sst2_acc, "qqp": line.qqp_acc, "mnli": line.mnli_acc}


def _floats(scores: Mapping[str, Decimal]) -> dict[str, float]:
    return {task: float(score) for task, score in scores.items()}


def _drops(scores: Mapping[str, Decimal], base: Mapping[str, Decimal]) -> dict[str, float]:
    return {task: float(scores[task] - base[task]) for task in scores if task in base}


BUILDERS: Mapping[str, Callable[[Path, str | None], Board]] = MappingProxyType(
    {
        "ganesh2021": _survey,
        "gordon2020": _pruning,
        "movva2022": _sizes,
        "movva2022-ratios": _ratios,
        "lilbobby": _students,
    }
)
"""By the name that `published_board` takes."""
TABLES = tuple(BUILDERS)
