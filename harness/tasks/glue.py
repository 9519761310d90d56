"""The nine tasks of GLUE (Wang et al., 2019), from a folder in GLUE's own layout or from the hub.

The folder has the layout of the benchmark's download: `SST-2/train.tsv`, `SST-2/dev.tsv` and so on, tab-separated,
UTF-8 with an optional byte-order mark; quotes are literal. A split must have the official number of rows, because
boards compare its score with scores on the whole split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.common.errors import Code, SkylineError
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
    """Places of one task's texts and labels in the folder and on the hub.

    Attributes:
        name: the canonical id, also on the hub.
        title: the benchmark's name for the task and its folder.
        labels: the classes in the order of their ids, as on the hub; () for a score.
        file_labels: the same classes as the files spell them.
        columns: names of the columns in the files: label, text, second text (of a pair).
        hub_columns: names of the columns on the hub: text, second text (of a pair).
        metrics: the first is the primary one.
        header: column names of files that have no header line.
        files: the file of each split.
        hub_splits: the hub's name of each split.
        sizes: official numbers of rows of each split; several if official sources differ.
        tolerated: share of rows that may be broken; the reader skips them.
        averaged: False if averages leave the task out.
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
        # Line breaks inside questions break some rows of the official train.tsv. All loaders skip these rows: the hub
        # and fairseq keep 363,846 rows, TensorFlow Datasets 363,849.
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
    """Make the task. It reads the folder `data_dir`, or the hub if that is None.

    Raises SkylineError at once as `find_files` (folder) or `hub.require` (hub) does.
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
    """Return the file of each split in a data folder.

    The name of the task's sub-folder may be in any case, with or without dashes. Raises SkylineError: `not-found` for
    a missing folder or file, `unreadable` for a folder that cannot be listed.
    """
    advice = f"--data-dir or SKYLINE_DATA_DIR must name a folder that holds {title}/{files['train']}"
    try:
        folders = sorted(entry for entry in data_dir.iterdir() if entry.is_dir())
    except OSError as error:
        code = Code.UNREADABLE if data_dir.exists() else Code.NOT_FOUND
        raise SkylineError(f"{data_dir}: {error.strerror or 'cannot be read'}; {advice}", code) from None
    wanted = title.lower().replace("-", "")
    # Exact spelling first: if two folders differ only in case, their order on disk must not decide.
    matching = [folder for folder in folders if folder.name == title] or [
        folder for folder in folders if folder.name.lower().replace("-", "").replace("_", "") == wanted
    ]
    if not matching:
        raise SkylineError(f"{data_dir}: no folder '{title}' in it; {advice}", Code.NOT_FOUND)
    found = {split: matching[0] / name for split, name in files.items()}
    for path in found.values():
        if not path.is_file():
            needed = ", ".join(files.values())
            raise SkylineError(f"{path}: no such file; {title} needs {needed}", Code.NOT_FOUND)
    return found


def load_from_folder(spec: GlueTask, files: Mapping[str, Path], split: str) -> tuple[Example, ...]:
    """Read one split from its TSV file.

    Raises SkylineError that names file and line for bad data, or both numbers (`damaged`) if the number of rows is not
    the official one.
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
    """Read one split from the hub or its cache. Examples and errors are the same as from a folder."""
    examples: list[Example] = []
    for index, row in enumerate(hub.rows(spec.name, REPOSITORY, spec.name, dict(spec.hub_splits)[split])):
        gold = row["label"]
        if spec.labels and not 0 <= int(gold) < len(spec.labels):
            raise SkylineError(
                f"{REPOSITORY}, {spec.name}, {split} row {index}: label {gold} is not a class id from 0 to "
                f"{len(spec.labels) - 1}",
                Code.OUT_OF_RANGE,
            )
        label: Label = int(gold) if spec.labels else float(gold)
        text, *rest = (row[column] for column in spec.hub_columns)
        examples.append(Example(text, rest[0] if rest else None, label, f"{split}-{index}"))
    _check_size(spec, split, len(examples), f"{REPOSITORY}, {spec.name}, {dict(spec.hub_splits)[split]}")
    return tuple(examples)


def _check_size(spec: GlueTask, split: str, count: int, source: str) -> None:
    """Refuse a split without the official number of rows. The usual reason is a download that was cut off."""
    official = dict(spec.sizes).get(split)
    if official is not None and count not in official:
        raise SkylineError(
            f"{source}: {count} rows, but the {split} split of {spec.title} has "
            f"{' or '.join(map(str, official))}; fetch it again, or describe your own data in a TOML file",
            Code.DAMAGED,
        )
