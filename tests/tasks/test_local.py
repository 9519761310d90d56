from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.common.errors import Code
from harness.tasks import load_task, metrics
from tests.support.one_line_errors import refused
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
    (("kind =", "knid ="), Code.UNKNOWN_NAME, ("'knid'", "'kind'")),
    (("max_length", "maxlength"), Code.UNKNOWN_NAME, ("'maxlength'", "'max_length'")),
    (('text = "review"', 'text = "review"\npairs = "x"'), Code.UNKNOWN_NAME, ("'columns.pairs'", "'pair'")),
    (("dev =", "devel ="), Code.UNKNOWN_NAME, ("'files.devel'", "'dev'")),
    (('name = "reviews"', ""), Code.INCOMPLETE, ("'name'",)),
    (
        ('"classification"', '"clasification"'),
        Code.OUT_OF_RANGE,
        ("kind = 'clasification'", "'classification'"),
    ),
    (('["f1", "accuracy"]', '["f1", "acuracy"]'), Code.CONFLICT, ("metrics", "'acuracy'", "'accuracy'")),
    (('["f1", "accuracy"]', '["pearson"]'), Code.CONFLICT, ("metrics", "'pearson'", "classification")),
    (('["bad", "good"]', '["bad"]'), Code.CONFLICT, ("labels", "two")),
    (('["bad", "good"]', '["bad", "bad"]'), Code.CONFLICT, ("labels", "different")),
    (('["bad", "good"]', '["bad", "good", "fair"]'), Code.CONFLICT, ("metrics", "f1", "not 3")),
    (('"classification"', '"regression"'), Code.CONFLICT, ("labels", "regression")),
    (("max_length = 64", "max_length = 2"), Code.OUT_OF_RANGE, ("max_length = 2", "8")),
    (('name = "reviews"', 'name = "sst2"'), Code.DUPLICATE, ("'sst2'",)),
    (('name = "reviews"', 'name = "SST-2"'), Code.DUPLICATE, ("'SST-2'",)),
    (
        ('[files]\ntrain = "data/train.csv"\ndev = "data/dev.csv"', "files = 3"),
        Code.OUT_OF_RANGE,
        ("files = 3", "table"),
    ),
    (('text = "review"', "text = []"), Code.OUT_OF_RANGE, ("columns.text", "string")),
    (("max_length = 64", 'max_length = "long"'), Code.OUT_OF_RANGE, ("max_length = 'long'", "whole number")),
    (("max_length = 64", "low = nan"), Code.CONFLICT, ("low", "nan", "inf")),
    (("max_length = 64", "low = 5\nhigh = 5.0"), Code.CONFLICT, ("low", "high", "5")),
    (('name = "reviews"', 'name = "a/b"'), Code.OUT_OF_RANGE, ("name = 'a/b'", "1 to 64 letters")),
    (('name = "reviews"', f'name = "{"a" * 65}"'), Code.OUT_OF_RANGE, ("1 to 64 letters",)),
    (('name = "reviews"', 'name = "qqp.f1"'), Code.DUPLICATE, ("'qqp.f1'",)),
    (('name = "reviews"', 'name = "GLUE"'), Code.DUPLICATE, ("'GLUE'",)),
    (('[columns]\ntext = "review"\nlabel = "verdict"', ""), Code.INCOMPLETE, ("'columns'",)),
    (
        ('[columns]\ntext = "review"\nlabel = "verdict"', "[files.x]"),
        Code.UNKNOWN_NAME,
        ("'files.x'", "dev, train"),
    ),
    (("[files]", "[files"), Code.UNREADABLE, ("TOML",)),
    (("train.csv", "train.xlsx"), Code.WRONG_KIND, ("train.xlsx", ".tsv, .csv, .jsonl")),
    (("train.csv", "trian.csv"), Code.NOT_FOUND, ("trian.csv",)),
]


@pytest.mark.parametrize(("change", "code", "named"), BAD_DESCRIPTIONS)
def test_a_bad_description_is_one_line(
    change: tuple[str, str], code: Code, named: tuple[str, ...], tmp_path: Path
) -> None:
    assert change[0] in DESCRIPTION
    path = described(tmp_path)
    write(Path(path), [DESCRIPTION.replace(*change)])
    with refused(code, "reviews.toml", *named):
        load_task(path)


CSV_HEADER = "id,review,verdict"
BAD_ROWS = [
    (".csv", [CSV_HEADER, "1,ok,good", "2,bad"], Code.DAMAGED, ("train.csv, line 3:", "2 fields", "3")),
    (
        ".csv",
        [CSV_HEADER, "1,ok,good", "2,x,fair"],
        Code.OUT_OF_RANGE,
        ("train.csv, line 3:", "'fair'", "bad, good"),
    ),
    (".csv", [CSV_HEADER, '1,"two\nlines",good', "2,x,fair"], Code.OUT_OF_RANGE, ("line 4:", "'fair'")),
    (".csv", [CSV_HEADER, '1,"open,good'], Code.UNREADABLE, ("train.csv, line ", "CSV")),
    (".csv", [CSV_HEADER], Code.NO_DATA, ("train.csv", "header")),
    (
        ".csv",
        ["id,text,verdict", "1,ok,good"],
        Code.UNKNOWN_NAME,
        ("line 1:", "'review'", "id, text, verdict"),
    ),
    (
        ".tsv",
        ["review\tverdict", "ok\tgood", "ok"],
        Code.DAMAGED,
        ("train.tsv, line 3:", "1 fields", "last line"),
    ),
    (
        ".jsonl",
        ['{"review": "x", "verdict": "good"}', '{"review": "x'],
        Code.UNREADABLE,
        ("train.jsonl, line 2:", "JSON"),
    ),
    (".jsonl", ['{"review": "x"}'], Code.UNKNOWN_NAME, ("line 1:", "'verdict'", "review")),
    (".jsonl", ["[1]"], Code.WRONG_KIND, ("line 1:", "object", "list")),
    (".jsonl", ['{"review": null, "verdict": "good"}'], Code.WRONG_KIND, ("line 1:", "'review'", "null")),
    (".jsonl", ["", " "], Code.NO_DATA, ("train.jsonl", "empty")),
]


@pytest.mark.parametrize(("suffix", "rows", "code", "named"), BAD_ROWS)
def test_bad_rows_name_file_and_line(
    suffix: str, rows: list[str], code: Code, named: tuple[str, ...], tmp_path: Path
) -> None:
    task = load_task(described(tmp_path, train=rows, suffix=suffix))
    with refused(code, *named):
        task.train()


def test_a_length_that_nobody_gave_is_a_default(tmp_path: Path) -> None:
    given = load_task(described(tmp_path))
    default = load_task(described(tmp_path, DESCRIPTION.replace("max_length = 64", "")))
    assert (given.fixed_length, default.fixed_length) == (True, False)
    assert default.length_within(48) == 48
    with refused(Code.TOO_LONG, "reviews", "max_length 64", "48 positions"):
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
    with refused(Code.NOT_FOUND, "none.toml"):
        load_task(str(tmp_path / "none.toml"))
