"""ffn, rnn, bilstm and mkd-bilstm: their losses worked out, their tokens, sizes, training, and what follows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.decomposition import PCA
from torch import Tensor

from harness.common.errors import Code
from harness.compression.comparable import Baseline
from harness.compression.context import Context, Step
from harness.compression.distillation.losses import squared_logit_error
from harness.compression.evaluation import predict
from harness.compression.task_loss import task_loss
from harness.compression.training import parameter_groups
from harness.conformance.tiny import BUDGET, CONFIG, tiny_encoder, tiny_tokenizer
from harness.models.artifacts import load_artifact, read_config, save_artifact, to_dense
from harness.models.batch import Batch, Output
from harness.models.config import EncoderConfig, HashedWords
from harness.models.encoder.encoder import Encoder
from harness.models.factory import make_model
from harness.models.students.config import BagConfig, RecurrentConfig
from harness.models.students.student import WORD_DEVIATION, Student
from harness.models.students.tokenizers import byte_pair_tokenizer, character_tokenizer
from harness.models.students.words import projected_words
from harness.profiling.costs.size import artifact_facts
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from harness.records.cells import BudgetSpec, QualityCell
from harness.runs import resolution
from harness.runs.resolution import check_recipe
from harness.tasks import load_task
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import built, context, method_of

METHODS = ("ffn", "rnn", "bilstm", "mkd-bilstm")
SMALL = "dimension=6,classifier=7"


def draw(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def step_of(student: Tensor, teacher: Tensor, targets: Tensor, kind: str = "classification") -> Step:
    ids = torch.zeros(len(student), 3, dtype=torch.long)
    return Step(
        kind=kind,  # type: ignore[arg-type]
        batch=Batch(ids, torch.ones_like(ids), ids),
        targets=targets,
        rows=list(range(len(student))),
        output=Output(student),
        task_loss=task_loss(kind, student, targets),  # type: ignore[arg-type]
        progress=0.0,
        teacher=tiny_encoder(),
        _logits=teacher,
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("temperature", [0.0, 3.0])
def test_the_loss_by_hand(method: str, alpha: float, temperature: float) -> None:
    student, teacher = draw(8, 3), draw(8, 3, seed=1)
    targets = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    ours, theirs = student.double().numpy(), teacher.double().numpy()
    hard = -np.log(softmax(ours, axis=1)[np.arange(8), targets.numpy()]).mean()
    if temperature:
        ours, theirs = softmax(ours / 3, axis=1), softmax(theirs / 3, axis=1)
    wanted = alpha * hard + (1 - alpha) * ((ours - theirs) ** 2).mean()
    found = method_of(f"{method}:alpha={alpha},temperature={temperature}").loss(
        step_of(student, teacher, targets)
    )
    assert float(found) == pytest.approx(wanted, rel=1e-5)  # type: ignore[arg-type]


def test_on_numbers() -> None:
    """One row: logits (1, 3) against (2, 1); through softmax of temperature 2 the first class has σ(−1) and σ(½)."""
    step = step_of(torch.tensor([[1.0, 3]]), torch.tensor([[2.0, 1]]), torch.tensor([0]))
    assert float(squared_logit_error(step)) == pytest.approx((1 + 4) / 2)
    low, high = 1 / (1 + np.e), 1 / (1 + np.exp(-0.5))
    assert float(squared_logit_error(step, temperature=2.0)) == pytest.approx((high - low) ** 2, rel=1e-5)


def test_scores_are_compared_raw() -> None:
    step = step_of(
        torch.tensor([[1.0], [2]]), torch.tensor([[3.0], [2]]), torch.tensor([0.0, 1]), "regression"
    )
    assert float(squared_logit_error(step, temperature=3.0)) == pytest.approx(2)


def test_published_defaults() -> None:
    assert method_of("ffn").options.temperature == 3
    assert method_of("bilstm").options.temperature == method_of("rnn").options.temperature == 0
    assert method_of("bilstm").options.alpha == method_of("mkd-bilstm").options.alpha == 0


THESIS = [
    *(("bilstm", "hash", d, 5000, n) for d, n in ((25, 3.0e5), (100, 4.3e5), (300, 7.7e5))),
    *(("bilstm", "bpe", d, 5000, n) for d, n in ((25, 4.0e5), (100, 8.6e5), (300, 2.1e6))),
    ("bilstm", "char", 100, 35, 3.7e5),
    *(("rnn", "hash", d, 5000, n) for d, n in ((25, 7.3e4), (100, 1.3e5), (300, 2.7e5))),
    *(("rnn", "bpe", d, 5000, n) for d, n in ((25, 1.7e5), (100, 5.6e5), (300, 1.6e6))),
    ("rnn", "char", 100, 35, 6.4e4),
    *(("ffn", "hash", d, 5000, n) for d, n in ((25, 3.0e4), (100, 7.5e4), (300, 2.0e5))),
    *(("ffn", "bpe", d, 5000, n) for d, n in ((25, 1.3e5), (100, 5.1e5), (300, 1.5e6))),
    ("ffn", "char", 100, 35, 1.4e4),
    ("ffn", "hash", 25, 2500, 1.7e4),
]
"""Parameters of Table 7.1, to two digits."""


@pytest.mark.parametrize(("method", "embedding", "dimension", "vocabulary", "params"), THESIS)
def test_the_sizes_of_the_thesis(
    method: str, embedding: str, dimension: int, vocabulary: int, params: float
) -> None:
    call = method_of(f"{method}:embedding={embedding},dimension={dimension},vocabulary={vocabulary}")
    with torch.device("meta"):
        model = make_model(call.final_shape_from(EncoderConfig.bert(12, 768)))
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(params, rel=0.05)


def test_mkd_has_the_survey_s_size() -> None:
    """90 MB of embeddings and 11 MB of the rest, under BERT-base."""
    call = method_of("mkd-bilstm:dimension=768")
    with torch.device("meta"):
        model = make_model(call.final_shape_from(EncoderConfig.bert(12, 768)))
    words = model.get_parameter("embedding.word.weight").numel()
    rest = sum(p.numel() for p in model.parameters()) - words
    assert round(4 * words / 2**20) == 89
    assert 8e6 < 4 * rest < 12e6


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("embedding", ["wordpiece", "hash", "bpe", "char"])
def test_the_shape_that_is_promised_is_made(method: str, embedding: str) -> None:
    recipe = f"{method}:embedding={embedding},{SMALL}"
    if embedding == "bpe":
        recipe += ",vocabulary=60"
    promised, student = method_of(recipe).final_shape_from(CONFIG), built(recipe)
    assert isinstance(student, Student)
    assert student.config.kind == ("bag" if method == "ffn" else "recurrent")
    own = student.require_tokenizer()
    if embedding in ("wordpiece", "hash"):
        assert student.config == promised
        assert own.same_as(tiny_tokenizer())
    else:
        assert student.config.vocab_size == own.vocab_size <= promised.vocab_size
        assert student.config == promised.model_copy(update={"vocab_size": own.vocab_size})
    assert student.config.embedding_size == 6
    assert student.config.classifier == 7
    assert (student.config.stretch == 5) == (embedding == "char")


@pytest.mark.parametrize(
    ("recipe", "fields"),
    [
        ("rnn:hidden=5,layers=2,pooling=max,dropout=0.3", {"cell": "rnn", "pooling": "max", "dropout": 0.3}),
        ("bilstm:hidden=5,layers=2", {"cell": "lstm", "pooling": "last", "dropout": 0.1}),
        ("mkd-bilstm:hidden=5,layers=2", {"cell": "lstm", "pooling": "attention"}),
    ],
)
def test_options_reach_the_configuration(recipe: str, fields: dict[str, Any]) -> None:
    config = method_of(recipe).final_shape_from(CONFIG)
    assert isinstance(config, RecurrentConfig)
    assert {**fields, "hidden": 5, "layer_count": 2, "bidirectional": True} == {
        name: getattr(config, name) for name in (*fields, "hidden", "layer_count", "bidirectional")
    }


def test_byte_pairs_by_hand() -> None:
    """Of "aab" four times and "b" once: a + a, then ▁ + aa. The alphabet first, by code point, as among equal pairs."""
    made = byte_pair_tokenizer(["aab aab aab aab b"], 7)
    assert made.fast.get_vocab() == {"[PAD]": 0, "[UNK]": 1, "a": 2, "b": 3, "▁": 4, "aa": 5, "▁aa": 6}
    assert made.fast.encode("Aab b?").tokens == ["▁aa", "b", "▁", "b", "[UNK]"]


TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "the dog sleeps!",
    "A fox, a dog and the quick one?",
] * 3


def test_a_vocabulary_below_the_characters() -> None:
    needed = len({c for c in " ".join(TEXTS).lower() if c != " "})
    with refused("vocabulary=29 ", f"{needed} characters", f"vocabulary={needed + 3}"):
        byte_pair_tokenizer(TEXTS, 29)
    assert byte_pair_tokenizer(TEXTS, needed + 3).vocab_size == needed + 3


@given(st.text(max_size=40), st.text(max_size=40))
def test_tokens_of_any_text(first: str, second: str) -> None:
    """A stored tokenizer reads as the made one; a pair is told by its segments alone, with no token in between."""
    for made in (byte_pair_tokenizer(TEXTS, 60), character_tokenizer(TEXTS, 35)):
        again = type(made)(type(made.fast).from_str(made.to_json()))
        (encoding,) = made.tokens([first], [second], 500)
        assert again.tokens([first], [second], 500)[0].ids == encoding.ids
        alone = [made.tokens([text], None, 500)[0] for text in (first, second)]
        assert encoding.ids == alone[0].ids + alone[1].ids
        assert encoding.type_ids == [0] * len(alone[0].ids) + [1] * len(alone[1].ids)
        assert all(0 < token < made.vocab_size for token in encoding.ids)


def test_characters_by_hand() -> None:
    made = character_tokenizer(["abba  cab", "B"], 6)
    assert made.fast.get_vocab() == {"[PAD]": 0, "[UNK]": 1, " ": 2, "b": 3, "a": 4, "c": 5}
    assert made.tokens([" Cä\n b!"], None, 9)[0].ids == [5, 4, 2, 3, 1]
    assert character_tokenizer(["abba  cab", "B"], 5).tokens(["cab"], None, 9)[0].ids == [1, 4, 3]


def test_words_that_begin_with_the_teacher_s() -> None:
    teacher = tiny_encoder()
    table = teacher.embedding.word.weight.detach().double().numpy()
    wanted = PCA(5).fit_transform(table)
    wanted *= WORD_DEVIATION / wanted.std()
    found = projected_words(teacher, 5).double().numpy()
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), atol=1e-5)
    assert found.std() == pytest.approx(WORD_DEVIATION, rel=1e-5)
    student = built(f"ffn:embedding=wordpiece,start=teacher,{SMALL}", teacher)
    assert torch.equal(student.get_parameter("embedding.word.weight"), projected_words(teacher, 6))
    assert not torch.equal(
        built(f"ffn:embedding=wordpiece,{SMALL}", teacher).get_parameter("embedding.word.weight"),
        projected_words(teacher, 6),
    )


def test_all_of_a_student_learns_at_its_own_rate() -> None:
    method = method_of(f"bilstm:rate=0.01,{SMALL}")
    student = built(f"bilstm:rate=0.01,{SMALL}")
    decaying, others, own = parameter_groups(student, 0.1, [method])
    assert decaying["params"] == others["params"] == []
    assert own["lr"] == 0.01
    assert len(own["params"]) == len(list(student.parameters()))  # type: ignore[arg-type]


def error(student: Student, teacher: Encoder, given_to_it: Context) -> float:
    texts = [example.text for example in given_to_it.training_examples()]
    with torch.no_grad():
        ours, theirs = (m.eval()(m.encode(texts, max_length=32)).logits for m in (student, teacher))
    return float((ours - theirs).square().mean())


@pytest.mark.parametrize(
    ("recipe", "precision"),
    [
        ("ffn:embedding=wordpiece,temperature=0,alpha=0,rate=0.02,dropout=0", "float32"),
        ("rnn:embedding=bpe,vocabulary=80,hidden=12,alpha=0,rate=0.01,dropout=0", "float32"),
        ("bilstm:embedding=char,hidden=12,pooling=max,rate=0.02,dropout=0", "bfloat16"),
        ("mkd-bilstm:embedding=hash,vocabulary=200,hidden=12,rate=0.02,dropout=0", "float32"),
    ],
)
def test_it_learns_the_teacher_s_logits(recipe: str, precision: str) -> None:
    teacher = tiny_encoder().eval()
    teacher.head.classifier.weight.data.mul_(4)
    budget = {"examples": 32, "precision": precision}
    before = error(
        built(f"{recipe},dimension=12,classifier=16", teacher, **budget), teacher, context(teacher, **budget)
    )  # type: ignore[arg-type]
    after = built(f"{recipe},dimension=12,classifier=16", teacher, True, epochs=30, **budget)
    assert error(after, teacher, context(teacher, **budget)) < 0.5 * before  # type: ignore[arg-type]


def pairs_context(teacher: Encoder) -> Context:
    return Context(teacher, load_task("toy-pairs").training_view(), BUDGET)


@pytest.mark.parametrize("method", METHODS)
def test_pairs(method: str) -> None:
    teacher = tiny_encoder().eval()
    (stage,) = Recipe.parse(f"{method}:embedding=bpe,vocabulary=100,{SMALL}").stages
    student, (record,) = run_stage(stage, teacher, pairs_context(teacher))
    assert isinstance(student, Student)
    assert student.config.paired
    assert record.steps == 3
    task = load_task("toy-pairs")
    examples = task.dev()[:8]
    assert len(predict(student, task, examples)) == 8
    texts = ["the old clock"], ["a bridge"]
    with torch.no_grad():
        there, back = (student(student.encode(*pair)).logits for pair in (texts, texts[::-1]))
    assert not torch.allclose(there, back, atol=1e-7)
    with refused("pairs"):
        predict(student, load_task("toy-sentiment"), load_task("toy-sentiment").dev()[:2])


@pytest.mark.parametrize(
    "recipe",
    [
        "ffn:dimension=0",
        "bilstm:hidden=0",
        "rnn:classifier=0",
        "rnn:layers=0",
        "bilstm:pooling=mean",
        "bilstm:alpha=1.5",
        "ffn:rate=0",
        "ffn:temperature=-1",
        "ffn:embedding=word",
    ],
)
def test_options_out_of_range(recipe: str) -> None:
    with refused(Code.OUT_OF_RANGE, recipe):
        Recipe.parse(recipe)


@pytest.mark.parametrize(
    ("recipe", "names"),
    [
        ("ffn:vocabulary=28", ["vocabulary=28", "embedding=bpe", "29"]),
        ("ffn:embedding=char,vocabulary=5", ["vocabulary=5", "embedding=char"]),
        ("ffn:embedding=hash,vocabulary=9", ["vocabulary=9", "embedding=hash"]),
        ("ffn:embedding=wordpiece,vocabulary=99", ["vocabulary", "embedding=bpe"]),
        ("ffn:start=teacher", ["start=teacher", "embedding=bpe"]),
        ("bilstm + kd-logits", ["'bilstm'", "'kd-logits'"]),
        ("bilstm + rnn", ["'bilstm'", "'rnn'"]),
    ],
)
def test_options_that_exclude_each_other(recipe: str, names: list[str]) -> None:
    with refused(Code.CONFLICT, *names):
        Recipe.parse(recipe)


@pytest.mark.parametrize(
    ("recipe", "code", "names"),
    [
        ("bilstm > head-pruning", Code.WRONG_SHAPE, ("'head-pruning'", "bert-tiny after 'bilstm'")),
        ("ffn > kd-logits", Code.WRONG_SHAPE, ("'kd-logits'", "'bag'")),
        ("rnn > bilstm", Code.WRONG_ORDER, ("'bilstm'", "bert-tiny after 'rnn'")),
        ("layer-drop:drop=1 > ffn", Code.WRONG_ORDER, ("'ffn'", "bert-tiny after 'layer-drop'")),
        ("magnitude > bilstm", Code.WRONG_ORDER, ("'bilstm'", "bert-tiny after 'magnitude'")),
        (
            "bilstm:embedding=wordpiece,start=teacher,dimension=300",
            "",
            ("dimension=300", "128", "start=random"),
        ),
    ],
)
def test_recipes_that_are_refused_before_training(
    recipe: str, code: Code | str, names: tuple[str, ...]
) -> None:
    with refused(code, *names):
        check_recipe(Recipe.parse(recipe), "bert-tiny")


class Spans:
    name, kind, output_size, described = "squad", "span", 2, None

    def fingerprint(self) -> str:
        return "data"


def test_spans_are_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    for method in METHODS:
        with refused(f"'{method}' cannot work on bert-tiny: .*span"):
            check_recipe(Recipe.parse(method), "bert-tiny", Spans())  # type: ignore[arg-type]
    check_recipe(Recipe.parse("kd-logits:layers=1"), "bert-tiny", Spans())  # type: ignore[arg-type]
    monkeypatch.setattr(resolution, "load_task", lambda name, folder: Spans())
    cells = [
        QualityCell(recipe=recipe, model="bert-tiny", task="squad", seed=0, budget=BudgetSpec())
        for recipe in ("baseline", "kd-logits:layers=1", "rnn")
    ]
    for cell in cells[:2]:
        resolution.Resolver().job(cell)
    with refused("task 'squad': 'rnn' cannot work on bert-tiny"):
        resolution.Resolver().job(cells[2])


@pytest.mark.parametrize("embedding", ["wordpiece", "hash"])
def test_a_base_without_a_tokenizer(embedding: str) -> None:
    with refused(f"embedding={embedding} ", "tokenizer"):
        method_of(f"ffn:embedding={embedding}").check_against(CONFIG, Baseline(CONFIG, lambda: None))
    method_of("ffn:embedding=bpe").check_against(CONFIG, Baseline(CONFIG, lambda: None))


def stages(recipe: str) -> Student:
    """All stages of a recipe, without training."""
    model: Any = tiny_encoder().eval()
    for stage in Recipe.parse(recipe).stages:
        model, _ = run_stage(stage, to_dense(model).eval(), context(shapes_only=True))
    assert isinstance(model, Student)
    return model


def test_a_student_is_pruned_and_quantized(tmp_path: Path) -> None:
    recipe = f"bilstm:embedding=hash,vocabulary=100,hidden=9,{SMALL} > magnitude:sparsity=0.5 > dynamic-int8"
    check_recipe(Recipe.parse(recipe), "bert-tiny")
    student = stages(recipe)
    save_artifact(student, tmp_path / "small")
    codecs = read_config(tmp_path / "small").codecs
    assert codecs["body.forwards.0.weight_hh_l0"] == codecs["head.hidden.weight"]
    assert "int8" in codecs["head.hidden.weight"]
    assert "bitmask" in codecs["head.hidden.weight"]
    assert codecs["embedding.word.weight"] == "int8(channel)"
    assert codecs["embedding.word.importance"] == "cast(float16)"
    loaded = load_artifact(tmp_path / "small")
    weight = loaded.get_parameter("body.backwards.0.weight_ih_l0")
    assert int((weight == 0).sum()) >= weight.numel() // 2
    batch = loaded.encode(["a good film", "it is so dull that nobody laughs"])
    with torch.no_grad():
        exact, stored = student(batch).logits, loaded(batch).logits
    assert torch.allclose(exact, stored, atol=0.05 * float(exact.abs().max()) + 1e-3)


def test_the_smallest_student_takes_thirty_kilobytes(tmp_path: Path) -> None:
    student = stages("ffn:embedding=hash,dimension=25,vocabulary=2500 > dynamic-int8")
    assert isinstance(student.config, BagConfig)
    assert student.config.words == HashedWords(buckets=250, hashes=3, rows=2500)
    save_artifact(student, tmp_path / "smallest")
    facts = artifact_facts(tmp_path / "smallest")
    assert facts.params == 7500 + 6250 + 25 * 100 + 100 + 2 * 100 + 2
    assert facts.gzip_bytes <= 30_000
    assert json.loads((tmp_path / "smallest" / "config.json").read_text())["model"]["kind"] == "bag"
