"""vocabulary-pruning, code-embeddings and hash-embeddings: their rules and fits, worked out by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import BPE, WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from harness.artifacts import load_artifact, save_artifact
from harness.build import run_stage
from harness.config import CodedWords, EncoderConfig, HashedWords
from harness.conformance.tiny import BUDGET, CHARACTERS, SPECIAL, tiny_encoder, tiny_task, vocabulary
from harness.embeddings import HashedEmbedding
from harness.encoder import Encoder
from harness.errors import SkylineError
from harness.method import Method
from harness.planning import check_recipe
from harness.recipe import Recipe
from harness.tasks import Example
from harness.teacher import TeacherLogits
from harness.tokenizer import Tokenizer
from harness.training import Context, Step, train
from harness.vocabulary import indispensable_tokens, relative_error, token_counts, tokens_to_keep
from methods.embedding_compression.code_embeddings import fit_books, learn_codes
from methods.embedding_compression.hash_embeddings import fit_buckets

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"]
PIECES += [*"aegilnpy", *(f"##{letter}" for letter in "aegilnpy"), "play", "playing", "##ing", "plan", "gap"]
IDS = {piece: number for number, piece in enumerate(PIECES)}


def tokenizer() -> Tokenizer:
    return Tokenizer(BertWordPieceTokenizer(dict(IDS))._tokenizer)


def ids_of(*pieces: str) -> list[int]:
    return [IDS[piece] for piece in pieces]


def context(teacher: Encoder, logits: TeacherLogits | None = None, **budget: Any) -> Context:
    chosen = BUDGET.model_copy(update=budget)
    return Context(teacher, tiny_task().training_view(), chosen, seed=0, teacher_logits=logits)


def built(recipe: str, teacher: Encoder, training: bool = False, **budget: Any) -> Encoder:
    (stage,) = Recipe.parse(recipe).stages
    return run_stage(stage, teacher, context(teacher, **budget), training)[0]


# --- the vocabulary


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
    with pytest.raises(SkylineError, match=r"special token '\[SEP\]' would be lost"):
        tokenizer().keep([number for piece, number in IDS.items() if piece != "[SEP]"])
    with pytest.raises(SkylineError, match="has no token 99"):
        tokenizer().keep([99])
    with pytest.raises(SkylineError, match="not of BPE"):
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
    with pytest.raises(
        SkylineError, match=r"keep=50 is 50 tokens, but 61 .* always stay; use at least keep=61"
    ):
        built("vocabulary-pruning:keep=50", tiny_encoder())
    with pytest.raises(SkylineError, match="must be a share below 1 or a whole number of tokens"):
        Recipe.parse("vocabulary-pruning:keep=100.5")


# --- a teacher that reads other tokens


class Probe(Method):
    """Keeps the steps that it sees."""

    card = Recipe.parse("kd-logits").calls[0].method.card
    needs = frozenset({"teacher_logits"})

    def __init__(self) -> None:
        super().__init__(None)
        self.steps: list[Step] = []

    def loss(self, step: Step) -> None:
        self.steps.append(step)


@pytest.mark.parametrize("cached", [True, False])
def test_a_teacher_of_the_whole_vocabulary_reads_the_same_texts(cached: bool, tmp_path: Path) -> None:
    teacher = tiny_encoder().eval()
    student = built("vocabulary-pruning:keep=80", teacher, examples=400)
    logits = TeacherLogits(tmp_path, "tiny") if cached else None
    given_to_it = context(teacher, logits, examples=48)
    probe = Probe()
    train(student, [probe], given_to_it, "probe")
    examples = given_to_it.training_examples()
    longer = 0
    assert sorted(row for step in probe.steps for row in step.rows) == list(range(48))
    for step in probe.steps:
        texts = [examples[row].text for row in step.rows]
        ours, theirs = student.encode(texts, max_length=32), teacher.encode(texts, max_length=32)
        assert torch.equal(step.batch.input_ids, ours.input_ids)
        assert step.teacher_batch is not None
        assert torch.equal(step.teacher_batch.input_ids, theirs.input_ids)
        longer += int(ours.attention_mask.sum() - theirs.attention_mask.sum())
        with torch.no_grad():
            assert torch.allclose(step.teacher_logits, teacher(theirs).logits, atol=1e-5)
    assert longer > 0, "the student reads words in pieces"


def divergence(student: Encoder, teacher: Encoder, examples: list[Example]) -> float:
    texts = [example.text for example in examples]
    with torch.no_grad():
        ours, theirs = (
            F.log_softmax(model(model.encode(texts, max_length=32)).logits, -1)
            for model in (student, teacher)
        )
    return float(F.kl_div(ours, theirs, log_target=True, reduction="batchmean"))


def test_distillation_after_the_vocabulary_was_pruned(tmp_path: Path) -> None:
    teacher = tiny_encoder().eval()
    teacher.head.classifier.weight.data.mul_(8)  # else an untrained teacher hardly tells texts apart
    pruning, distilling = Recipe.parse(
        "vocabulary-pruning:keep=80 > kd-logits:layers=4,alpha=0,temperature=1"
    ).stages
    given_to_it = context(teacher, TeacherLogits(tmp_path, "tiny"), examples=32, epochs=40)
    pruned, _ = run_stage(pruning, teacher, given_to_it, training=False)
    examples = list(given_to_it.training_examples())
    before = divergence(pruned.eval(), teacher, examples)
    student, (record,) = run_stage(distilling, pruned, given_to_it)
    assert record.steps == 80
    assert student.config.vocab_size == 80
    assert student.require_tokenizer().same_as(pruned.require_tokenizer())
    assert divergence(student.eval(), teacher, examples) < 0.5 * before
    by_token = Probe()
    by_token.needs = frozenset({"hidden_states"})  # type: ignore[misc]
    with pytest.raises(SkylineError, match="its teacher reads other tokens; distil before the tokenizer"):
        train(student, [by_token], given_to_it, "probe")


# --- codes


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sums(codes: Tensor, books: Tensor) -> Tensor:
    return torch.stack([books[m][codes[:, m].long()] for m in range(books.shape[0])]).sum(0)


def test_one_book_is_the_mean_of_each_code_s_rows() -> None:
    table = torch.tensor([[0.0, 4], [2, 0], [4, 4], [6, 0], [8, 8]])
    codes = torch.tensor([[0], [1], [0], [1], [3]], dtype=torch.uint8)
    book = fit_books(table, codes, 4)[0]
    assert torch.allclose(book, torch.tensor([[2.0, 4], [4, 0], [0, 0], [8, 8]]), atol=0.01)
    weighted = fit_books(table, codes, 4, torch.tensor([3.0, 1, 1, 1, 1]))[0]
    assert torch.allclose(weighted[0], torch.tensor([1.0, 4]), atol=0.01)


@pytest.mark.parametrize("weighted", [False, True])
def test_several_books_are_the_least_squares_solution(weighted: bool) -> None:
    table = draw(60, 5).double()
    codes = torch.randint(0, 4, (60, 3), generator=torch.Generator().manual_seed(1))
    weights = torch.arange(1.0, 61) if weighted else torch.ones(60)
    chosen = torch.cat([F.one_hot(codes[:, m], 4) for m in range(3)], 1).double().numpy()
    root = weights.double().sqrt().numpy()[:, None]
    best = np.linalg.lstsq(root * chosen, root * table.numpy(), rcond=None)[0]
    least = float(((root * (table.numpy() - chosen @ best)) ** 2).sum())
    books = fit_books(table, codes, 4, weights if weighted else None)
    found = float((weights[:, None] * (table - sums(codes, books)).square()).sum())
    assert least <= found * (1 + 1e-9)
    assert found < least * 1.001


def test_codes_of_a_table_that_is_a_sum_are_found() -> None:
    """Rows that really are sums of two books of four entries: the sums come back, up to a little of the variance."""
    books = draw(2, 4, 16)
    hidden = torch.randint(0, 4, (400, 2), generator=torch.Generator().manual_seed(1))
    table = sums(hidden, books)
    codes, found = learn_codes(table, 4, 8, 800, torch.Generator().manual_seed(2))
    assert (codes.dtype, codes.shape, found.shape) == (torch.uint8, (400, 4), (4, 8, 16))
    assert int(codes.max()) < 8
    error = (table - sums(codes, found)).square().sum() / (table - table.mean(0)).square().sum()
    assert error < 0.02


def error_of(table: Tensor, codes: Tensor, books: Tensor) -> float:
    return float((table - sums(codes, books)).square().sum() / (table - table.mean(0)).square().sum())


def test_learned_codes_are_far_better_than_random_ones_with_their_best_books() -> None:
    """On rows of correlated columns, as a trained table's are; 32 bits a row of 24 weights."""
    table = draw(1500, 6) @ draw(6, 24, seed=1) + 0.3 * draw(1500, 24, seed=2)
    codes, books = learn_codes(table, 8, 16, 600, torch.Generator().manual_seed(0))
    random = torch.randint(0, 16, (1500, 8), generator=torch.Generator().manual_seed(3))
    learned, chance = error_of(table, codes, books), error_of(table, random, fit_books(table, random, 16))
    assert chance > 0.85  # 121 free books of 1,500 rows explain 8 % of any table
    assert learned < 0.35 * chance
    few, few_books = learn_codes(table, 8, 16, 5, torch.Generator().manual_seed(0))
    assert learned < error_of(table, few, few_books)


def test_codes_depend_on_the_generator_alone() -> None:
    table = draw(300, 8)
    torch.manual_seed(1)
    one = learn_codes(table, 3, 8, 30, torch.Generator().manual_seed(5))
    torch.manual_seed(2)
    other = learn_codes(table, 3, 8, 30, torch.Generator().manual_seed(5))
    third = learn_codes(table, 3, 8, 30, torch.Generator().manual_seed(6))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert not torch.equal(one[0], third[0])


def test_frequent_rows_are_nearer_where_they_are_drawn_more_often() -> None:
    table = draw(1000, 16)
    weights = torch.where(torch.arange(1000) < 30, 500.0, 1.0)
    errors = []
    for chosen in (None, weights):
        codes, books = learn_codes(table, 4, 8, 300, torch.Generator().manual_seed(0), chosen)
        errors.append(float((table - sums(codes, books))[:30].square().sum()))
    assert errors[1] < 0.7 * errors[0]


def test_the_student_s_codes_stay_and_its_books_are_trained() -> None:
    teacher = tiny_encoder().eval()
    recipe = "code-embeddings:books=4,entries=8,steps=30"
    before, after = built(recipe, teacher), built(recipe, teacher, training=True)
    assert after.config.words == CodedWords(books=4, entries=8)
    assert str(after.storage.codecs["embedding.word.codes"]) == "codes(3)+pack(3)"
    one, other = before.embedding.word, after.embedding.word
    assert torch.equal(one.codes, other.codes)
    assert not torch.equal(one.weight, other.weight)
    alike = built(f"{recipe},sampling=uniform", teacher)
    assert not torch.equal(alike.embedding.word.codes, one.codes)


# --- hashes


def test_one_hash_gives_each_bucket_s_best_direction() -> None:
    """Two buckets of one hash: of rows that are multiples of one direction nothing is lost."""
    directions = torch.tensor([[3.0, 4.0], [-1.0, 1.0]])
    places = torch.tensor([[0], [0], [1], [1], [1]])
    table = torch.tensor([[1.0], [2], [1], [-3], [0.5]]) * directions[places[:, 0]]
    vectors, importance = fit_buckets(table, places, 2, rounds=8)
    assert torch.allclose(importance * vectors[places[:, 0]], table, atol=0.02)


def test_the_first_buckets_are_weighted_means() -> None:
    """With p = 1 and one hash a bucket is the mean of its rows; p is then each row's projection on it."""
    places = torch.tensor([[0], [0], [1]])
    table = torch.tensor([[2.0, 0], [0, 2], [5, 5]])
    vectors, importance = fit_buckets(table, places, 2, rounds=1)
    assert torch.allclose(vectors, torch.tensor([[1.0, 1], [5, 5]]), atol=0.01)
    assert torch.allclose(importance, torch.ones(3, 1), atol=0.01)
    weighted, importance = fit_buckets(table, places, 2, 1, torch.tensor([3.0, 1, 1]))
    assert torch.allclose(weighted[0], torch.tensor([1.5, 0.5]), atol=0.01)
    assert torch.allclose(importance[:, 0], torch.tensor([3 / 2.5, 1 / 2.5, 1]), atol=0.01)


def test_a_table_that_is_hashed_comes_back() -> None:
    module = HashedEmbedding(500, 12, HashedWords(buckets=40, hashes=2))
    places = module.places(torch.arange(500))
    pool, p = draw(40, 12), draw(500, 2, seed=1).abs() + 0.5
    table = (p[:, :, None] * pool[places]).sum(1)
    vectors, importance = fit_buckets(table, places, 40, rounds=60)
    found = (importance[:, :, None] * vectors[places]).sum(1)
    assert (found - table).square().sum() < 0.01 * (table - table.mean(0)).square().sum()


def test_more_rounds_come_nearer_and_weights_favour_their_tokens() -> None:
    table, places = (
        draw(800, 16),
        HashedEmbedding(1, 1, HashedWords(buckets=100, hashes=2)).places(torch.arange(800)),
    )
    weights = torch.where(torch.arange(800) < 60, 50.0, 1.0)

    def left(rounds: int, chosen: Tensor | None = None) -> Tensor:
        vectors, importance = fit_buckets(table, places, 100, rounds, chosen)
        return (table - (importance[:, :, None] * vectors[places]).sum(1)).square().sum(1)

    assert left(1).sum() > left(4).sum() > left(12).sum()
    assert left(4, weights)[:60].sum() < 0.5 * left(4)[:60].sum()


def test_the_student_computes_the_fit_and_trains_pool_and_weights() -> None:
    teacher = tiny_encoder().eval()
    recipe = "hash-embeddings:buckets=128,rounds=2"
    (stage,) = Recipe.parse(recipe).stages
    after, (record,) = run_stage(stage, teacher, context(teacher))
    before = built(recipe, teacher)
    assert after.config.words == HashedWords(buckets=128, hashes=2)
    assert not torch.equal(before.embedding.word.weight, after.embedding.word.weight)
    assert not torch.equal(before.embedding.word.importance, after.embedding.word.importance)
    counts = token_counts(teacher, context(teacher)) + 1
    places = before.embedding.word.places(torch.arange(2048))
    vectors, importance = fit_buckets(teacher.embedding.word.weight.data, places, 128, 2, counts)
    assert torch.equal(before.embedding.word.weight, vectors)
    fitted = (importance[:, :, None] * vectors[places]).sum(1).double()
    table = teacher.embedding.word.weight.data.double()
    share = (counts / counts.sum())[:, None]
    mean = (share * table).sum(0)
    by_frequency = float((share * (fitted - table) ** 2).sum() / (share * (table - mean) ** 2).sum())
    assert record.figures["the same by frequency in the training set"] == pytest.approx(
        by_frequency, rel=1e-4
    )
    assert by_frequency < record.figures["squared error of word embeddings / their variance"]
    assert relative_error(teacher, teacher) == 0
    assert not torch.equal(built(f"{recipe},weighting=equal", teacher).embedding.word.weight, vectors)


# --- what is refused before training

SHAPE = EncoderConfig.bert(4, 32, heads=4)


def left(recipe: str, config: EncoderConfig = SHAPE) -> EncoderConfig:
    for call in Recipe.parse(recipe).calls:
        config = call.make().check(config)
    return config


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        ("vocabulary-pruning:keep=30522", "keep=30522 is 30522 of 30522 tokens; keep some and drop some"),
        ("vocabulary-pruning:keep=40000", "keep=40000 is 40000 of 30522 tokens"),
        ("vocabulary-pruning:keep=0.000001", "keep=1e-06 is 0 of 30522 tokens"),
        ("hash-embeddings > vocabulary-pruning", "prune the vocabulary first, hash then"),
        (
            "code-embeddings:books=256,entries=256",
            "books=256 of entries=256 take as much as the table of 30522 x 32",
        ),
        (
            "hash-embeddings:buckets=30000",
            "buckets=30000 with hashes=2 take as much as the table of 30522 x 32",
        ),
        ("vocabulary-pruning:keep=3000 > hash-embeddings", "take as much as the table of 3000 x 32 weights"),
        ("code-embeddings > hash-embeddings", "the word embeddings are sums of code-book entries already"),
        ("hash-embeddings > code-embeddings", "the word embeddings are sums of hashed buckets already"),
        ("code-embeddings > embedding-factorization:rank=8", "are sums of code-book entries already"),
        ("embedding-factorization:rank=8 > code-embeddings", "the word embeddings are factorized already"),
        ("embedding-factorization:rank=8 > hash-embeddings", "the word embeddings are factorized already"),
    ],
)
def test_what_cannot_work_is_refused_before_training(recipe: str, line: str) -> None:
    with pytest.raises(SkylineError) as caught:
        left(recipe)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        (
            "code-embeddings:entries=12",
            "code-embeddings:entries=12 is out of range: it must be a power of two",
        ),
        ("code-embeddings:entries=1", "entries=1 is out of range"),
        ("code-embeddings:books=0", "books=0 is out of range"),
        ("hash-embeddings:hashes=17", "hashes=17 is out of range"),
        ("vocabulary-pruning:keep=0", "keep=0 is out of range"),
        ("code-embeddings + hash-embeddings", "both decide the student"),
    ],
)
def test_options_out_of_range(recipe: str, line: str) -> None:
    with pytest.raises(SkylineError) as caught:
        Recipe.parse(recipe)
    assert line in str(caught.value)


def test_shapes_that_methods_say_they_leave_are_those_they_leave() -> None:
    teacher = tiny_encoder().eval()
    for recipe in (
        "vocabulary-pruning:keep=300",
        "code-embeddings:books=4,entries=4,steps=3",
        "hash-embeddings:buckets=64,rounds=1",
        "vocabulary-pruning:keep=300 > code-embeddings:books=4,entries=4,steps=3",
        "code-embeddings:books=4,entries=4,steps=3 > vocabulary-pruning:keep=300",
        "vocabulary-pruning:keep=300 > hash-embeddings:buckets=64,rounds=1",
        "embedding-factorization:rank=8 > vocabulary-pruning:keep=300",
    ):
        student = teacher
        for stage in Recipe.parse(recipe).stages:
            student, _ = run_stage(stage, student, context(teacher, examples=400), training=False)
        assert student.config == left(recipe, teacher.config)
        assert torch.isfinite(student(student.encode(["the film was dull", "a play"])).logits).all()


def test_a_refusal_names_the_method_the_model_and_what_came_before() -> None:
    with pytest.raises(SkylineError) as caught:
        check_recipe(Recipe.parse("hash-embeddings > vocabulary-pruning"), "bert-base")
    assert str(caught.value).startswith(
        "'vocabulary-pruning' cannot work on bert-base after 'hash-embeddings': hashes"
    )
