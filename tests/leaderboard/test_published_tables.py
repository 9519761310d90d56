"""The papers' tables as typed rows, and their recomputation."""

from __future__ import annotations

import csv
import shutil
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.common.errors import Code
from harness.models.config import MATRICES, EncoderConfig, LayerConfig
from harness.models.parameter_counts import count
from leaderboard.published_tables import reading
from leaderboard.published_tables.reading import average_drop
from leaderboard.survey import sizes as survey_sizes
from leaderboard.survey.published_ledger import Entry, read_ledger, same_to_the_digit, tally
from leaderboard.survey.shapes import BERT_SHAPES, bert, masked_language_head
from tests.support.one_line_errors import refused

FOLDER = Path(__file__).resolve().parents[2] / "profiles" / "published"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(FOLDER, tmp_path / "published")
    return tmp_path


def lines(name: str) -> int:
    with (FOLDER / f"{name}.csv").open(encoding="utf-8") as file:
        return sum(1 for _ in csv.reader(file)) - 1


def test_every_table_loads_whole_and_has_a_source():
    folder = reading.published_folder()
    names = {kind.table for kind in reading.KINDS}
    assert set(reading.load_sources(folder)) == {path.stem for path in folder.glob("*.csv")} == names
    for kind in reading.KINDS:
        assert len(reading.load(kind, folder)) == lines(kind.table)


def test_empty_cells_are_figures_that_were_not_reported():
    rows = reading.load(reading.SurveyRow, FOLDER)
    gobo = next(row for row in rows if row.paper_method == "GOBO")
    assert gobo.scores == {"mnli": Decimal("83.7")}
    assert gobo.device is None
    assert rows[0].scores == {task: Decimal(s) for task, s in zip(gobo_tasks(), gobo_base(), strict=True)}
    ratios = reading.load(reading.RatioRow, FOLDER)
    assert ratios[0].ratios["QAT+KD+MP"] == Decimal("18.1")


def gobo_tasks() -> list[str]:
    return ["mnli", "qqp", "sst2", "squad"]


def gobo_base() -> list[str]:
    return ["84.6", "89.2", "93.5", "88.5"]


def test_the_callers_folder_comes_first_and_the_package_copy_last(copy, tmp_path, monkeypatch):
    assert reading.published_folder(copy) == copy / "published"
    assert reading.published_folder(tmp_path / "nothing here") == FOLDER
    package = tmp_path / "site" / "leaderboard"
    shutil.copytree(FOLDER, package / "published_tables")
    monkeypatch.setattr(reading, "__file__", str(package / "published_tables" / "reading.py"))
    assert reading.published_folder() == package / "published_tables"
    shutil.rmtree(package / "published_tables")
    with refused(Code.NOT_FOUND, "--profiles"):
        reading.published_folder()


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("84.6,89.2", "84.6,many", "line 2, column qqp"),
        ("row,family", "number,family", "line 2, column row"),
        ("mnli,qqp", "mnli,extra", "column"),
    ],
)
def test_a_wrong_cell_is_named_by_line_and_column(copy, old, new, where):
    path = copy / "published" / "ganesh2021_table1.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with refused(Code.DAMAGED, where):
        reading.load(reading.SurveyRow, copy / "published")


@pytest.mark.parametrize(
    ("text", "code"),
    [("", Code.UNREADABLE), ("row,family\n", Code.DAMAGED), ("\xff", Code.UNREADABLE)],
)
def test_a_table_without_rows_or_text_is_an_error(copy, text, code):
    (copy / "published" / "gordon2020_table1.csv").write_bytes(text.encode("latin-1"))
    with refused(code, "gordon2020_table1"):
        reading.load(reading.PruningRow, copy / "published")


def test_missing_files_and_a_wrong_source_are_errors(copy):
    folder = copy / "published"
    (folder / "movva2022_table2.csv").unlink()
    with refused(Code.UNREADABLE, "movva2022_table2"):
        reading.load(reading.SizeRow, folder)
    (folder / "sources.toml").write_text("[a]\ntitle = 1\n", encoding="utf-8")
    with refused(Code.DAMAGED, "sources.toml"):
        reading.load_sources(folder)
    (folder / "sources.toml").write_text("[a", encoding="utf-8")
    with refused(Code.UNREADABLE, "sources.toml"):
        reading.load_sources(folder)


def test_bert_base_and_the_share_of_its_word_embeddings():
    parts = count(bert(12, 768))
    assert (parts.total, parts.word_embedding) == (109_482_240, 23_440_896)
    assert round(100 * survey_sizes.EMBEDDING_SHARE, 2) == 21.41
    # Zhao et al. 2019b: three times the described architecture, to the last parameter.
    described = count(bert(12, 48, 12, vocab_size=4928, positions=128)).total + survey_sizes._zhao_heads()
    assert 3 * described == survey_sizes.ZHAO_PUBLISHED


layers = st.builds(
    LayerConfig,
    heads=st.integers(1, 3),
    head_size=st.integers(1, 5),
    ffn_size=st.integers(1, 9),
    ranks=st.dictionaries(st.sampled_from(MATRICES), st.integers(1, 4)),
)


@settings(max_examples=40, deadline=None)
@given(
    layers=st.lists(layers, min_size=1, max_size=3),
    hidden=st.integers(2, 9),
    rank=st.none() | st.integers(1, 4),
    pooler=st.booleans(),
    kind=st.sampled_from(["classification", "regression", "span", "none"]),
    shared=st.booleans(),
)
def test_counting_agrees_with_the_encoder(layers, hidden, rank, pooler, kind, shared):
    torch = pytest.importorskip("torch")
    from harness.models.encoder.encoder import Encoder

    if shared:
        layers = [*layers, layers[0].model_copy(update={"shares_with": 0})]
    outputs = {"regression": 1, "span": 2}.get(kind, 3)
    config = EncoderConfig.model_validate(
        {
            "vocab_size": 11,
            "hidden_size": hidden,
            "embedding_rank": rank,
            "positions": 7,
            "layers": tuple(layers),
            "pooler": pooler,
            "head": {"kind": kind, "outputs": outputs},
        }
    )
    with torch.device("meta"):
        encoder = Encoder(config)
    assert count(config).total == sum(p.numel() for p in encoder.parameters())


def test_movvas_counts_are_bert_and_an_untied_head():
    for row in reading.load(reading.SizeRow, FOLDER):
        assert BERT_SHAPES[row.size] == (row.layers, row.hidden)
        config = bert(row.layers, row.hidden)
        encoder = count(config).total
        assert round((encoder + masked_language_head(config)) / 1e6) == row.params_millions
        assert round(encoder / 1e6) != row.params_millions


def test_23_of_25_drops_recompute_and_the_other_two_are_told():
    entries = [e for e in read_ledger() if e.check == "average drop"]
    assert len(entries) == 25
    wrong = {e.row.split(" (")[0]: e for e in entries if e.verdict == "differs"}
    assert set(wrong) == {"6 movement pruning", "11 AdaBERT"}
    movement, adabert = wrong["6 movement pruning"], wrong["11 AdaBERT"]
    assert (movement.printed, movement.recomputed) == (-4.73, -4.7)
    assert adabert.printed == -2.06
    assert round(adabert.recomputed, 2) == -1.73
    assert movement.says == "differs by −0.03"
    assert "this difference included" in movement.reason
    assert "not this difference" in adabert.reason


def test_the_ledger_shows_every_known_problem():
    entries = read_ledger()
    told = {(e.table, e.check) for e in entries if e.verdict != "adds up"}
    assert ("ganesh2021_table1", "split") in told
    assert ("ganesh2021_table1", "teacher") in told
    assert ("movva2022_table2", "parameters") in told
    share = next(e for e in entries if e.check == "embedding share")
    assert round(share.recomputed, 2) == 21.41
    zhao = [e for e in entries if e.row.startswith("16 ") and e.check == "size with embeddings"]
    assert zhao[0].verdict == "differs"
    assert "3.00 times" in zhao[0].reason
    assert all(e.source for e in entries)
    assert all(e.reason for e in entries if e.verdict != "adds up")
    counts = {(t.table, t.check): (t.adding_up, t.total) for t in tally(entries)}
    assert counts["ganesh2021_table1", "average drop"] == (23, 25)
    assert counts["movva2022_table2", "parameters"] == (0, 6)
    assert counts["movva2022_table2", "size"] == (6, 6)


def test_the_formula_fits_all_encoder_only_rows():
    entries = {e.row.split(" ")[0]: e for e in read_ledger() if e.check == "size with embeddings"}
    for row in survey_sizes.ENCODER_ONLY:
        assert entries[str(row)].verdict == "adds up"
        assert abs(entries[str(row)].by) <= 0.1
    assert entries["3"].verdict == "adds up"
    assert entries["19"].verdict == "differs"  # DeeBERT's ramps


def test_a_changed_figure_changes_the_ledger(copy):
    path = copy / "published" / "ganesh2021_table1.csv"
    path.write_text(
        path.read_text(encoding="utf-8").replace("92.6,,-1.0\n", "93.6,,-1.0\n", 1), encoding="utf-8"
    )
    wrong = [e for e in read_ledger(copy) if e.check == "average drop" and e.verdict == "differs"]
    assert len(wrong) == 3


@pytest.mark.parametrize(
    ("printed", "exact", "slack", "same"),
    [
        ("-0.63", "-0.625", 0, True),
        ("-1.86", "-1.8667", 0, True),
        ("-1.87", "-1.8667", 0, True),
        ("-1.88", "-1.8667", 0, False),
        ("15", "15.24", 0, True),
        ("16", "15.24", 0, False),
        ("16", "15.24", 1, True),
        ("39.1", "39.2", 1, True),
        ("39.1", "39.49", 1, False),
    ],
)
def test_rounded_or_truncated_to_the_printed_digits(printed, exact, slack, same):
    assert same_to_the_digit(Decimal(printed), Decimal(exact), slack) is same


def test_average_drop_is_over_shared_tasks_only():
    base = {"a": Decimal("90"), "b": Decimal("80")}
    assert average_drop({"a": Decimal("89"), "c": Decimal("1")}, base) == Decimal("-1")
    assert average_drop({"c": Decimal("1")}, base) is None


def entries_of(check: str) -> dict[str, Entry]:
    """The ledger's entries of one check, by the first word of their row."""
    return {entry.row.split()[0].rstrip(","): entry for entry in read_ledger() if entry.check == check}


def test_the_surveys_text_gives_other_sizes_than_its_table():
    entries = entries_of("size in the text")
    with (FOLDER / "ganesh2021_table1.csv").open(encoding="utf-8") as file:
        table = {row["row"]: float(row["size_with_emb_pct"]) for row in csv.DictReader(file)}
    assert {row: (e.printed, e.recomputed) for row, e in entries.items()} == {
        row: (text, table[row]) for row, text in {"13": 60.2, "24": 7.5, "14": 23.0, "25": 5.25}.items()
    }
    # 23.1 is 23 without a decimal; the others differ by more than rounding.
    assert {row for row, e in entries.items() if e.verdict == "adds up"} == {"14"}


def test_the_additional_drop_compares_four_tasks_with_one():
    (entry,) = entries_of("additional drop in the text").values()
    scores = {row.paper_method: row for row in reading.load(reading.SurveyRow, FOLDER)}
    before, after = scores["DistilBERT"], scores["GOBO on DistilBERT"]
    assert (len(before.scores), len(after.scores)) == (4, 1)
    assert float(before.avg_drop - after.avg_drop) == pytest.approx(0.87)  # printed as 0.9
    assert (entry.printed, entry.recomputed) == (0.9, float(before.mnli - after.mnli)) == (0.9, 0.2)
    assert entry.verdict == "differs"


def test_the_thesis_divides_the_size_for_single_sentences_by_the_size_for_pairs():
    rows = {(r.model, r.compression): r for r in reading.load(reading.StudentCompressionRow, FOLDER)}
    base = rows["GLUE+GloVe", "baseline"]
    entries = entries_of("times smaller than GLUE+GloVe")
    for model, printed, right in (("BiLSTM-BPE-100", 1471, 1480), ("BiLSTM-BPE-25", 1993, 2005)):
        pair = rows[model, "q"].size_sentence_pair_mb
        assert round(base.size_single_sentence_mb / pair) == printed == entries[model].printed
        assert round(base.size_sentence_pair_mb / pair) == right == round(entries[model].recomputed)
        assert entries[model].verdict == "differs"


def test_the_thesis_is_cited_by_what_its_code_says():
    sure = {name: source.sure for name, source in reading.load_sources(FOLDER).items()}
    assert {name for name in sure if not sure[name]} == {"lilbobby_table7_1_sst2", "lilbobby_table7_5"}
