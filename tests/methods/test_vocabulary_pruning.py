"""vocabulary-pruning: which tokens stay, and how the smaller tokenizer reads."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import BPE, WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from harness.compression.pruning.vocabulary import indispensable_tokens, token_counts, tokens_to_keep
from harness.conformance.tiny import CHARACTERS, SPECIAL, tiny_encoder, tiny_task, vocabulary
from harness.models.artifacts import load_artifact, save_artifact
from harness.models.tokenizer import Tokenizer
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import built, context

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"]
PIECES += [*"aegilnpy", *(f"##{letter}" for letter in "aegilnpy"), "play", "playing", "##ing", "plan", "gap"]
IDS = {piece: number for number, piece in enumerate(PIECES)}


def tokenizer() -> Tokenizer:
    return Tokenizer(BertWordPieceTokenizer(dict(IDS))._tokenizer)


def ids_of(*pieces: str) -> list[int]:
    return [IDS[piece] for piece in pieces]


def test_a_word_that_is_no_token_any_more_falls_into_pieces_that_are_left() -> None:
    whole = tokenizer()
    kept = [number for piece, number in IDS.items() if piece not in ("playing", "gap", "[unused1]")]
    smaller = whole.keep(kept)
    tokens = {
        text: smaller.tokens([text], None, 32)[0].tokens[1:-1] for text in ("playing", "gap", "plan", "play")
    }
    assert tokens == {
        "playing": ["play", "##ing"],
        "gap": ["g", "##a", "##p"],
        "plan": ["plan"],
        "play": ["play"],
    }
    assert smaller.vocab_size == len(kept) == whole.vocab_size - 3
    numbers = {piece: new for new, piece in enumerate(piece for piece in IDS if IDS[piece] in kept)}
    pair = smaller.tokens(["playing"], ["gap"], 32)[0]
    assert pair.tokens == ["[CLS]", "play", "##ing", "[SEP]", "g", "##a", "##p", "[SEP]"]
    assert pair.ids == [numbers[token] for token in pair.tokens]
    assert pair.type_ids == [0, 0, 0, 0, 1, 1, 1, 1]
    assert whole.tokens(["playing"], None, 8)[0].tokens == ["[CLS]", "playing", "[SEP]"], (
        "the given one stays"
    )


def test_tokens_are_numbered_in_the_order_given() -> None:
    order = [*ids_of("[SEP]", "[CLS]", "play", "[PAD]", "[UNK]", "[MASK]"), *ids_of(*"aegilnpy")]
    smaller = tokenizer().keep(order)
    assert smaller.pad_id == 3
    assert smaller.encode(["play", "play a"], None, 8).input_ids.tolist() == [[1, 2, 0, 3], [1, 2, 6, 0]]
    again = Tokenizer(FastTokenizer.from_str(smaller.to_json()))
    assert again.same_as(smaller)


def test_a_template_s_special_tokens_get_their_new_numbers() -> None:
    fast = FastTokenizer(WordPiece(dict(IDS), unk_token="[UNK]"))
    fast.pre_tokenizer = BertPreTokenizer()
    special = [(piece, IDS[piece]) for piece in ("[CLS]", "[SEP]")]
    fast.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special
    )
    kept = ids_of("[UNK]", "a", "[SEP]", "gap", "[CLS]")
    found = Tokenizer(fast).keep(kept).tokens(["gap"], ["a"], 9)[0]
    assert found.ids == [4, 3, 2, 1, 2]
    assert found.type_ids == [0, 0, 0, 1, 1]


def test_what_a_tokenizer_cannot_do_without() -> None:
    with refused("", "'[SEP]'"):
        tokenizer().keep([number for piece, number in IDS.items() if piece != "[SEP]"])
    with refused("99"):
        tokenizer().keep([99])
    with refused("BPE"):
        Tokenizer(FastTokenizer(BPE())).keep([])
    special = [*PIECES[:5], *"aegilnpy", *(f"##{letter}" for letter in "aegilnpy")]
    assert indispensable_tokens(tokenizer()) == ids_of(*special)


def test_the_most_frequent_tokens_stay() -> None:
    always = indispensable_tokens(tokenizer())
    counts = torch.zeros(len(IDS), dtype=torch.long)
    counts[ids_of("gap")], counts[ids_of("##ing")], counts[ids_of("a")] = 5, 7, 1
    wanted = {
        len(always) + 1: ["##ing"],
        len(always) + 2: ["##ing", "gap"],
        # None of the others was seen: the lower number first, free places last.
        len(always) + 3: ["##ing", "gap", "play"],
        len(always) + 5: ["##ing", "gap", "play", "playing", "plan"],
        len(always) + 6: ["##ing", "gap", "play", "playing", "plan", "[unused0]"],
        3: [],
    }
    for size, more in wanted.items():
        assert tokens_to_keep(tokenizer(), counts, size) == sorted([*always, *ids_of(*more)])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=len(PIECES), max_size=len(PIECES)), st.integers(21, 28), st.data()
)
def test_every_text_reads_as_the_same_letters(counts: list[int], size: int, data: st.DataObject) -> None:
    """With single characters kept, pieces may change but neither letters nor unknown words."""
    words = data.draw(st.lists(st.text("aegilnpyz", min_size=1, max_size=9), min_size=1, max_size=4))
    smaller = tokenizer().keep(tokens_to_keep(tokenizer(), torch.tensor(counts), size))

    def letters(reader: Tokenizer) -> list[str]:
        found = reader.tokens([" ".join(words)], None, 200)[0]
        spelled: list[str] = []
        for token in found.tokens:
            if token.startswith("##"):
                spelled[-1] += token[2:]
            else:
                spelled.append(token)
        return spelled

    assert letters(smaller) == letters(tokenizer())


def test_tokens_are_counted_in_the_training_examples_that_the_budget_allows() -> None:
    teacher = tiny_encoder()
    given_to_it = context(teacher, examples=20)
    own = Counter(
        number
        for example in given_to_it.training_examples()
        for number in teacher.require_tokenizer().tokens([example.text], None, 32)[0].ids
    )
    assert len(given_to_it.training_examples()) == 20
    found = token_counts(teacher, given_to_it)
    assert found.shape == (teacher.config.vocab_size,)
    assert {number: count for number, count in enumerate(found.tolist()) if count} == own


def test_rows_are_gone_and_what_stays_reads_and_computes_as_before(tmp_path: Path) -> None:
    teacher = tiny_encoder().eval()
    student = built("vocabulary-pruning:keep=180", teacher, examples=400).eval()
    assert student.config.vocab_size == 180
    assert student.embedding.word.weight.shape == (180, 32)
    reader, before = student.require_tokenizer(), teacher.require_tokenizer()
    assert reader.vocab_size == 180
    tokens = set(reader.fast.get_vocab())
    assert {*SPECIAL, *CHARACTERS, *(f"##{c}" for c in CHARACTERS)} < tokens < set(vocabulary())
    for token, number in reader.fast.get_vocab().items():
        old = teacher.embedding.word.weight[vocabulary()[token]]
        assert torch.equal(student.embedding.word.weight[number], old)
    texts = [example.text for example in tiny_task().dev()]
    alike = [
        text
        for text in texts
        if before.tokens([text], None, 32)[0].tokens == reader.tokens([text], None, 32)[0].tokens
    ]
    assert 0 < len(alike) < len(texts)
    assert torch.allclose(
        student(student.encode(alike)).logits, teacher(teacher.encode(alike)).logits, atol=1e-6
    )
    save_artifact(student, tmp_path / "a")
    loaded = load_artifact(tmp_path / "a")
    assert loaded.require_tokenizer().same_as(reader)
    assert torch.equal(loaded(loaded.encode(texts)).logits, student(student.encode(texts)).logits)


def test_the_tokens_kept_are_those_of_the_training_set() -> None:
    teacher = tiny_encoder()
    chosen = context(teacher, examples=400)
    (stage,) = Recipe.parse("vocabulary-pruning:keep=100").stages
    student, training = run_stage(stage, teacher, chosen)
    counts = token_counts(teacher, chosen)
    kept = [vocabulary()[token] for token in student.require_tokenizer().fast.get_vocab()]
    dropped = sorted(set(range(2048)) - set(kept))
    always = indispensable_tokens(teacher.require_tokenizer())
    assert counts[sorted(set(kept) - set(always))].min() >= counts[dropped].max() > 0
    figures = training[0].figures
    assert figures["tokens kept"] == 100
    share = figures["share of training tokens that fall into pieces"]
    assert share == pytest.approx(float(counts[dropped].sum() / counts.sum()))
    assert 0 < share < 1


def test_a_share_is_of_all_tokens_and_too_few_are_refused() -> None:
    assert built("vocabulary-pruning:keep=0.05", tiny_encoder()).config.vocab_size == round(0.05 * 2048)
    with refused("keep=50", "keep=61"):
        built("vocabulary-pruning:keep=50", tiny_encoder())
