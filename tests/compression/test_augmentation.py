"""Augmentation: which words change and into what, whose labels, what is kept on disk, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import BPE

from harness.common.errors import Code
from harness.compression import teacher_logits as teacher_module
from harness.compression import training
from harness.compression.comparable import Baseline
from harness.compression.context import Augmented, Context
from harness.compression.distillation import augmentation
from harness.compression.distillation.augmentation import (
    augment,
    nearest_words,
    refuse_augmentation,
    replaceable,
    replaced,
    variants,
)
from harness.compression.evaluation import predict
from harness.compression.teacher_logits import TeacherLogits
from harness.compression.training import train
from harness.conformance.tiny import CONFIG, tiny_encoder, tiny_task, tiny_tokenizer
from harness.models.config import CodedWords, HashedWords
from harness.models.encoder.encoder import Encoder
from harness.models.tokenizer import Tokenizer
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from harness.tasks import Example
from harness.tasks.base import TrainingView
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import context, method_of


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_which_words_may_be_replaced() -> None:
    text = "The film isn't bad: in 2019, an mp3-player costs Ärger, under_score"
    assert [word.group() for word in replaceable(text)] == ["film", "bad", "player", "costs", "Ärger"]


def test_the_rest_of_a_text_stays_and_words_change_with_probability_04() -> None:
    text = "a  great (film), and short"
    places = [(3, 8, ["good"]), (10, 14, ["movie", "plot"]), (21, 26, ["long"])]
    made = list(replaced(text, places, 4000, generator()))
    assert len(made) == 4000
    assert set(made) == {
        f"a  {a} ({b}), and {c}"
        for a in ("great", "good")
        for b in ("film", "movie", "plot")
        for c in ("short", "long")
    }
    shares = [np.mean([word in row for row in made]) for word in ("good", "movie", "plot", "long")]
    # Five standard deviations of 4,000 draws.
    assert shares == pytest.approx([0.4, 0.2, 0.2, 0.4], abs=5 * (0.24 / 4000) ** 0.5)


def test_of_a_pair_either_text_changes() -> None:
    def places(text: str) -> list[Any]:
        return [(word.start(), word.end(), ["new"]) for word in replaceable(text)]

    example = Example("great film", "terrible plot", 1, "7")
    made = list(variants(example, 60, places, generator()))
    texts = {(other.text, other.pair) for other in made}
    assert len(texts) == len(made), "no text twice"
    first = {text for text, pair in texts if pair == "terrible plot"}
    second = {pair for text, pair in texts if text == "great film"}
    assert first == {"new film", "great new", "new new"}
    assert second == {"new plot", "terrible new", "new new"}
    assert len(texts) == 6
    # Where one text has no word to replace, the other changes.
    made = list(variants(Example("the", "terrible plot", 1), 20, places, generator()))
    assert {other.pair for other in made} == second
    assert {other.text for other in made} == {"the"}
    assert not list(variants(Example("the", None, 1), 20, places, generator()))


def test_neighbours_are_the_nearest_by_cosine() -> None:
    model = tiny_encoder()
    whole = augmentation.whole_words(model.require_tokenizer())
    table = model.embedding.word.weight.detach().double().numpy()
    found = nearest_words(model, [*list(whole)[:5], "xq", "\u4e2d"])
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    names = list(whole)
    for word in names[:5]:
        likeness = {other: unit[whole[word]] @ unit[whole[other]] for other in names if other != word}
        assert found[word] == sorted(likeness, key=likeness.__getitem__, reverse=True)[:15]
    # A word in pieces stands where the mean of its pieces does; of an unknown piece nothing is known.
    vocabulary = model.require_tokenizer().fast.get_vocab()
    mean = (table[vocabulary["x"]] + table[vocabulary["##q"]]) / 2
    best = sorted(names, key=lambda other: -(unit[whole[other]] @ mean))
    assert found["xq"] == best[:15]
    assert "\u4e2d" not in found
    assert not any(token.startswith("[") or "#" in token or len(token) < 2 for token in whole)


def made_with(folder: Path | None = None, count: int = 3, seed: int = 0, **budget: Any) -> list[Augmented]:
    logits = None if folder is None else TeacherLogits(folder, "tiny")
    return augment(context(tiny_encoder().eval(), seed=seed, teacher_logits=logits, **budget), count)


def test_the_teacher_labels_what_is_made() -> None:
    teacher = tiny_encoder().eval()
    given = context(teacher)
    made = made_with()
    assert 48 < len(made) <= 3 * 48
    texts = [each.example for each in made]
    assert [text.label for text in texts] == predict(teacher, given.task, texts)
    assert {text.label for text in texts} == {0, 1}
    examples = given.training_examples()
    for each in made:
        source = examples[each.source]
        assert each.example.text != source.text
        assert len(each.example.text.split()) == len(source.text.split())


def test_scores_are_labels_too() -> None:
    view = tiny_task().training_view()
    task = TrainingView("scores", "regression", (), ("pearson",), "pearson", 32, view.examples)
    teacher = Encoder(CONFIG.with_head("regression", 1), tiny_tokenizer()).initialize(generator()).eval()
    given = context(teacher)
    given.task = task
    made = augment(given, 2)
    texts = [each.example for each in made]
    wanted = predict(teacher, task, texts)
    assert [text.label for text in texts] == pytest.approx(wanted, abs=1e-6)
    assert len(set(wanted)) > 10


def test_one_seed_makes_the_same_texts() -> None:
    assert made_with() == made_with()
    assert made_with(seed=1) != made_with()


def test_texts_are_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = made_with(tmp_path)
    assert made == made_with()
    (file,) = tmp_path.glob("*.augmented.json")

    def forbidden(*_: Any) -> Any:
        raise AssertionError("it was made already")

    with monkeypatch.context() as patched:
        patched.setattr(augmentation, "nearest_words", forbidden)
        assert made_with(tmp_path) == made
        for other in ({"count": 2}, {"seed": 1}, {"examples": 40}):
            with pytest.raises(AssertionError, match="made already"):
                made_with(tmp_path, **other)
    file.write_text(file.read_text()[:-20])
    assert made_with(tmp_path) == made, "a damaged file is made again"
    assert made_with(tmp_path) == made


def test_a_second_student_starts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(recipe: str) -> tuple[Encoder, int]:
        (stage,) = Recipe.parse(recipe).stages
        given = context(tiny_encoder().eval(), teacher_logits=TeacherLogits(tmp_path, "tiny"))
        student, (done,) = run_stage(stage, tiny_encoder().eval(), given)
        return student, done.examples

    _, trained = run("kd-logits:layers=1,augment=3")
    assert trained == 48 + len(made_with(tmp_path))
    assert len(list(tmp_path.glob("*.safetensors"))) == 2, "the task's own, and what was made"
    monkeypatch.setattr(teacher_module, "predict_logits", lambda *_: pytest.fail("the teacher was run again"))
    assert run("kd-logits:layers=2,augment=3")[1] == trained
    assert run("kd-logits:layers=2")[1] == 48


def test_copies_of_held_out_examples_are_not_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[Example]] = []
    encode = training.encode_examples

    def watch(examples: Any, *rest: Any) -> Any:
        seen.append(list(examples))
        return encode(examples, *rest)

    monkeypatch.setattr(training, "encode_examples", watch)
    given = context(
        tiny_encoder().eval(), patience=1, holdout=0.25, teacher_logits=TeacherLogits(tmp_path, "tiny")
    )
    examples = list(given.training_examples())
    copies = [Augmented(i, Example(f"copy {i} {n}", None, 1)) for i in range(48) for n in range(2)]
    given.augmented = copies
    kept, held = given.task.with_examples(examples).holdout(0.25, 0, at_most=1000)
    assert len(held) == 12
    done = train(tiny_encoder(), [method_of("kd-logits:layers=4")], given, "augmented")
    out = {examples.index(example) for example in held}
    wanted = [each.example for each in copies if each.source not in out]
    assert len(wanted) == 72
    assert seen[0] == [*kept, *wanted]
    assert done.examples == 36 + 72


def test_logits_of_both_parts_are_the_teacher_s(tmp_path: Path) -> None:
    """The cached logits that a loss is given are those of its rows, the task's own and what was made."""
    teacher = tiny_encoder().eval()
    given = context(teacher, teacher_logits=TeacherLogits(tmp_path, "tiny"))
    given.augmented = augment(given, 2)
    method, rows = method_of("kd-logits:layers=4"), set[int]()
    loss = method.loss

    def watch(step: Any) -> Any:
        with torch.no_grad():
            torch.testing.assert_close(step.teacher_logits, teacher(step.batch).logits, atol=1e-5, rtol=1e-4)
        rows.update(step.rows)
        return loss(step)

    method.loss = watch  # type: ignore[method-assign]
    train(tiny_encoder(), [method], given, "augmented")
    assert rows == set(range(48 + len(given.augmented)))


def byte_pairs() -> Tokenizer:
    return Tokenizer(FastTokenizer(BPE(vocab={"a": 0, "b": 1}, merges=[])))


@pytest.mark.parametrize(
    ("config", "tokenizer", "code", "name"),
    [
        (CONFIG.with_head("span", 2), tiny_tokenizer, Code.UNSUPPORTED, "spans"),
        (CONFIG.with_words(HashedWords(buckets=8)), tiny_tokenizer, Code.WRONG_KIND, "hashes"),
        (CONFIG.with_words(CodedWords(books=2, entries=4)), tiny_tokenizer, Code.WRONG_KIND, "codes"),
        (CONFIG, byte_pairs, Code.WRONG_KIND, "WordPiece"),
        (CONFIG, lambda: tiny_tokenizer().keep(range(5)), Code.WRONG_KIND, "WordPiece"),
        (CONFIG, lambda: None, Code.WRONG_KIND, "WordPiece"),
    ],
)
def test_refusals(config: Any, tokenizer: Any, code: Code, name: str) -> None:
    baseline = Baseline(config, tokenizer)
    for recipe in ("kd-logits", "pkd:layers=2", "distilbert", "minilm", "tinybert:layers=2", "bert-emd"):
        asking = method_of(f"{recipe}{',' if ':' in recipe else ':'}augment=2")
        with refused(code, name, "augment=0"):
            asking.check_against(config, baseline)
        with_none = method_of(recipe)
        assert list(with_none.examples(context())) == []
    with refused(code, name, "augment=0"):
        refuse_augmentation(config, tokenizer())


def test_a_language_without_candidates() -> None:
    view = tiny_task().training_view()
    examples = [Example("\u4e2d\u6587 \u7535\u5f71", None, n % 2) for n in range(8)]
    given = context()
    given.task = view.with_examples(examples)
    with refused(Code.NO_DATA, "toy-sentiment", "augment=0"):
        augment(given, 2)


def test_a_context_without_a_base_takes_the_teacher_s_words() -> None:
    given: Context = context(load_pretrained=lambda: tiny_encoder(3))
    assert augment(given, 2) != made_with(count=2)
