from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.common.errors import SkylineError
from harness.tasks import load_task, metrics
from tests.support.task_files import write

DESCRIPTION = """
name = "reviews"
kind = "classification"
labels = ["bad", "good"]
metrics = ["f1", "accuracy"]
max_length = 64

[files]
train = "data/train.csv"
dev = "data/dev.csv"

[columns]
text = "review"
label = "verdict"
"""

TRAIN = ["id,review,verdict", '1,"fine, and ""short""",good', '2,"two\nlines",bad', "3,plain,good"]
DEV = ["id,review,verdict", "4,dull,bad"]


def described(root: Path, text: str = DESCRIPTION, train: list[str] = TRAIN, suffix: str = ".csv") -> str:
    write(root / f"data/train{suffix}", train)
    write(root / f"data/dev{suffix}", DEV if suffix == ".csv" else train)
    write(root / "reviews.toml", [text.replace(".csv", suffix)])
    return str(root / "reviews.toml")


def test_csv_with_quotes(tmp_path: Path) -> None:
    task = load_task(described(tmp_path))
    assert [(e.text, e.pair, e.label) for e in task.train()] == [
        ('fine, and "short"', None, 1), ("two\nlines", None, 0), ("plain", None, 1),
    ]  # fmt: skip
    assert [(e.text, e.label) for e in task.dev()] == [("dull", 0)]
    assert (task.name, task.labels, task.metric, task.metrics, task.max_length, task.synthetic) == (
        "reviews", ("bad", "good"), "f1", ("f1", "accuracy"), 64, False,
    )  # fmt: skip
    assert metrics.compute(task, [1, 0, 0], [e.label for e in task.train()])["accuracy"] == pytest.approx(
        200 / 3
    )


def test_the_description_may_be_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described(tmp_path / "deep")
    monkeypatch.chdir(tmp_path)
    assert len(load_task("deep/reviews.toml").train()) == 3


def test_tsv_and_jsonl_pairs_and_scores(tmp_path: Path) -> None:
    text = """
        name = "near"
        kind = "regression"
        low = 0
        high = 1
        files = {train = "data/train.csv", dev = "data/dev.csv"}
        columns = {text = "a", pair = "b", label = "score"}
    """
    rows = [("one", 'a "quoted" word', 0.5), ("two", "", 1)]
    tsv = ["a\tb\tscore", *(f"{a}\t{b}\t{s}" for a, b, s in rows)]
    jsonl = [json.dumps({"score": s, "b": b, "a": a, "more": None}) for a, b, s in rows]
    one = load_task(described(tmp_path / "t", text, tsv, ".tsv"))
    two = load_task(described(tmp_path / "j", text, jsonl, ".jsonl"))
    assert [(e.text, e.pair, e.label) for e in one.train()] == rows
    assert one.fingerprint() == two.fingerprint()
    assert (one.metrics, one.metric, one.output_size, one.max_length) == (("pearson",), "pearson", 1, 128)


def test_labels_may_be_integers(tmp_path: Path) -> None:
    text = DESCRIPTION.replace('["bad", "good"]', "[0, 1]")
    rows = [json.dumps({"review": "x", "verdict": verdict}) for verdict in (1, "0")]
    assert [e.label for e in load_task(described(tmp_path, text, rows, ".jsonl")).train()] == [1, 0]


BAD_DESCRIPTIONS = [
    (("kind =", "knid ="), r"reviews\.toml: key 'knid' is unknown; did you mean 'kind'"),
    (("max_length", "maxlength"), r"reviews\.toml: key 'maxlength' is unknown; did you mean 'max_length'"),
    (
        ('text = "review"', 'text = "review"\npairs = "x"'),
        "key 'columns.pairs' is unknown; did you mean 'pair'",
    ),
    (("dev =", "devel ="), "key 'files.devel' is unknown; did you mean 'dev'"),
    (('name = "reviews"', ""), "key 'name' is missing"),
    (
        ('"classification"', '"clasification"'),
        "kind = 'clasification' must be classification or regression; did you mean 'classification'",
    ),
    (
        ('["f1", "accuracy"]', '["f1", "acuracy"]'),
        "unknown metric 'acuracy' for classification; did you mean 'acc",
    ),
    (('["f1", "accuracy"]', '["pearson"]'), "unknown metric 'pearson' for classification"),
    (('["bad", "good"]', '["bad"]'), "labels: a classification task needs at least two"),
    (
        ('["bad", "good"]', '["bad", "bad"]'),
        "labels: a classification task needs at least two, all different",
    ),
    (('["bad", "good"]', '["bad", "good", "fair"]'), "f1 is that of the second of two labels; there are 3"),
    (('"classification"', '"regression"'), "labels: a regression task has none"),
    (("max_length = 64", "max_length = 2"), "max_length = 2 must be .* 8"),
    (('name = "reviews"', 'name = "sst2"'), "name 'sst2' is that of a built-in task"),
    (('name = "reviews"', 'name = "SST-2"'), "name 'SST-2' is that of a built-in task"),
    (('[files]\ntrain = "data/train.csv"\ndev = "data/dev.csv"', "files = 3"), "files = 3 must be a table"),
    (('text = "review"', "text = []"), "columns.text must be a string"),
    (("max_length = 64", 'max_length = "long"'), "max_length = 'long' must be a whole number"),
    (("max_length = 64", "low = nan"), "low: .* nan is not below inf"),
    (("max_length = 64", "low = 5\nhigh = 5.0"), "low: .* 5 is not below 5"),
    (('name = "reviews"', 'name = "a/b"'), "name = 'a/b' must be 1 to 64 letters"),
    (('name = "reviews"', f'name = "{"a" * 65}"'), "must be 1 to 64 letters"),
    (('name = "reviews"', 'name = "qqp.f1"'), "name 'qqp.f1' is that of a built-in task"),
    (('name = "reviews"', 'name = "GLUE"'), "name 'GLUE' is that of a built-in task"),
    (('[columns]\ntext = "review"\nlabel = "verdict"', ""), "key 'columns' is missing"),
    (
        ('[columns]\ntext = "review"\nlabel = "verdict"', "[files.x]"),
        "key 'files.x' is unknown; known: dev, tr",
    ),
    (("[files]", "[files"), "not TOML"),
    (("train.csv", "train.xlsx"), r"train\.xlsx is none of \.tsv, \.csv, \.jsonl"),
    (("train.csv", "trian.csv"), r"trian\.csv: no such file; reviews\.toml names it"),
]


@pytest.mark.parametrize(("change", "message"), BAD_DESCRIPTIONS)
def test_a_bad_description_is_one_line(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    assert change[0] in DESCRIPTION
    path = described(tmp_path)
    write(Path(path), [DESCRIPTION.replace(*change)])
    with pytest.raises(SkylineError, match=message) as caught:
        load_task(path)
    assert "\n" not in str(caught.value)
    assert "reviews.toml" in str(caught.value)


CSV_HEADER = "id,review,verdict"
BAD_ROWS = [
    (".csv", [CSV_HEADER, "1,ok,good", "2,bad"], r"train\.csv, line 3: 2 fields where 3 are needed"),
    (
        ".csv",
        [CSV_HEADER, "1,ok,good", "2,x,fair"],
        r"train\.csv, line 3: label 'fair' is not one of bad, good",
    ),
    (".csv", [CSV_HEADER, '1,"two\nlines",good', "2,x,fair"], r"line 4: label 'fair'"),
    (".csv", [CSV_HEADER, '1,"open,good'], r"train\.csv, line \d: not CSV"),
    (".csv", [CSV_HEADER], "no rows after the header"),
    (
        ".csv",
        ["id,text,verdict", "1,ok,good"],
        r"line 1: no column 'review'; known: id, text, verdict",
    ),
    (".tsv", ["review\tverdict", "ok\tgood", "ok"], r"train\.tsv, line 3: 1 fields where 2 .* cut off"),
    (".jsonl", ['{"review": "x", "verdict": "good"}', '{"review": "x'], r"train\.jsonl, line 2: not JSON"),
    (".jsonl", ['{"review": "x"}'], r"line 1: no key 'verdict'; known: review"),
    (".jsonl", ["[1]"], r"line 1: a JSON object is needed, not list"),
    (
        ".jsonl",
        ['{"review": null, "verdict": "good"}'],
        r"line 1: 'review' must be text or a number, not null",
    ),
    (".jsonl", ["", " "], "the file is empty"),
]


@pytest.mark.parametrize(("suffix", "rows", "message"), BAD_ROWS)
def test_bad_rows_name_file_and_line(suffix: str, rows: list[str], message: str, tmp_path: Path) -> None:
    task = load_task(described(tmp_path, train=rows, suffix=suffix))
    with pytest.raises(SkylineError, match=message) as caught:
        task.train()
    assert "\n" not in str(caught.value)


def test_a_length_that_nobody_gave_is_a_default(tmp_path: Path) -> None:
    given = load_task(described(tmp_path))
    default = load_task(described(tmp_path, DESCRIPTION.replace("max_length = 64", "")))
    assert (given.fixed_length, default.fixed_length) == (True, False)
    assert default.length_within(48) == 48
    with pytest.raises(SkylineError, match="task reviews has max_length 64, but the model has 48 positions"):
        given.length_within(48)


def test_the_hash_of_a_description_is_that_of_what_it_says(tmp_path: Path) -> None:
    path = described(tmp_path)
    hashes = [load_task(path).described]
    for old, new in (
        ("[files]", "[files]  # said in other words"),
        ("max_length = 64", "max_length=64"),
        ("max_length = 64", "max_length = 65"),
        ('["f1", "accuracy"]', '["accuracy", "f1"]'),
        ('label = "verdict"', 'label = "id"'),
        ('name = "reviews"', 'name = "other"'),
    ):
        write(Path(path), [DESCRIPTION.replace(old, new)])
        hashes.append(load_task(path).described)
    assert hashes[0] == hashes[1] == hashes[2]
    assert len(set(hashes)) == 5
    assert load_task("toy-pairs").described is None


def test_the_default_metric_may_be_written_out(tmp_path: Path) -> None:
    line = 'metrics = ["f1", "accuracy"]'
    hashes = [
        load_task(described(tmp_path, DESCRIPTION.replace(line, said))).described
        for said in ("", 'metrics = ["accuracy"]')
    ]
    assert hashes[0] == hashes[1]


def test_a_missing_description(tmp_path: Path) -> None:
    with pytest.raises(SkylineError, match=r"none\.toml: no such task description"):
        load_task(str(tmp_path / "none.toml"))
