"""Findings of the papers, tried on the records: which of two recipes is better, by how much, and whether the
interval says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from harness.common.errors import SkylineError
from harness.recipes.recipe import Recipe
from harness.records.schema import Quality, Record
from leaderboard.boards.bootstrap import average_drop, score
from leaderboard.boards.names import task_title
from leaderboard.boards.one_answer import gives_one_answer
from leaderboard.boards.record_selection import newest
from leaderboard.tables.plain import Cell, Column, PlainTable

Expected = Literal["above", "below"]
MODEL = "minilm-l6"


@dataclass(frozen=True)
class Comparison:
    """`first` is expected above (or below) `second`, or at most `margin` points under it; `label` says at which
    setting. With a `figure`, `{}` in the label stands for its mean in the records of `first`. `task`: the only one that
    the settings were chosen for.
    """

    label: str
    first: str
    second: str
    expected: Expected = "above"
    margin: float = 0.0
    figure: str | None = None
    task: str | None = None


@dataclass(frozen=True)
class Finding:
    """What a paper found, and the comparisons that try it."""

    name: str
    statement: str
    source: str
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Share:
    """A figure that records of `recipe` hold, expected to be at most `limit`."""

    statement: str
    source: str
    recipes: tuple[str, ...]
    figure: str
    limit: float


def _against(
    first: str, second: str, sparsities: Sequence[float], below: Sequence[float] = ()
) -> Iterator[Comparison]:
    for sparsity in sparsities:
        yield Comparison(
            f"{sparsity:.0%} pruned".replace("%", " %"),
            f"{first}:sparsity={sparsity}",
            f"{second}:sparsity={sparsity}",
            "below" if sparsity in below else "above",
        )


LEFT = "share of the training rows' word-vectors"
GRADUAL = "magnitude:sparsity=0.6,schedule=linear,begin=0.1,end=1"
SPEED_OF_PATIENCE = {1: 3.0, 2: 2.0, 3: 1.19, 4: 1.08}
"""By patience, the speed asked of deebert: pabee's few settings choose the speeds to compare at, and those are what it
has in FLOPs on SST-2.
"""
HALF_OF_THE_WORD_VECTORS = (
    "power-bert",
    "power-bert:retention=12/9/7/5/3/2",
    "power-bert:retention=20/14/10/6/4/2",
    "power-bert:penalty=4.5e-4,search_epochs=1",
    "power-bert:penalty=3e-4,search_epochs=1",
)
"""Recipes that keep about half of the training rows' word-vectors."""
PLACES = 6 * 64
"""Of word-vectors in the six layers, as the paper counts: each row is padded to SST-2's 64 tokens."""
HALF_OF_THE_PLACES = (
    "power-bert:retention=48/40/32/24/16/8",
    "power-bert:retention=32/24/18/12/8/4",
    "power-bert:penalty=3e-4,search_epochs=1",
)
"""Recipes that keep fewer than half of them."""

FINDINGS: tuple[Finding, ...] = (
    Finding(
        "magnitude-against-random",
        "magnitude pruning beats random pruning at every sparsity from 40 %",
        "Gordon et al. 2020, Table 1",
        tuple(_against("magnitude", "random-pruning", (0.4, 0.6, 0.8, 0.9))),
    ),
    Finding(
        "movement-against-magnitude",
        "movement pruning beats magnitude pruning at 85 % and more, and loses at 40 to 60 %",
        "Sanh et al. 2020, Figure 2; Movva et al. 2022",
        tuple(_against("movement", "magnitude", (0.5, 0.6, 0.85, 0.95), below=(0.5, 0.6))),
    ),
    Finding(
        "top-against-bottom",
        "dropping top layers beats dropping bottom layers",
        "Sajjad et al. 2020, section 4",
        tuple(
            Comparison(
                f"{drop} of 6 layers", f"layer-drop:drop={drop}", f"layer-drop:drop={drop},strategy=bottom"
            )
            for drop in (1, 2, 3)
        ),
    ),
    Finding(
        "groups-against-tensor",
        "group-wise quantization beats one range for a whole matrix",
        "Shen et al. 2020, Table 3",
        (
            Comparison("4 bits, untrained", "q-bert:train=false", "q-bert:groups=1,train=false"),
            Comparison("4 bits", "q-bert", "q-bert:groups=1"),
            Comparison("3 bits", "q-bert:bits=3", "q-bert:bits=3,groups=1"),
        ),
    ),
    Finding(
        "outliers",
        "outliers kept beat a dictionary alone",
        "Zadeh et al. 2020, section 3",
        (Comparison("3 bits", "gobo", "gobo:outliers=none"),),
    ),
    Finding(
        "distillation-against-labels",
        "a student that learns from a teacher beats the same student that learns from labels alone",
        "Hinton et al. 2015; Ganesh et al. 2021, section 4.2",
        (
            Comparison("three layers", "kd-logits", "kd-logits:alpha=1"),
            Comparison("BiLSTM", "bilstm", "bilstm:alpha=1"),
            Comparison("mean of embeddings", "ffn", "ffn:alpha=1"),
        ),
    ),
    Finding(
        "attention-and-logits",
        "learning attention maps and logits beats learning logits alone",
        "Wang et al. 2020; Ganesh et al. 2021, section 4.2",
        (
            Comparison("three layers", "minilm:logits=0.5", "kd-logits"),
            Comparison("three layers, one epoch each", "minilm:epochs=1,logits=0.5", "kd-logits"),
            Comparison("three layers, with states", "tinybert", "kd-logits"),
            Comparison("three layers, with states, one epoch each", "tinybert:epochs=1", "kd-logits"),
        ),
    ),
    Finding(
        "teacher-and-more-texts",
        "α = 0.5 with augmented texts beats labels alone without them",
        "the thesis behind pocketML/lil_bobby, Table 7.1",
        (
            Comparison("BiLSTM, byte pairs", "bilstm:alpha=0.5,augment=2", "bilstm:alpha=1"),
            Comparison("BiLSTM, the texts alone", "bilstm:alpha=1,augment=2", "bilstm:alpha=1"),
        ),
    ),
    Finding(
        "distillation-softens",
        "distillation softens the loss of eight bits and pruning in one run",
        "Movva et al. 2022, section 4",
        (
            Comparison(
                "60 % pruned",
                f"kd-logits:layers=6 + {GRADUAL} + q8bert",
                f"{GRADUAL} + q8bert",
            ),
        ),
    ),
    Finding(
        "patience-against-entropy",
        "leaving by patience is as good as leaving by entropy at equal speed, or better",
        "Zhou et al. 2020, Table 1",
        tuple(
            Comparison(
                f"patience {patience}, {{:.2f}} times as fast in FLOPs",
                f"pabee:patience={patience}",
                f"deebert:speed={speed}",
                figure="flops_ratio",
                task="sst2",
            )
            for patience, speed in SPEED_OF_PATIENCE.items()
        ),
    ),
    Finding(
        "half-of-the-word-vectors",
        "half of the word-vectors can go within 1.5 points",
        "Goyal et al. 2020, Table 2",
        tuple(
            Comparison(label, recipe, "baseline", margin=1.5, figure=figure, task="sst2")
            for label, figure, recipes in (
                (f"{{:.0f}} of {PLACES} left, padding among them", "word-vectors kept", HALF_OF_THE_PLACES),
                ("{:.0%} of the real ones left", LEFT, HALF_OF_THE_WORD_VECTORS),
            )
            for recipe in recipes
        ),
    ),
)
MASKS = Share(
    "the masks that magnitude chooses before and after fine-tuning differ in less than 6 to 10 %",
    "Gordon et al. 2020, section 5",
    tuple(f"magnitude:sparsity={sparsity}" for sparsity in (0.4, 0.6, 0.8, 0.9)),
    "mask_changed",
    0.10,
)
COLUMNS = (
    Column(key="finding", heading="Finding"),
    Column(key="setting", heading="Setting"),
    Column(key="task", heading="Task"),
    Column(key="seeds", heading="Seeds"),
    Column(key="first", heading="First"),
    Column(key="second", heading="Second"),
    Column(key="difference", heading="Difference"),
    Column(key="low", heading="95 % from"),
    Column(key="high", heading="to"),
    Column(key="verdict", heading="Verdict"),
)


def findings_table(records: Iterable[Record], model: str = MODEL) -> PlainTable:
    """Every comparison of which both sides are recorded on a task. Raises SkylineError where there is none."""
    found, _ = newest(records)
    runs: dict[tuple[str, str], dict[int, Quality]] = {}
    for record in found:
        if record.quality is not None and record.model == model and record.task is not None:
            runs.setdefault((record.recipe, record.task), {})[record.seed or 0] = record.quality
    tasks = sorted({task for _, task in runs})
    rows: list[list[Cell]] = []
    for finding in FINDINGS:
        for comparison in finding.comparisons:
            pair = [_canonical(comparison.first), _canonical(comparison.second)]
            for task in tasks:
                if comparison.task in (None, task) and all((recipe, task) in runs for recipe in pair):
                    row = _compared(comparison, task, runs[pair[0], task], runs[pair[1], task])
                    rows.append([f"{finding.statement} ({finding.source})", *row])
    rows += _shares(MASKS, runs, tasks)
    if not rows:
        raise SkylineError(
            f"no finding can be tried on the records of {model} yet; `skyline run findings --out profiles` does"
        )
    return PlainTable(
        name="findings",
        title=f"Findings of the papers, tried on {model}",
        columns=list(COLUMNS),
        rows=rows,
        notes=[
            "first and second: the task's metric on dev, mean over seeds; the difference's 95 % interval is paired",
            "reproduced: the interval lies on the expected side of zero; agrees: the difference does, the interval not",
            "one answer: that side answers every example alike, so the difference says what the other learnt, no more",
            "with one seed an interval covers the choice of dev examples only, not training's chance",
        ],
    )


def _canonical(recipe: str) -> str:
    """A recipe as records spell it."""
    return str(Recipe.parse(recipe))


def _compared(
    comparison: Comparison, task: str, first: dict[int, Quality], second: dict[int, Quality]
) -> list[Cell]:
    shared = sorted(first.keys() & second.keys())
    first, second = {s: first[s] for s in shared}, {s: second[s] for s in shared}
    label = _label(comparison, first)
    if not shared:
        return [label, task_title(task), "none shared", None, None, None, None, None, "no verdict"]
    drop = average_drop({task: first}, {task: second})
    low, high = drop.ci95 or (None, None)
    return [
        label,
        task_title(task),
        len(shared),
        score(task, first).mean,
        score(task, second).mean,
        drop.mean,
        low,
        high,
        verdict(comparison.expected, drop.mean, low, high, comparison.margin)
        + _collapsed(task, first, second),
    ]


def _collapsed(task: str, first: dict[int, Quality], second: dict[int, Quality]) -> str:
    sides = [
        name
        for name, seeds in (("first", first), ("second", second))
        if all(gives_one_answer(task, quality) for quality in seeds.values())
    ]
    return f" ({' and '.join(sides)}: one answer)" if sides else ""


def _label(comparison: Comparison, first: dict[int, Quality]) -> str:
    if comparison.figure is None:
        return comparison.label
    values = _figures(first, comparison.figure)
    # Percentages stand apart from their sign here, as in all tables.
    return comparison.label.format(fmean(values)).replace("%", " %") if values else comparison.first


def _figures(seeds: dict[int, Quality], figure: str) -> list[float]:
    """A training figure of each seed that has it."""
    return [
        stage.figures[figure]
        for quality in seeds.values()
        for stage in quality.training
        if figure in stage.figures
    ]


def verdict(
    expected: Expected, mean: float | None, low: float | None, high: float | None, margin: float = 0.0
) -> str:
    """What an interval of a difference says of an expectation: reproduced, agrees, differs or contradicted. With a
    margin, so much less than zero is still as expected.
    """
    if mean is None or low is None or high is None:
        return "no verdict"
    mean, low, high = mean + margin, low + margin, high + margin
    if expected == "below":
        mean, low, high = -mean, -high, -low
    if low > 0:
        return "reproduced"
    if high < 0:
        return "contradicted"
    return "agrees" if mean > 0 else "differs"


def _shares(
    share: Share, runs: dict[tuple[str, str], dict[int, Quality]], tasks: list[str]
) -> Iterator[list[Cell]]:
    for recipe in map(_canonical, share.recipes):
        for task in tasks:
            values = _figures(runs.get((recipe, task), {}), share.figure)
            if values:
                mean = 100 * fmean(values)
                verdict_ = "reproduced" if mean < 100 * share.limit else "contradicted"
                yield [
                    f"{share.statement} ({share.source})",
                    recipe,
                    task_title(task),
                    len(values),
                    mean,
                    100 * share.limit,
                    mean - 100 * share.limit,
                    None,
                    None,
                    verdict_,
                ]
