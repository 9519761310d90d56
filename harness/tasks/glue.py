"""The nine tasks of GLUE (Wang et al., 2019), from a folder in GLUE's own layout or from the hub.

The layout is that of the benchmark's own download: `SST-2/train.tsv`, `SST-2/dev.tsv` and so on, UTF-8 with
an optional byte-order mark, tab-separated, quotes literal. A split of another size than the benchmark's is
refused: a score on part of it would stand on boards beside scores on all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.common.errors import SkylineError
from harness.tasks import hub, rows
from harness.tasks.base import Example, Label, Task

REPOSITORY = "nyu-mll/glue"
MAX_LENGTH = 128
SCORE_RANGE = (0.0, 5.0)
BINARY = ("0", "1")
ENTAILMENT = ("entailment", "not_entailment")
SENTENCES = ("sentence1", "sentence2")


@dataclass(frozen=True, kw_only=True)
class GlueTask:
    """Where one task's texts and labels stand, in the folder and on the hub.

    Attributes:
        name: the canonical id, which is also the hub's name for the task.
        title: the benchmark's name for the task, and for its folder.
        labels: the classes in the order of their ids (the hub's order); () for a score.
        file_labels: the same as the files spell them.
        columns: label, text and, for a pair, second text, as the header names them.
        hub_columns: text and, for a pair, second text.
        header: column names where the file has no header line.
        metrics: the first is the primary one.
        files: the file of each split.
        hub_splits: the hub's name of each split.
        sizes: the official number of rows of each split (more than one where official sources differ).
        tolerated: the share of broken rows that is left out without an error.
        averaged: False where the task stays out of averages.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    file_labels: tuple[str, ...]
    columns: tuple[str, ...]
    hub_columns: tuple[str, ...]
    metrics: tuple[str, ...]
    header: tuple[str, ...] | None = None
    files: tuple[tuple[str, str], ...] = (("train", "train.tsv"), ("dev", "dev.tsv"))
    hub_splits: tuple[tuple[str, str], ...] = (("train", "train"), ("dev", "validation"))
    sizes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    tolerated: float = 0.0
    averaged: bool = True


TASKS = (
    GlueTask(
        name="sst2",
        title="SST-2",
        labels=("negative", "positive"),
        file_labels=BINARY,
        columns=("label", "sentence"),
        hub_columns=("sentence",),
        metrics=("accuracy",),
        sizes=(("train", (67_349,)), ("dev", (872,))),
    ),
    GlueTask(
        name="mrpc",
        title="MRPC",
        labels=("not_equivalent", "equivalent"),
        file_labels=BINARY,
        columns=("Quality", "#1 String", "#2 String"),
        hub_columns=SENTENCES,
        metrics=("accuracy", "f1"),
        sizes=(("train", (3_668,)), ("dev", (408,))),
    ),
    GlueTask(
        name="rte",
        title="RTE",
        labels=ENTAILMENT,
        file_labels=ENTAILMENT,
        columns=("label", *SENTENCES),
        hub_columns=SENTENCES,
        metrics=("accuracy",),
        sizes=(("train", (2_490,)), ("dev", (277,))),
    ),
    GlueTask(
        name="cola",
        title="CoLA",
        labels=("unacceptable", "acceptable"),
        file_labels=BINARY,
        columns=("label", "sentence"),
        hub_columns=("sentence",),
        metrics=("matthews_correlation",),
        header=("source", "label", "star", "sentence"),
        sizes=(("train", (8_551,)), ("dev", (1_043,))),
    ),
    GlueTask(
        name="stsb",
        title="STS-B",
        labels=(),
        file_labels=(),
        columns=("score", *SENTENCES),
        hub_columns=SENTENCES,
        metrics=("pearson", "spearman"),
        sizes=(("train", (5_749,)), ("dev", (1_500,))),
    ),
    GlueTask(
        name="wnli",
        title="WNLI",
        labels=("not_entailment", "entailment"),
        file_labels=BINARY,
        columns=("label", *SENTENCES),
        hub_columns=SENTENCES,
        metrics=("accuracy",),
        sizes=(("train", (635,)), ("dev", (71,))),
        averaged=False,
    ),
    GlueTask(
        name="qnli",
        title="QNLI",
        labels=ENTAILMENT,
        file_labels=ENTAILMENT,
        columns=("label", "question", "sentence"),
        hub_columns=("question", "sentence"),
        metrics=("accuracy",),
        # The benchmark's second version of QNLI; the first, of 108,436 and 5,732 rows, is retired.
        sizes=(("train", (104_743,)), ("dev", (5_463,))),
    ),
    GlueTask(
        name="qqp",
        title="QQP",
        labels=("not_duplicate", "duplicate"),
        file_labels=BINARY,
        columns=("is_duplicate", "question1", "question2"),
        hub_columns=("question1", "question2"),
        metrics=("accuracy", "f1"),
        # Line breaks inside a question have broken some rows of the benchmark's own train.tsv. Every loader leaves
        # them out: the hub's and fairseq's keep the smaller number, that of TensorFlow Datasets the larger.
        sizes=(("train", (363_846, 363_849)), ("dev", (40_430,))),
        tolerated=1e-4,
    ),
    GlueTask(
        name="mnli",
        title="MNLI",
        labels=("entailment", "neutral", "contradiction"),
        file_labels=("entailment", "neutral", "contradiction"),
        columns=("gold_label", *SENTENCES),
        hub_columns=("premise", "hypothesis"),
        metrics=("accuracy",),
        sizes=(("train", (392_702,)), ("dev", (9_815,)), ("dev_mismatched", (9_832,))),
        files=(
            ("train", "train.tsv"),
            ("dev", "dev_matched.tsv"),
            ("dev_mismatched", "dev_mismatched.tsv"),
        ),
        hub_splits=(
            ("train", "train"),
            ("dev", "validation_matched"),
            ("dev_mismatched", "validation_mismatched"),
        ),
    ),
)


def task(spec: GlueTask, data_dir: Path | None) -> Task:
    """The task, from the folder where one is given and from the hub otherwise.

    Raises `SkylineError` at once where a file is missing, or where there is no folder and the hub neither
    answers nor was visited before.
    """
    files: dict[str, Path] = {}
    if data_dir is None:
        hub.require(spec.name, REPOSITORY, spec.name, dict(spec.hub_splits))
        loader = partial(load_from_hub, spec)
    else:
        files = find_files(data_dir, spec.title, dict(spec.files))
        loader = partial(load_from_folder, spec, files)
    return Task(
        name=spec.name,
        title=spec.title,
        kind="classification" if spec.labels else "regression",
        labels=spec.labels,
        metrics=spec.metrics,
        metric=spec.metrics[0],
        max_length=MAX_LENGTH,
        synthetic=False,
        loader=loader,
        dev_splits=tuple(name for name, _ in spec.files if name != "train"),
        averaged=spec.averaged,
        source="hub" if data_dir is None else "folder",
        files=tuple(files.values()),
    )


def find_files(data_dir: Path, title: str, files: Mapping[str, str]) -> dict[str, Path]:
    """The file of each split in a data folder; raises `SkylineError` that names what is missing.

    The task's sub-folder may be spelt in any case, with or without dashes.
    """
    advice = f"--data-dir or SKYLINE_DATA_DIR must name a folder that holds {title}/{files['train']}"
    try:
        folders = sorted(entry for entry in data_dir.iterdir() if entry.is_dir())
    except OSError as error:
        raise SkylineError(f"{data_dir}: {error.strerror or 'cannot be read'}; {advice}") from None
    wanted = title.lower().replace("-", "")
    # Exact spelling first: where two folders differ in case only, the order of reading must not decide.
    matching = [folder for folder in folders if folder.name == title] or [
        folder for folder in folders if folder.name.lower().replace("-", "").replace("_", "") == wanted
    ]
    if not matching:
        raise SkylineError(f"{data_dir}: no folder '{title}' in it; {advice}")
    found = {split: matching[0] / name for split, name in files.items()}
    for path in found.values():
        if not path.is_file():
            raise SkylineError(f"{path}: no such file; {title} needs {', '.join(files.values())}")
    return found


def load_from_folder(spec: GlueTask, files: Mapping[str, Path], split: str) -> tuple[Example, ...]:
    """One split from its TSV file; raises `SkylineError` naming file and line for bad data, and both numbers
    for another number of rows than the official one.
    """
    path = files[split]
    ids = {label: index for index, label in enumerate(spec.file_labels)}
    examples: list[Example] = []
    for line, (gold, text, *rest) in rows.tsv_rows(path, spec.columns, spec.header, spec.tolerated):
        label: Label = (
            rows.class_id(path, line, gold, ids) if ids else rows.score(path, line, gold, *SCORE_RANGE)
        )
        examples.append(Example(text, rest[0] if rest else None, label, f"{split}-{len(examples)}"))
    _check_size(spec, split, len(examples), str(path))
    return tuple(examples)


def load_from_hub(spec: GlueTask, split: str) -> tuple[Example, ...]:
    """One split from the hub or its cache, as the same examples that the folder gives; raises alike."""
    examples: list[Example] = []
    for index, row in enumerate(hub.rows(spec.name, REPOSITORY, spec.name, dict(spec.hub_splits)[split])):
        gold = row["label"]
        if spec.labels and not 0 <= int(gold) < len(spec.labels):
            raise SkylineError(f"{REPOSITORY}, {spec.name}, {split} row {index}: label {gold} is no class")
        label: Label = int(gold) if spec.labels else float(gold)
        text, *rest = (row[column] for column in spec.hub_columns)
        examples.append(Example(text, rest[0] if rest else None, label, f"{split}-{index}"))
    _check_size(spec, split, len(examples), f"{REPOSITORY}, {spec.name}, {dict(spec.hub_splits)[split]}")
    return tuple(examples)


def _check_size(spec: GlueTask, split: str, count: int, source: str) -> None:
    """Refuse a split that is not the benchmark's own. A cut download is the usual reason."""
    official = dict(spec.sizes).get(split)
    if official is not None and count not in official:
        raise SkylineError(
            f"{source}: {count} rows, but the {split} split of {spec.title} has "
            f"{' or '.join(map(str, official))}; fetch it again, or describe data of your own in a TOML file"
        )
