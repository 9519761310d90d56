from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.common.errors import Code
from harness.tasks import glue as glue_tasks
from harness.tasks import load_task
from harness.tasks.base import Example
from tests.support.one_line_errors import refused
from tests.support.task_files import allow_any_size, tabs, write

STSB_HEADER = (
    "index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1",
    "sentence2", "score",
)  # fmt: skip
MNLI_HEADER = (
    "index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse",
    "sentence1_parse", "sentence2_parse", "sentence1", "sentence2", "label1", "gold_label",
)  # fmt: skip


def stsb_row(index: int, one: str, two: str, score: str) -> tuple[str, ...]:
    return (str(index), "genre", "file", "2012", "0001", "none", "none", one, two, score)


def mnli_row(index: int, one: str, two: str, label: str) -> tuple[str, ...]:
    return (
        str(index),
        "1p",
        "1q",
        "letters",
        "( a )",
        "( b )",
        "(ROOT a)",
        "(ROOT b)",
        one,
        two,
        label,
        label,
    )


FILES: dict[str, list[str]] = {
    "SST-2/train.tsv": tabs(
        ("sentence", "label"), ('a " quoted joy ', "1"), ("a bore ", "0"), ("fine ", "1")
    ),
    "SST-2/dev.tsv": tabs(("sentence", "label"), ("no fun ", "0"), ("all fun ", "1")),
    "MRPC/train.tsv": tabs(
        ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"),
        ("1", "11", "12", 'He said " yes " .', "He agreed ."),
        ("0", "13", "14", "It rained .", "It did not ."),
    ),
    "MRPC/dev.tsv": tabs(
        ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"), ("0", "15", "16", "One .", "Two .")
    ),
    "RTE/train.tsv": tabs(
        ("index", "sentence1", "sentence2", "label"),
        ("0", "A dog ran.", "An animal ran.", "entailment"),
        ("1", "A dog ran.", "A cat ran.", "not_entailment"),
    ),
    "RTE/dev.tsv": tabs(
        ("index", "sentence1", "sentence2", "label"), ("0", "It is so.", "It is.", "entailment")
    ),
    "CoLA/train.tsv": tabs(("xx01", "1", "", "Anna read it."), ("xx01", "0", "*", "Read Anna it the.")),
    "CoLA/dev.tsv": tabs(("xx02", "1", "", "Ben slept.")),
    "STS-B/train.tsv": tabs(
        STSB_HEADER,
        stsb_row(0, "A plane flies.", "A plane is flying.", "5.000"),
        stsb_row(1, "Up.", "Eat.", "0.25"),
    ),
    "STS-B/dev.tsv": tabs(STSB_HEADER, stsb_row(0, "One.", "Two.", "2")),
    "WNLI/train.tsv": tabs(
        ("index", "sentence1", "sentence2", "label"), ("0", "The cup fell on it.", "The cup fell.", "1")
    ),
    "WNLI/dev.tsv": tabs(
        ("index", "sentence1", "sentence2", "label"), ("0", "It broke.", "The cup broke.", "0")
    ),
    "QNLI/train.tsv": tabs(
        ("index", "question", "sentence", "label"),
        ("0", "Who came?", "Anna came.", "entailment"),
        ("1", "Who came?", "It rained.", "not_entailment"),
    ),
    "QNLI/dev.tsv": tabs(
        ("index", "question", "sentence", "label"), ("0", "When?", "At noon.", "entailment")
    ),
    "QQP/train.tsv": tabs(
        ("id", "qid1", "qid2", "question1", "question2", "is_duplicate"),
        ("0", "1", "2", "How do I swim?", "How can I swim?", "1"),
        ("1", "3", "4", "What is it?", "Who is it?", "0"),
    ),
    "QQP/dev.tsv": tabs(
        ("id", "qid1", "qid2", "question1", "question2", "is_duplicate"), ("0", "1", "2", "Why?", "How?", "0")
    ),
    "MNLI/train.tsv": tabs(
        MNLI_HEADER,
        mnli_row(0, "He ran.", "He moved.", "entailment"),
        mnli_row(1, "He ran.", "He won.", "neutral"),
        mnli_row(2, "He ran.", "He slept.", "contradiction"),
    ),
    "MNLI/dev_matched.tsv": tabs(MNLI_HEADER, mnli_row(0, "Yes.", "No.", "contradiction")),
    "MNLI/dev_mismatched.tsv": tabs(
        MNLI_HEADER, mnli_row(0, "Yes.", "Perhaps.", "neutral"), mnli_row(1, "Yes.", "Yes.", "entailment")
    ),
}


@pytest.fixture
def glue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write files of a few rows, and let the tasks accept them."""
    allow_any_size(monkeypatch)
    for name, lines in FILES.items():
        write(tmp_path / name, lines)
    return tmp_path


EXPECTED = {
    "sst2": (('a " quoted joy ', None, 1), ("a bore ", None, 0), ("fine ", None, 1)),
    "mrpc": (('He said " yes " .', "He agreed .", 1), ("It rained .", "It did not .", 0)),
    "rte": (("A dog ran.", "An animal ran.", 0), ("A dog ran.", "A cat ran.", 1)),
    "cola": (("Anna read it.", None, 1), ("Read Anna it the.", None, 0)),
    "stsb": (("A plane flies.", "A plane is flying.", 5.0), ("Up.", "Eat.", 0.25)),
    "wnli": (("The cup fell on it.", "The cup fell.", 1),),
    "qnli": (("Who came?", "Anna came.", 0), ("Who came?", "It rained.", 1)),
    "qqp": (("How do I swim?", "How can I swim?", 1), ("What is it?", "Who is it?", 0)),
    "mnli": (("He ran.", "He moved.", 0), ("He ran.", "He won.", 1), ("He ran.", "He slept.", 2)),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_task_loads_from_its_official_layout(name: str, glue: Path) -> None:
    task = load_task(name, glue)
    assert tuple((e.text, e.pair, e.label) for e in task.train()) == EXPECTED[name]
    assert all(isinstance(e.label, float if task.kind == "regression" else int) for e in task.train())
    assert len(task.dev()) >= 1
    assert task.name == name
    assert task.source == "folder"
    assert not task.synthetic
    assert len({e.id for e in (*task.train(), *task.dev())}) == len(task.train()) + len(task.dev())


def test_primary_metrics_are_the_benchmarks_own(glue: Path) -> None:
    primary = {name: load_task(name, glue).metric for name in EXPECTED}
    assert primary.pop("cola") == "matthews_correlation"
    assert primary.pop("stsb") == "pearson"
    assert set(primary.values()) == {"accuracy"}
    assert load_task("mrpc", glue).metrics == load_task("qqp", glue).metrics == ("accuracy", "f1")
    assert load_task("stsb", glue).metrics == ("pearson", "spearman")
    assert [name for name in EXPECTED if not load_task(name, glue).averaged] == ["wnli"]


def test_mnli_has_a_second_dev_split(glue: Path) -> None:
    task = load_task("mnli", glue)
    assert task.splits == ("train", "dev", "dev_mismatched")
    assert [e.label for e in task.dev()] == [2]
    assert [e.label for e in task.split("dev_mismatched")] == [1, 0]


@pytest.mark.parametrize("name", ["sst2", "SST-2", "sst-2", "SST_2", "Sst2"])
def test_a_task_is_found_in_any_spelling(name: str, glue: Path) -> None:
    assert load_task(name, glue).title == "SST-2"


def test_the_folder_is_found_in_any_spelling_and_through_the_environment(
    glue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKYLINE_DATA_DIR", str(glue))
    one = load_task("stsb").fingerprint()
    (glue / "STS-B").rename(glue / "sts-b")
    two = load_task("stsb")
    assert one == two.fingerprint()
    (glue / "sts-b").rename(glue / "STSB")
    assert load_task("STS-B", str(glue)).train() == two.train()


def test_byte_order_mark_and_carriage_returns_make_no_difference(glue: Path) -> None:
    plain = load_task("mrpc", glue).fingerprint()
    write(glue / "MRPC/train.tsv", FILES["MRPC/train.tsv"], encoding="utf-8-sig")
    write(glue / "MRPC/dev.tsv", FILES["MRPC/dev.tsv"], newline="\r\n")
    assert load_task("mrpc", glue).fingerprint() == plain


def test_line_separators_of_unicode_stay_inside_a_sentence(glue: Path) -> None:
    odd = "one\u2028two\x85three\x0cfour"
    write(glue / "CoLA/dev.tsv", tabs(("xx", "1", "", odd)))
    assert [e.text for e in load_task("cola", glue).dev()] == [odd]


def test_an_unknown_task_suggests_the_nearest() -> None:
    with refused(Code.UNKNOWN_NAME, "'mprc'", "'mrpc'"):
        load_task("mprc")


def replace(name: str, line: int, text: str) -> Callable[[Path], None]:
    """Replace one line (counted from 1) by `text`."""

    def change(root: Path) -> None:
        lines = list(FILES[name])
        lines[line - 1] = text
        write(root / name, lines)

    return change


def content(name: str, data: bytes) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / name).write_bytes(data)

    return change


def cut(name: str, characters: int) -> Callable[[Path], None]:
    """Cut the end of a file."""

    def change(root: Path) -> None:
        data = (root / name).read_bytes()
        (root / name).write_bytes(data[: len(data) - characters])

    return change


BAD = [
    (
        "sst2",
        replace("SST-2/train.tsv", 3, "a bore \t2"),
        Code.OUT_OF_RANGE,
        ("SST-2/train.tsv, line 3:", "'2'", "0, 1"),
    ),
    (
        "sst2",
        replace("SST-2/train.tsv", 3, "a bore "),
        Code.DAMAGED,
        ("SST-2/train.tsv, line 3:", "1 fields", "2"),
    ),
    (
        "sst2",
        replace("SST-2/train.tsv", 2, "a\tbore\t1"),
        Code.DAMAGED,
        ("SST-2/train.tsv, line 2:", "3 fields", "2"),
    ),
    (
        "sst2",
        replace("SST-2/train.tsv", 3, "a bore \t"),
        Code.OUT_OF_RANGE,
        ("SST-2/train.tsv, line 3:", "empty"),
    ),
    (
        "sst2",
        replace("SST-2/train.tsv", 1, "sentence\tlabels"),
        Code.UNKNOWN_NAME,
        ("line 1:", "'label'", "'labels'"),
    ),
    ("sst2", cut("SST-2/train.tsv", 4), Code.DAMAGED, ("SST-2/train.tsv, line 4:", "1 fields", "last line")),
    ("sst2", content("SST-2/train.tsv", b""), Code.NO_DATA, ("SST-2/train.tsv", "empty")),
    ("sst2", content("SST-2/train.tsv", b"\n \n"), Code.NO_DATA, ("SST-2/train.tsv", "empty")),
    ("sst2", content("SST-2/train.tsv", b"sentence\tlabel\n"), Code.NO_DATA, ("SST-2/train.tsv", "header")),
    (
        "sst2",
        content("SST-2/train.tsv", b"sentence\tlabel\nok\t1\nb\xff\t1\n"),
        Code.UNREADABLE,
        ("train.tsv, line 3:", "0xff", "UTF-8"),
    ),
    (
        "sst2",
        lambda root: (root / "SST-2/dev.tsv").unlink(),
        Code.NOT_FOUND,
        ("SST-2/dev.tsv", "SST-2 needs"),
    ),
    (
        "mnli",
        lambda root: (root / "MNLI/dev_mismatched.tsv").unlink(),
        Code.NOT_FOUND,
        ("dev_mismatched.tsv",),
    ),
    (
        "mnli",
        replace("MNLI/train.tsv", 3, "\t".join(mnli_row(1, "a", "b", "-"))),
        Code.OUT_OF_RANGE,
        ("line 3:", "'-'"),
    ),
    (
        "rte",
        replace("RTE/train.tsv", 2, "0\ta\tb\tmaybe"),
        Code.OUT_OF_RANGE,
        ("line 2:", "'maybe'", "entailment, not_entailment"),
    ),
    (
        "cola",
        replace("CoLA/train.tsv", 2, "xx01\tyes\t\tA."),
        Code.OUT_OF_RANGE,
        ("CoLA/train.tsv, line 2:", "'yes'"),
    ),
    (
        "cola",
        replace("CoLA/train.tsv", 1, "xx01\t1\tA."),
        Code.DAMAGED,
        ("CoLA/train.tsv, line 1:", "3 fields", "4"),
    ),
    *(
        (
            "stsb",
            replace("STS-B/train.tsv", 3, "\t".join(stsb_row(1, "a", "b", score))),
            code,
            ("STS-B/train.tsv, line 3:", name),
        )
        for score, code, name in (
            ("5.1", Code.OUT_OF_RANGE, "score 5.1"),
            ("-0.1", Code.OUT_OF_RANGE, "score -0.1"),
            ("high", Code.WRONG_KIND, "'high'"),
            ("nan", Code.WRONG_KIND, "'nan'"),
            ("", Code.WRONG_KIND, "''"),
        )
    ),
    (
        "qqp",
        replace("QQP/train.tsv", 2, "0\t1\t2\tHow"),
        Code.DAMAGED,
        ("QQP/train.tsv, line 2:", "4 fields", "6"),
    ),
]


@pytest.mark.parametrize(("name", "change", "code", "named"), BAD)
def test_bad_data_name_file_and_line(
    name: str, change: Callable[[Path], None], code: Code, named: tuple[str, ...], glue: Path
) -> None:
    change(glue)
    with refused(code, *named):
        load_task(name, glue).fingerprint()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with refused(Code.NOT_FOUND, "nowhere", "--data-dir", "SKYLINE_DATA_DIR"):
        load_task("mrpc", tmp_path / "nowhere")
    with refused(Code.NOT_FOUND, "'MRPC'", "--data-dir", "SKYLINE_DATA_DIR"):
        load_task("mrpc", tmp_path)
    (tmp_path / "file").touch()
    with refused(Code.UNREADABLE, str(tmp_path / "file"), "--data-dir"):
        load_task("mrpc", tmp_path / "file")


OFFICIAL = [(spec.name, split) for spec in glue_tasks.TASKS for split, _ in spec.files if split != "train"]


@pytest.mark.parametrize(("name", "split"), OFFICIAL)
def test_a_split_of_another_size_is_refused(name: str, split: str, tmp_path: Path) -> None:
    spec = next(spec for spec in glue_tasks.TASKS if spec.name == name)
    for path in (f"{spec.title}/{file}" for _, file in spec.files):
        write(tmp_path / path, FILES[path])
    path = f"{spec.title}/{dict(spec.files)[split]}"
    header, row = ([], FILES[path][0]) if spec.header else ([FILES[path][0]], FILES[path][1])
    (size,) = dict(spec.sizes)[split]
    write(tmp_path / path, [*header, *[row] * size])
    assert len(load_task(name, tmp_path).split(split)) == size
    for wrong in (39, size - 1, size + 1):
        write(tmp_path / path, [*header, *[row] * wrong])
        with refused(Code.DAMAGED, path, f" {wrong} rows", f"{split} split of {spec.title}", f" {size};"):
            load_task(name, tmp_path).split(split)


def test_every_split_of_every_task_has_its_official_size() -> None:
    for spec in glue_tasks.TASKS:
        assert set(dict(spec.sizes)) == set(dict(spec.files)) == set(dict(spec.hub_splits))


def test_both_official_sizes_of_qqps_training_set_are_taken() -> None:
    spec = next(spec for spec in glue_tasks.TASKS if spec.name == "qqp")
    for size in (363_846, 363_849):
        glue_tasks._check_size(spec, "train", size, "train.tsv")
    with refused(Code.DAMAGED, "train.tsv", "363847", "363846 or 363849"):
        glue_tasks._check_size(spec, "train", 363_847, "train.tsv")


def test_the_rows_that_are_broken_in_the_official_qqp_are_left_out(glue: Path) -> None:
    header, row = FILES["QQP/train.tsv"][:2]
    broken = ["5\t6\t7\tHow does one", "do this?\t1"]
    write(glue / "QQP/train.tsv", [header, *[row] * 30_000, *broken, row])
    assert len(load_task("qqp", glue).train()) == 30_001
    # More broken rows, or a broken last row, are an error.
    write(glue / "QQP/train.tsv", [header, *broken, *[row] * 9_000])
    with refused(Code.DAMAGED, "line 2:", "4 fields"):
        load_task("qqp", glue).train()
    write(glue / "QQP/train.tsv", [header, *[row] * 30_000, broken[0]])
    with refused(Code.DAMAGED, "line 30002:", "4 fields", "last line"):
        load_task("qqp", glue).train()


@pytest.mark.needs_data
@pytest.mark.skipif(not os.environ.get("SKYLINE_DATA_DIR"), reason="needs SKYLINE_DATA_DIR")
@pytest.mark.parametrize(
    ("name", "train", "dev"),
    [
        ("sst2", 67_349, 872),
        ("mrpc", 3_668, 408),
        ("rte", 2_490, 277),
        ("cola", 8_551, 1_043),
        ("stsb", 5_749, 1_500),
        ("wnli", 635, 71),
    ],
)
def test_real_glue_has_its_published_sizes(name: str, train: int, dev: int) -> None:
    task = load_task(name)
    assert (len(task.train()), len(task.dev())) == (train, dev)
    assert all(isinstance(example, Example) and example.text for example in task.train())
    if task.labels:
        assert {e.label for e in task.train()} == set(range(len(task.labels)))
    else:
        assert min(e.label for e in task.train()) == 0.0
        assert max(e.label for e in task.train()) == 5.0
