"""adabert: its losses worked out, its search for a cell, what it is refused for, and what follows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import log_softmax, softmax
from torch import Tensor

from harness.common.errors import Code
from harness.compression.context import Context
from harness.compression.evaluation import predict
from harness.compression.training import parameter_groups
from harness.conformance.tiny import BUDGET, CONFIG, tiny_encoder
from harness.models.artifacts import load_artifact, read_config, save_artifact
from harness.models.config import EncoderConfig
from harness.models.factory import make_model
from harness.models.students.config import FIXED_CELL, OPERATIONS, ConvolutionalConfig
from harness.models.students.convolutional import Convolutional, ConvolutionalStudent, TokenNorm
from harness.models.students.words import projected_words
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from harness.runs.resolution import check_recipe
from harness.tasks import load_task
from methods.distillation._architecture_search import (
    COSTS,
    Choice,
    Mixture,
    Search,
    annealed,
    efficiency_loss,
    genotype_of,
)
from tests.support.distilling import given_step
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import built, context, draw, method_of

SMALL = "dimension=8,channels=6,classifier=7,cells=2"


def test_published_size_and_options() -> None:
    """SST-2's 6.4 million parameters; gamma, beta and the last temperature."""
    with torch.device("meta"):
        model = make_model(
            method_of("adabert:search=none,cells=8").final_shape_from(EncoderConfig.bert(12, 768))
        )
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(6.4e6, rel=0.01)
    o = method_of("adabert").options
    assert (o.gamma, o.beta, o.temperature, o.dimension, o.channels) == (0.8, 4.0, 0.2, 128, 128)


def test_the_temperature_falls_by_the_same_factor() -> None:
    found = [annealed(step / 4, 0.2) for step in range(5)]
    assert found[0] == 1
    assert found[-1] == pytest.approx(0.2)
    assert np.diff(np.log(found)) == pytest.approx([np.log(0.2) / 4] * 4)


def chosen(edges: int = 2, temperature: float = 0.5) -> Choice:
    choice = Choice(edges)
    choice.logits.data.copy_(draw(edges, len(OPERATIONS)))
    choice.draw(torch.Generator().manual_seed(1), temperature)
    return choice


def test_one_operation_is_drawn_with_the_gradient_of_the_softmax() -> None:
    choice, slope = chosen(), draw(2, len(OPERATIONS), seed=2)
    weights = choice.weights()
    noisy = (choice.logits.detach() + choice.noise).double().numpy()
    assert weights.argmax(-1).tolist() == noisy.argmax(-1).tolist()
    assert sorted(set(weights.flatten().tolist())) == [0, 1]
    assert weights.sum(-1).tolist() == [1, 1]
    (weights * slope).sum().backward()
    p, g = softmax(noisy / 0.5, axis=-1), slope.double().numpy()
    wanted = p * (g - (p * g).sum(-1, keepdims=True)) / 0.5
    assert choice.logits.grad is not None
    np.testing.assert_allclose(choice.logits.grad.numpy(), wanted, atol=1e-5)


def test_operations_are_drawn_as_likely_as_the_logits_say() -> None:
    choice, generator = chosen(1), torch.Generator().manual_seed(3)
    counts, draws = np.zeros(len(OPERATIONS)), 4000
    for _ in range(draws):
        choice.draw(generator, 0.7)
        counts[int(choice.weights().argmax())] += 1
    wanted = softmax(choice.logits.detach().double().numpy()[0])
    assert np.abs(counts / draws - wanted).max() < 4 * 0.5 / draws**0.5


def test_efficiency_loss_by_hand() -> None:
    one = torch.zeros(3, len(OPERATIONS))
    one[[0, 1, 2], [OPERATIONS.index(name) for name in ("conv7", "identity", "conv3")]] = 1
    assert float(efficiency_loss(one, 4)) == pytest.approx((0.1076 + 0.0944 + 0.0999) / 3 / 2)
    assert sum(COSTS.values()) == pytest.approx(1, abs=1e-3)
    assert set(COSTS) == set(OPERATIONS)


def logits_with(**raised: tuple[str, float]) -> Tensor:
    """Logits of the nine edges; `e4=("conv3", 2)` raises one of edge 4."""
    logits = torch.zeros(9, len(OPERATIONS))
    for edge, (name, value) in raised.items():
        logits[int(edge[1:]), OPERATIONS.index(name)] = value
    return logits


def test_two_edges_of_a_node_stay() -> None:
    """Edges 0 and 1 are the first node's, 2 to 4 the second's, 5 to 8 the third's."""
    found = genotype_of(
        logits_with(
            e0=("conv5", 1.0),
            e1=("zero", 9.0),
            e2=("max-pool", 1.0),
            e3=("zero", 9.0),
            e4=("dilated7", 2.0),
            e6=("avg-pool", 3.0),
            e7=("identity", 2.0),
            e8=("conv7", 2.5),
        )
    )
    # What is left beside a likely zero is equally unlikely, so the first operation stands for the edge.
    assert found == (
        ((0, "conv5"), (1, "conv3")),
        ((0, "max-pool"), (2, "dilated7")),
        ((1, "avg-pool"), (3, "conv7")),
    )
    first = tuple((((0, "conv3"), (1, "conv3"))) for _ in range(3))
    assert genotype_of(torch.zeros(9, len(OPERATIONS))) == first


@pytest.mark.parametrize("kind", ["searching", "after"])
def test_the_loss_by_hand(kind: str) -> None:
    method = method_of("adabert:gamma=0.3,beta=2,cells=2")
    ours, theirs, targets = draw(6, 3), draw(6, 3, seed=1), torch.tensor([0, 1, 2, 0, 1, 2])
    step = given_step([], [], torch.ones(6, 2, dtype=torch.long), (ours, theirs), targets)
    logged = log_softmax(ours.double().numpy(), axis=1)
    hard = -logged[np.arange(6), targets.numpy()].mean()
    soft = -(softmax(theirs.double().numpy(), axis=1) * logged).sum(1).mean()
    wanted = 0.7 * hard + 0.3 * soft
    if kind == "searching":
        method._searching = search = Search(ConvolutionalConfig(embedding_size=4, channels=4, cells=2))
        search.choice.draw(torch.Generator().manual_seed(0), 1.0)
        drawn = [COSTS[OPERATIONS[int(row.argmax())]] for row in search.choice.noise]
        wanted += 2 * 2 / 8 * np.mean(drawn)
    found = method.loss(step)
    assert found is not None
    assert found.item() == pytest.approx(wanted, rel=1e-5)


def test_the_architecture_has_a_rate_of_its_own() -> None:
    method = method_of(f"adabert:rate=0.01,architecture_rate=0.02,{SMALL}")
    student = built(f"adabert:{SMALL}")
    assert isinstance(student, ConvolutionalStudent)
    student.body = search = Search(student.config)
    decaying, others, weights, architecture = parameter_groups(student, 0.1, [method])
    assert decaying["params"] == others["params"] == []
    assert (weights["lr"], architecture["lr"]) == (0.01, 0.02)
    assert [id(p) for p in architecture["params"]] == [id(search.choice.logits)]  # type: ignore[attr-defined]
    still = {id(p) for name, p in student.named_parameters() if name.endswith(("norm.mean", "norm.variance"))}
    assert still
    assert not still & {id(p) for p in weights["params"]}  # type: ignore[attr-defined]


def test_the_search_draws_anew_each_step_and_cools(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[tuple[float, float]]()
    real = Choice.draw

    def watch(self: Choice, generator: torch.Generator, temperature: float) -> None:
        real(self, generator, temperature)
        seen.append((temperature, float(self.noise[0, 0])))

    monkeypatch.setattr(Choice, "draw", watch)
    built(f"adabert:temperature=0.5,{SMALL}", training=True, epochs=4)
    temperatures, noise = zip(*seen, strict=True)
    assert temperatures == pytest.approx([0.5 ** (step / 6) for step in range(7)])
    assert len(set(noise)) == 7


def test_a_search_finds_a_cell_and_its_weights_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = list[tuple[Search, Convolutional]]()
    real = Search.kept

    def watch(self: Search, config: ConvolutionalConfig) -> Convolutional:
        kept.append((self, real(self, config)))
        return kept[-1][1]

    monkeypatch.setattr(Search, "kept", watch)
    recipe = f"adabert:search_share=0.75,architecture_rate=0.5,{SMALL}"
    (stage,) = Recipe.parse(recipe).stages
    teacher = tiny_encoder().eval()
    student, done = run_stage(stage, teacher, context(teacher, epochs=4))
    ((search, body),) = kept
    assert isinstance(student, ConvolutionalStudent)
    assert student.body is body
    assert student.config.genotype == genotype_of(search.choice.logits) != FIXED_CELL
    assert [(each.steps, each.stage) for each in done] == [(9, "adabert 1 of 2: search"), (3, str(stage))]
    assert (search.choice.logits != 0).all()
    assert ConvolutionalConfig.model_validate_json(student.config.model_dump_json()) == student.config
    assert not any(isinstance(module, Mixture | Choice) for module in student.modules())
    again = run_stage(stage, teacher, context(teacher, epochs=4))[0]
    other = run_stage(stage, teacher, context(teacher, seed=1, epochs=4))[0]
    assert again.config == student.config
    assert torch.equal(again.get_parameter("body.attention"), student.get_parameter("body.attention"))
    assert other.config != student.config


@pytest.mark.parametrize("search", ["none", "gumbel"])
def test_without_training_the_cell_is_the_fixed_one(search: str) -> None:
    recipe = f"adabert:search={search},{SMALL}"
    student = built(recipe)
    assert student.config == method_of(recipe).final_shape_from(CONFIG)
    assert student.config.genotype == FIXED_CELL
    words = student.get_parameter("embedding.word.weight")
    assert torch.equal(words, projected_words(tiny_encoder(), 8))
    assert not student.get_parameter("embedding.position").any()


@pytest.mark.parametrize(
    "recipe",
    [
        "search=none,start=random",
        "search=gumbel,search_share=0.3,beta=0",
        "search=none,start=random,embedding=char",
        "search=none,start=random,embedding=hash,vocabulary=200",
    ],
)
def test_it_learns_the_teacher_s_logits(recipe: str) -> None:
    teacher = tiny_encoder().eval()
    teacher.head.classifier.weight.data.mul_(4)
    recipe = f"adabert:gamma=1,rate=0.01,dropout=0,cells=2,channels=12,dimension=12,{recipe}"

    def divergence(student: Any) -> float:
        texts = [example.text for example in context(teacher, examples=32).training_examples()]
        with torch.no_grad():
            ours, theirs = (m.eval()(m.encode(texts, max_length=32)).logits for m in (student, teacher))
        return float(
            F.kl_div(ours.log_softmax(-1), theirs.log_softmax(-1), reduction="batchmean", log_target=True)
        )

    before = divergence(built(recipe, teacher, examples=32))
    after = divergence(built(recipe, teacher, True, examples=32, epochs=35))
    assert after < 0.5 * before


def test_pairs() -> None:
    teacher = tiny_encoder().eval()
    task = load_task("toy-pairs")
    (stage,) = Recipe.parse(f"adabert:{SMALL}").stages
    budget = BUDGET.model_copy(update={"epochs": 2})
    student, done = run_stage(stage, teacher, Context(teacher, task.training_view(), budget))
    assert isinstance(student, ConvolutionalStudent)
    assert student.config.paired
    assert [each.steps for each in done] == [3, 3]
    assert len(predict(student, task, task.dev()[:8])) == 8
    texts = ["the old clock"], ["a bridge"]
    with torch.no_grad():
        there, back = (student(student.encode(*pair)).logits for pair in (texts, texts[::-1]))
    assert not torch.allclose(there, back, atol=1e-7)


def test_an_artifact_comes_back(tmp_path: Path) -> None:
    student = built(f"adabert:{SMALL}", training=True)
    save_artifact(student, tmp_path / "student")
    loaded = load_artifact(tmp_path / "student")
    assert isinstance(loaded, ConvolutionalStudent)
    assert loaded.config == student.config == read_config(tmp_path / "student").model
    norms = [name for name, module in loaded.named_modules() if isinstance(module, TokenNorm)]
    assert any(loaded.get_parameter(f"{name}.mean").any() for name in norms)
    batch = loaded.encode(["a good film", "it is so dull that nobody laughs", ""])
    with torch.no_grad():
        assert torch.equal(student(batch).logits, loaded(batch).logits)


@pytest.mark.parametrize("joint", ["{0} + magnitude:sparsity=0.5", "magnitude:sparsity=0.5 + {0}"])
def test_what_prunes_beside_it_meets_the_weights_that_stay(joint: str) -> None:
    student = built(joint.format(f"adabert:{SMALL}"), training=True)
    weights = [student.get_parameter(name) for name in student.matrix_names()]
    zero, count = (sum(int(f(w)) for w in weights) for f in (lambda w: (w == 0).sum(), Tensor.numel))
    assert zero >= count // 2 - len(weights)


def test_it_is_quantized_after(tmp_path: Path) -> None:
    recipe = Recipe.parse(f"adabert:search=none,{SMALL} > dynamic-int8")
    check_recipe(recipe, "bert-tiny")
    model: Any = tiny_encoder().eval()
    for stage in recipe.stages:
        model = run_stage(stage, model, context(shapes_only=True))[0]
    save_artifact(model, tmp_path / "small")
    config = read_config(tmp_path / "small")
    assert config.codecs["body.cells.0.nodes.0.edges.0.dense.weight"] == "int8(channel)"
    assert config.kernels["body.cells.1.nodes.2.edges.1.dense"] == "int8"
    batch = model.encode(["a good film", "it is so dull that nobody laughs"])
    with torch.no_grad():
        exact, stored = model(batch).logits, load_artifact(tmp_path / "small")(batch).logits
    assert torch.allclose(exact, stored, atol=0.05 * float(exact.abs().max()) + 1e-3)


@pytest.mark.parametrize(
    "recipe",
    [
        "adabert:search=random",
        "adabert:cells=0",
        "adabert:cells=9",
        "adabert:channels=0",
        "adabert:gamma=1.5",
        "adabert:beta=-1",
        "adabert:beta=inf",
        "adabert:temperature=0",
        "adabert:search_share=0",
        "adabert:architecture_rate=0",
    ],
)
def test_options_out_of_range(recipe: str) -> None:
    with refused(Code.OUT_OF_RANGE, recipe):
        Recipe.parse(recipe)


@pytest.mark.parametrize(
    ("recipe", "code", "names"),
    [
        ("adabert:alpha=0.5", Code.UNKNOWN_NAME, ("alpha",)),
        ("adabert:embedding=bpe", Code.CONFLICT, ("embedding=bpe", "start=random")),
        ("adabert:vocabulary=99", Code.CONFLICT, ("vocabulary", "embedding=bpe")),
        ("adabert + bilstm", Code.CONFLICT, ("'adabert'", "'bilstm'")),
    ],
)
def test_options_that_are_refused(recipe: str, code: Code, names: tuple[str, ...]) -> None:
    with refused(code, *names):
        Recipe.parse(recipe)


@pytest.mark.parametrize(
    ("recipe", "code", "names"),
    [
        ("adabert > head-pruning", Code.WRONG_SHAPE, ("'convolutional'",)),
        ("magnitude > adabert", Code.WRONG_ORDER, ("'magnitude'",)),
        ("adabert:dimension=300", "", ("dimension=300", "128")),
    ],
)
def test_recipes_that_are_refused_before_training(
    recipe: str, code: Code | str, names: tuple[str, ...]
) -> None:
    with refused(code, "'adabert'", *names):
        check_recipe(Recipe.parse(recipe), "bert-tiny")
