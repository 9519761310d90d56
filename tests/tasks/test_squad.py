from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from harness.common.errors import Code
from harness.tasks import load_task, metrics, squad
from harness.tasks.base import Example, Span
from tests.support.one_line_errors import refused

WORDS = "anna ben clara met saw in paris rome the red house on monday who where when did".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A tokenizer of words, word pieces and BERT's special tokens. It truncates and pads, which must not matter."""
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        ".",
        ",",
        "?",
        *WORDS,
        "##day",
        "mon",
        "##s",
        "an",
        "##na",
        "x",
    ]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    made.enable_padding(length=50)
    made.enable_truncation(7)
    return made


def example(context: str, answer: str | None, question: str = "Who met Ben?") -> Example:
    label = Span((answer,), (context.index(answer),)) if answer is not None else None
    return Example(question, context, label, "q")


def covered(window: squad.Window, context: str) -> str:
    """Return the text between the target tokens."""
    return context[window.offsets[window.start, 0] : window.offsets[window.end, 1]]


def test_a_short_context_is_one_window(tokenizer: Tokenizer) -> None:
    context = "On Monday, Anna met Ben in the red house."
    (window,) = squad.windows(tokenizer, [example(context, "the red house")])
    tokens = [tokenizer.id_to_token(i) for i in window.input_ids]
    assert tokens[:6] == ["[CLS]", "who", "met", "ben", "?", "[SEP]"]
    assert tokens[-1] == "[SEP]"
    assert window.token_type_ids.tolist() == [0] * 6 + [1] * (len(tokens) - 6)
    inside = window.offsets[:, 0] >= 0
    assert inside.tolist() == [False] * 6 + [True] * (len(tokens) - 7) + [False]
    assert [context[a:b].lower() for a, b in window.offsets[inside]] == [
        token.removeprefix("##") for token, keep in zip(tokens, inside, strict=True) if keep
    ]
    assert covered(window, context) == "the red house"
    # The given tokenizer has not changed.
    assert tokenizer.padding["length"] == 50
    assert tokenizer.truncation["max_length"] == 7


def test_windows_cover_a_long_context_and_overlap_by_the_stride(tokenizer: Tokenizer) -> None:
    rng = np.random.default_rng(0)
    context = " ".join(rng.choice(WORDS, 300))
    found = squad.windows(tokenizer, [example(context, None)], max_length=60, stride=20, max_question=8)
    assert len(found) > 1
    spans = [window.offsets[window.offsets[:, 0] >= 0] for window in found]
    assert all(len(window.input_ids) <= 60 for window in found)
    assert all(len(window.input_ids) == 60 for window in found[:-1])
    for before, after in itertools.pairwise(spans):
        assert (before[-20:] == after[:20]).all()
    merged = sorted({(int(a), int(b)) for span in spans for a, b in span})
    assert [context[a:b] for a, b in merged] == context.split()
    assert all((window.start, window.end) == (0, 0) for window in found)


@settings(deadline=None, max_examples=60)
@given(
    words=st.lists(st.sampled_from([*WORDS, "Mondays", "monday,", "x."]), min_size=1, max_size=120),
    data=st.data(),
)
def test_targets_are_the_answer_wherever_it_fits(words: list[str], data: st.DataObject) -> None:
    made = MADE[0]
    context = " ".join(words)
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, min(len(words) - 1, first + 5)))
    start = len(" ".join(words[:first])) + (first > 0)
    text = " ".join(words[first : last + 1])
    row = Example("who met ben?", context, Span((text,), (start,)), "q")
    found = squad.windows(made, [row], max_length=40, stride=16, max_question=8)
    held = 0
    for window in found:
        inside = window.offsets[window.offsets[:, 0] >= 0]
        if inside[0, 0] <= start and inside[-1, 1] >= start + len(text):
            held += 1
            assert covered(window, context) == text
        else:
            assert (window.start, window.end) == (0, 0)
    assert held >= 1  # an answer no longer than the overlap is whole in some window


MADE: list[Tokenizer] = []


@pytest.fixture(autouse=True, scope="module")
def _shared(tokenizer: Tokenizer) -> None:
    MADE.append(tokenizer)


def test_an_answer_inside_a_word_takes_the_whole_tokens(tokenizer: Tokenizer) -> None:
    context = "They met on Mondays."
    (window,) = squad.windows(tokenizer, [example(context, "nday")])
    assert covered(window, context) == "Monday"
    (window,) = squad.windows(tokenizer, [example(context, " Mondays ".strip() + ".")])
    assert covered(window, context) == "Mondays."


def test_white_space_around_an_answer_does_not_matter(tokenizer: Tokenizer) -> None:
    context = "Anna met Ben in Rome"
    (window,) = squad.windows(tokenizer, [example(context, " Ben ")])
    assert covered(window, context) == "Ben"


def test_a_long_question_is_cut(tokenizer: Tokenizer) -> None:
    row = example("Anna met Ben.", "Anna", question="who met " * 100)
    (window,) = squad.windows(tokenizer, [row])
    assert (window.token_type_ids == 0).sum() == 64 + 2
    assert covered(window, "Anna met Ben.") == "Anna"


def test_windows_without_room_are_refused(tokenizer: Tokenizer) -> None:
    with refused(Code.CONFLICT, "128 tokens", "share 128", "64"):
        squad.windows(
            tokenizer, [example("Anna met Ben.", "Anna")], max_length=128, stride=128, max_question=64
        )


@pytest.mark.parametrize("longest", [16, 64, 128, 192])
def test_short_windows_still_cover_a_long_context(tokenizer: Tokenizer, longest: int) -> None:
    context = " ".join(f"{WORDS[i % len(WORDS)]}" for i in range(300))
    row = example(context, None, question="who met " * 100)
    found = squad.windows(tokenizer, [row], max_length=longest)
    assert all(len(window.input_ids) <= longest for window in found)
    read = {int(start) for window in found for start in window.offsets[:, 0] if start >= 0}
    everything = squad.windows(tokenizer, [example(context, None)], max_length=2000)
    assert read == {int(start) for start in everything[0].offsets[:, 0] if start >= 0}


def logits(found: list[squad.Window], seed: int, pad: int = 0) -> tuple[list[Any], list[Any]]:
    rng = np.random.default_rng(seed)
    starts = [np.append(rng.normal(size=len(w.input_ids)), np.full(pad, 99.0)) for w in found]
    ends = [np.append(rng.normal(size=len(w.input_ids)), np.full(pad, 99.0)) for w in found]
    return starts, ends


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("longest", [1, 4, 30])
def test_decoding_is_the_best_of_all_valid_spans(tokenizer: Tokenizer, seed: int, longest: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [example(" ".join(rng.choice(WORDS, size)), None) for size in (1, 5, 90)]
    found = squad.windows(tokenizer, rows, max_length=40, stride=16, max_question=8)
    starts, ends = logits(found, seed, pad=3)
    expected: list[dict[tuple[int, int], float]] = [{} for _ in rows]
    for w, window in enumerate(found):
        for i in range(len(window.input_ids)):
            for j in range(i, min(i + longest, len(window.input_ids))):
                if window.offsets[i, 0] >= 0 and window.offsets[j, 0] >= 0:
                    span = (int(window.offsets[i, 0]), int(window.offsets[j, 1]))
                    known = expected[window.example]
                    known[span] = max(known.get(span, -np.inf), starts[w][i] + ends[w][j])
    best = squad.n_best(found, starts, ends, rows, n=7, max_answer=longest)
    for row, candidates, spans in zip(rows, best, expected, strict=True):
        ranked = sorted(spans.items(), key=lambda item: -item[1])[:7]
        assert [((c.start, c.end), c.score) for c in candidates] == [
            (span, pytest.approx(score)) for span, score in ranked
        ]
        assert all(c.text == (row.pair or "")[c.start : c.end] for c in candidates)
    assert squad.answers(found, starts, ends, rows, longest) == [candidates[0].text for candidates in best]


def test_gold_targets_decode_to_the_gold_answers(tokenizer: Tokenizer) -> None:
    rng = np.random.default_rng(1)
    rows = []
    for _ in range(20):
        words = list(rng.choice(WORDS, 80))
        first = int(rng.integers(0, 75))
        start = len(" ".join(words[:first])) + (first > 0)
        text = " ".join(words[first : first + 3])
        rows.append(Example("who?", " ".join(words), Span((text,), (start,)), "q"))
    found = squad.windows(tokenizer, rows, max_length=40, stride=16, max_question=8)
    starts = [10.0 * (np.arange(len(w.input_ids)) == w.start) for w in found]
    ends = [10.0 * (np.arange(len(w.input_ids)) == w.end) for w in found]
    predicted = squad.answers(found, starts, ends, rows)
    task = load_task("toy-pairs")
    assert predicted == [row.label.texts[0] for row in rows]
    span_task = type(task)(
        "s", "s", "span", (), ("f1", "exact_match"), "f1", 8, True, loader=lambda _: tuple(rows)
    )
    scores = metrics.compute(span_task, predicted, [row.label for row in rows])
    assert scores == {"f1": 100.0, "exact_match": 100.0}


def test_what_is_not_finite_and_what_is_empty_is_no_answer(tokenizer: Tokenizer) -> None:
    rows = [example("Anna met Ben.", "Anna"), Example("Who?", "", None)]
    found = squad.windows(tokenizer, rows)
    starts, ends = logits(found, 0)
    starts[0][:] = np.nan
    starts[0][8] = 1.0
    best = squad.n_best(found, starts, ends, rows)
    first = found[0].offsets[8, 0]
    assert {c.start for c in best[0]} == {first}
    assert best[1] == []
    assert squad.answers(found, starts, ends, rows)[1] == ""


CONTENT: dict[str, Any] = {
    "version": "1.1",
    "data": [
        {
            "title": "T",
            "paragraphs": [
                {
                    "context": " Anna met Ben in Rome.",
                    "qas": [
                        {
                            "id": "q1",
                            "question": "Who met Ben?",
                            "answers": [
                                {"text": "Anna", "answer_start": 1},
                                {"text": "Anna met", "answer_start": 1},
                            ],
                        },
                        {"id": "q2", "question": "Where?", "answers": [{"text": "Rome", "answer_start": 17}]},
                    ],
                }
            ],
        }
    ],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "SQuAD").mkdir()
    for name in ("train-v1.1.json", "dev-v1.1.json"):
        (tmp_path / "SQuAD" / name).write_text(json.dumps(CONTENT))
    return tmp_path


def test_squad_loads_from_its_official_layout(folder: Path) -> None:
    task = load_task("SQuAD", folder)
    assert (task.kind, task.metric, task.metrics, task.max_length) == (
        "span", "f1", ("f1", "exact_match"), 384,
    )  # fmt: skip
    assert task.train() == (
        Example("Who met Ben?", " Anna met Ben in Rome.", Span(("Anna", "Anna met"), (1, 1)), "q1"),
        Example("Where?", " Anna met Ben in Rome.", Span(("Rome",), (17,)), "q2"),
    )
    assert task.dev() == task.train()


def changed(**qa: Any) -> str:
    content = json.loads(json.dumps(CONTENT))
    content["data"][0]["paragraphs"][0]["qas"][1].update(qa)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        (json.dumps(CONTENT)[:-30], Code.UNREADABLE, ("Invalid JSON", "line 1")),
        ("", Code.NO_DATA, ("empty",)),
        ('{"rows": []}', Code.UNREADABLE, (", at data:", "Field required")),
        ('{"data": []}', Code.NO_DATA, ("questions",)),
        (changed(answers=[]), Code.INCOMPLETE, ("question q2:",)),
        (
            changed(answers=[{"text": "Rome", "answer_start": 3}]),
            Code.DAMAGED,
            ("question q2:", "'Rome'", "character 3"),
        ),
        (
            changed(answers=[{"text": "Rome", "answer_start": -1}]),
            Code.DAMAGED,
            ("question q2:", "character -1"),
        ),
        (
            changed(answers=[{"text": "Rome"}]),
            Code.UNREADABLE,
            ("paragraphs[0].qas[1].answers[0].answer_start",),
        ),
    ],
)
def test_bad_squad_files_name_the_place(text: str, code: Code, named: tuple[str, ...], folder: Path) -> None:
    (folder / "SQuAD/train-v1.1.json").write_text(text)
    with refused(code, "train-v1.1.json", *named):
        load_task("squad", folder).train()


def test_a_missing_squad_file_is_named(folder: Path) -> None:
    (folder / "SQuAD/dev-v1.1.json").unlink()
    with refused(Code.NOT_FOUND, "dev-v1.1.json", "train-v1.1.json, dev-v1.1.json"):
        load_task("squad", folder)
