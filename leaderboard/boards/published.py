"""The boards that the papers' own tables make.

Rows keep the paper's order and have no rank: their tasks, splits and teachers differ. A row is on the front where no
row that has all of its tasks is as good on them and as cheap. Each function takes the folder that holds `published`
(by default the checkout's) and the axis of the front, and raises SkylineError for an axis that the table does not have
and where the table cannot be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

from harness.recipes.recipe import BASELINE
from leaderboard.boards.board import AXES, Axis, Board, pick_axis
from leaderboard.boards.bootstrap import Drop, Score
from leaderboard.boards.names import COMBINATION, SURVEY_FAMILIES
from leaderboard.boards.ranking import with_fronts
from leaderboard.boards.row import Costs, Row, Size, Speedup
from leaderboard.published_tables import reading as published
from leaderboard.published_tables.reading import TableSource, average_drop

RATIO_FAMILIES: Mapping[str, str] = MappingProxyType(
    {"": BASELINE, "QAT": "quantization", "KD": "distillation", "MP": "unstructured-pruning"}
)
BASE_NOTE = "scores, sizes and speedups as printed; drops recomputed from the printed scores"


def _finish(
    name: str, source: TableSource, rows: list[Row], axes: list[Axis], axis: str | None, notes: list[str]
) -> Board:
    tasks = list(dict.fromkeys(task for row in rows for task in row.scores))
    return Board(
        kind="published",
        name=name,
        title=f"{source.cite()}: {source.title}",
        label=source.cite(),
        tasks=tasks,
        compared=tasks,
        axis=axes[0].key if axis is None else pick_axis(axis, axes),
        axes=axes,
        rows=with_fronts(rows, axes, shared_tasks=True),
        notes=[f"{source.authors} ({source.year}), {source.venue}, {source.table}", BASE_NOTE, *notes],
        date=str(source.year),
    )


def survey_board(profiles: Path | None = None, axis: str | None = None) -> Board:
    """Ganesh et al. 2021, Table 1."""
    folder = published.published_folder(profiles)
    source = published.load_sources(folder)["ganesh2021_table1"]
    table = published.load_survey(folder)
    base = table[0].scores
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
        rows.append(
            Row(
                id=f"ganesh2021/{line.row}",
                title=f"{line.paper_method} ({line.provenance})",
                family=SURVEY_FAMILIES.get(line.family, line.family),
                recipe="baseline" if line.row == 1 else line.paper_method,
                model="bert-base",
                baseline=line.row == 1,
                scores=_scores(line.scores),
                drop=_drop(line.scores, base, line.avg_drop),
                costs=costs,
                notes=tuple(notes),
            )
        )
    notes = [
        "the speedup is the GPU's; rows are compared on shared tasks only; splits, devices, teachers differ",
        *(f"row {p.row}: {p.reason}" for p in source.problems if p.row == 1),
    ]
    axes = [AXES["size"], AXES["gpu-latency"], AXES["cpu-latency"]]
    return _finish("ganesh2021", source, rows, axes, axis, notes)


def pruning_board(profiles: Path | None = None, axis: str | None = None) -> Board:
    """Gordon et al. 2020, Table 1."""
    folder = published.published_folder(profiles)
    source = published.load_sources(folder)["gordon2020_table1"]
    table = published.load_pruning(folder)
    base = table[0].scores
    rows = []
    for number, line in enumerate(table, start=1):
        rows.append(
            Row(
                id=f"gordon2020/{number}",
                title=f"{line.regime}, {line.pruned_pct} %",
                family="baseline" if number == 1 else "unstructured-pruning",
                recipe="baseline" if number == 1 else f"{line.regime}, {line.pruned_pct} %",
                model="bert-base",
                baseline=number == 1,
                scores=_scores(line.scores),
                drop=_drop(line.scores, base),
                costs=Costs(
                    by_axis={"kept": float(100 - line.pruned_pct)}, source=f"{source.cite()}, row {number}"
                ),
            )
        )
    notes = ["pruned: the six matrices of each layer and the word embeddings; CoLA's figure is an accuracy"]
    return _finish("gordon2020", source, rows, [AXES["kept"]], axis, notes)


def sizes_board(profiles: Path | None = None, axis: str | None = None) -> Board:
    """Movva et al. 2022, Table 2."""
    folder = published.published_folder(profiles)
    source = published.load_sources(folder)["movva2022_table2"]
    table = published.load_sizes(folder)
    base = next(line for line in table if line.size == "BASE")
    rows = []
    for number, line in enumerate(table, start=1):
        scores = {"glue": line.avg_glue}
        rows.append(
            Row(
                id=f"movva2022/{line.size}",
                title=f"BERT {line.size}",
                family="baseline" if line is base else "smaller-pretrained",
                recipe="baseline" if line is base else f"BERT {line.size}",
                model=f"bert-{line.size.lower()}",
                baseline=line is base,
                scores=_scores(scores),
                drop=_drop(scores, {"glue": base.avg_glue}),
                costs=_disk(line.size_mb, 100 * line.size_mb / base.size_mb, source, number),
            )
        )
    return _finish(
        "movva2022", source, rows, [AXES["disk"]], axis, ["one score: the average over GLUE's tasks"]
    )


def ratios_board(profiles: Path | None = None, axis: str | None = None) -> Board:
    """Movva et al. 2022, Table 1: a row for each size and for each combination of methods on it."""
    folder = published.published_folder(profiles)
    source = published.load_sources(folder)["movva2022_table1"]
    rows = []
    for number, line in enumerate(published.load_ratios(folder), start=1):
        for combination, ratio in {"": Decimal(1), **line.ratios}.items():
            family = RATIO_FAMILIES.get(combination, COMBINATION)
            rows.append(
                Row(
                    id=f"movva2022-ratios/{line.size}{'/' if combination else ''}{combination}",
                    title=f"BERT {line.size}{', ' if combination else ''}{combination.replace('+', ' + ')}",
                    family=family,
                    recipe=combination or BASELINE,
                    model=f"bert-{line.size.lower()}",
                    baseline=not combination,
                    costs=_disk(line.size_mb / ratio, 100 / ratio, source, number),
                    notes=(f"printed: {ratio} times smaller",) if combination else (),
                )
            )
    notes = [
        "the table prints how many times smaller a model becomes at most 0.5 points below its own size's average",
        "QAT: quantization-aware training, KD: distillation, MP: magnitude pruning; a baseline is its own size's",
        "no front: the table prints no scores",
    ]
    board = _finish("movva2022-ratios", source, rows, [AXES["disk"]], axis, notes)
    return replace(board, notes=[note for note in board.notes if note != BASE_NOTE])


def students_board(profiles: Path | None = None, axis: str | None = None) -> Board:
    """The thesis behind pocketML/lil_bobby, Table 7.5."""
    folder = published.published_folder(profiles)
    source = published.load_sources(folder)["lilbobby_table7_5"]
    table = published.load_student_compression(folder)
    teacher = table[0]
    base = _student_scores(teacher)
    compressions = {"p": "pruned", "q": "quantized", "p+q": "pruned and quantized"}
    rows = []
    for number, line in enumerate(table, start=1):
        scores = _student_scores(line)
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
                scores=_scores(scores),
                drop=_drop(scores, base),
                costs=_disk(
                    line.size_sentence_pair_mb,
                    100 * line.size_sentence_pair_mb / teacher.size_sentence_pair_mb,
                    source,
                    number,
                ),
            )
        )
    return _finish(
        "lilbobby", source, rows, [AXES["disk"]], axis, ["the size is that of the model for sentence pairs"]
    )


def _student_scores(line: published.StudentCompressionRow) -> dict[str, Decimal]:
    return {"sst2": line.sst2_acc, "qqp": line.qqp_acc, "mnli": line.mnli_acc}


def _scores(scores: Mapping[str, Decimal]) -> dict[str, Score]:
    return {task: Score(float(score)) for task, score in scores.items()}


def _drop(
    scores: Mapping[str, Decimal], base: Mapping[str, Decimal], printed: Decimal | None = None
) -> Drop | None:
    """The drop as recomputed from printed scores; `printed` is what the table says itself."""
    mean = average_drop(scores, base)
    if mean is None:
        return None
    by_task = {task: float(scores[task] - base[task]) for task in scores if task in base}
    return Drop(float(mean), by_task, printed=None if printed is None else float(printed))


def _disk(megabytes: Decimal, pct: Decimal, source: TableSource, row: int) -> Costs:
    """The costs of a row whose size in MB is all that is printed; `pct` is percent of its baseline's."""
    size = megabytes * 10**6
    return Costs(
        Size(round(size), float(pct)),
        by_axis={"disk": float(size)},
        source=f"{source.cite()}, row {row}",
    )
