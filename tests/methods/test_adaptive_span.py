"""adaptive-span: its loss, how spans move and are kept, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.common.errors import Code
from harness.compression.comparable import Baseline
from harness.compression.context import Context
from harness.conformance.tiny import CONFIG, tiny_encoder
from harness.models.attention_kinds import SpanAttention
from harness.models.batch import Batch
from harness.models.config import LayerConfig
from harness.models.encoder.encoder import Encoder
from harness.models.surgery import keep_heads
from harness.recipes.builder import run_stage
from harness.recipes.compatibility import shape_after
from harness.recipes.recipe import Recipe
from methods.attention_decomposition.adaptive_span import AdaptiveSpan, soft_windows
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import built, context, method_of, shape_left

BATCH = Batch.synthetic(3, 20, CONFIG.vocab_size)


def begun(recipe: str, teacher: Encoder) -> tuple[AdaptiveSpan, Encoder, Context]:
    """The method and its student, ready to be trained."""
    method, told = method_of(recipe), context(teacher)
    assert isinstance(method, AdaptiveSpan)
    student = method.student(teacher, told)
    method.prepare(student, told)
    return method, student, told


def logits(model: Encoder, maps: bool = False) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(BATCH, attentions=maps).logits.clone()
    return found


def test_the_loss_by_hand() -> None:
    """λ (3 + 1 + 0 + 0) / 4 with two layers of two heads."""
    teacher = keep_heads(tiny_encoder(), [[0, 1], [], [2, 3], []])
    method, student, _ = begun("adaptive-span:penalty=0.1,start=0", teacher)
    assert list(method.windows) == ["layers.0.attention", "layers.2.attention"]
    with torch.no_grad():
        student.layers[0].attention.spans.copy_(torch.tensor([3.0, 1.0]))
    loss = method.loss(None)  # type: ignore[arg-type]
    assert float(loss.detach()) == pytest.approx(0.1)
    loss.backward()
    assert student.layers[2].attention.spans.grad.tolist() == pytest.approx([0.025, 0.025])
    assert method_of("adaptive-span:penalty=0").loss(None) is None  # type: ignore[arg-type]


def test_spans_have_a_rate_of_their_own_and_stay_within_the_sequence() -> None:
    method, student, told = begun("adaptive-span:rate=2", tiny_encoder())
    assert method.learning_rate("layers.3.attention.spans") == 2.0
    assert method.learning_rate("layers.3.attention_in.query.weight") is None
    with torch.no_grad():
        student.layers[1].attention.spans.copy_(torch.tensor([-1.0, 0.5, 500.0, 2.0]))
    method.step(student, 0.5)
    longest = float(told.task.length_within(CONFIG.positions))
    assert student.layers[1].attention.spans.tolist() == [0.0, 0.5, longest, 2.0]


def test_it_begins_as_the_teacher() -> None:
    """No token is as far away as the longest sequence is long."""
    teacher = tiny_encoder().eval()
    student = built("adaptive-span", teacher)
    longest = float(context().task.length_within(CONFIG.positions))
    assert [layer.attention for layer in student.config.layers] == [
        SpanAttention(ramp=32, spans=(longest,) * 4)
    ] * 4
    assert (logits(student) - logits(teacher)).abs().max() <= 1e-5
    for name, weight in teacher.named_parameters():
        assert torch.equal(student.get_parameter(name), weight), name
    capped = built("adaptive-span:start=100000", teacher)
    assert capped.config == student.config


def test_what_is_stored_computes_what_was_trained() -> None:
    teacher = tiny_encoder().eval()
    method, student, told = begun("adaptive-span:ramp=3,start=0", teacher)
    student.eval()
    drawn = 8 * torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for layer, spans in zip(student.layers, drawn, strict=True):
            layer.attention.spans.copy_(spans)
    before = logits(student, maps=True)
    method.finish(student, told)
    assert [layer.attention.spans for layer in student.config.layers] == [
        tuple(row.tolist()) for row in drawn
    ]
    assert torch.equal(logits(student, maps=True), before)
    assert (logits(student) - before).abs().max() <= 1e-5
    assert (logits(student) - logits(teacher)).abs().max() > 1e-3, "the counterpart"
    # Built anew from its configuration it is the same encoder.
    again = Encoder(student.config).eval()
    again.load_state_dict(student.state_dict())
    assert torch.equal(logits(again), logits(student))


def trained(recipe: str, **budget: float) -> tuple[list[SpanAttention], dict[str, float], Encoder]:
    told = context(tiny_encoder().eval(), **budget)
    (stage,) = Recipe.parse(recipe).stages
    student, done = run_stage(stage, told.teacher, told)
    assert isinstance(student, Encoder)
    return [layer.attention for layer in student.config.layers], done[-1].figures, student


def test_training_moves_the_spans_and_says_where_to() -> None:
    kinds, figures, student = trained("adaptive-span:ramp=2,start=6,penalty=10,rate=2", epochs=2)
    every = [span for kind in kinds for span in kind.spans]
    assert len(every) == 16
    assert all(0 <= span < 6 for span in every), "so strong a penalty draws each down"
    assert figures["mean span"] == pytest.approx(sum(every) / 16)
    assert figures["heads of span 0"] == every.count(0.0)
    assert [figures[f"mean span in layer {i}"] for i in range(4)] == pytest.approx(
        [sum(kind.spans) / 4 for kind in kinds]
    )
    assert torch.isfinite(logits(student)).all()
    assert all(attention.spans is None for attention in soft_windows(student).values())
    free, _, _ = trained("adaptive-span:ramp=2,start=6,penalty=0,rate=2", epochs=2)
    assert sum(span for kind in free for span in kind.spans) > sum(every)


def test_shared_layers_share_their_spans() -> None:
    teacher = built("albert:groups=2", tiny_encoder().eval())
    method, student, told = begun("adaptive-span:ramp=2,start=3", teacher)
    assert list(method.windows) == ["layers.0.attention", "layers.2.attention"]
    with torch.no_grad():
        student.layers[2].attention.spans.copy_(torch.tensor([0.5, 1.0, 2.0, 3.0]))
    method.finish(student, told)
    spans = [layer.attention.spans for layer in student.config.layers]
    assert spans == [(3.0,) * 4] * 2 + [(0.5, 1.0, 2.0, 3.0)] * 2
    assert [layer.shares_with for layer in student.config.layers] == [None, 0, None, 2]


@pytest.mark.parametrize(
    "recipe",
    [
        "adaptive-span:ramp=2,start=4 + magnitude:sparsity=0.5",
        "magnitude:sparsity=0.5 + adaptive-span:ramp=2,start=4",
        "q8bert + adaptive-span:ramp=2,start=4",
        "quant-noise:entries=16,block=8 + adaptive-span:ramp=2,start=4",
    ],
)
def test_it_goes_with_what_changes_weights(recipe: str) -> None:
    kinds, _, student = trained(recipe)
    assert all(isinstance(kind, SpanAttention) for kind in kinds)
    assert not [name for name in student.storage.codecs if name.endswith("spans")]
    if "magnitude" in recipe:
        weight = student.get_parameter("layers.0.ffn.into.weight")
        assert float((weight == 0).float().mean()) == pytest.approx(0.5, abs=1e-3)


def after(recipe: str) -> list[LayerConfig]:
    shape = shape_after(Recipe.parse(recipe), "tiny", Baseline(CONFIG, lambda: None))
    return list(shape.layers)  # type: ignore[union-attr]


def test_what_may_follow_and_precede() -> None:
    assert len(after("albert:groups=2 > adaptive-span > deebert > dynamic-int8")) == 4
    assert len(after("adaptive-span > power-bert:retention=9/8/5/4")) == 4
    assert [
        layer.heads
        for layer in after("adaptive-span > dynabert:width=0.5,depth=1 > hash-embeddings:buckets=64")
    ] == [2] * 4
    assert len(after("adaptive-span > head-pruning:share=0.5 > hash-embeddings:buckets=64")) == 4


@pytest.mark.parametrize(
    ("recipe", "code", "names"),
    [
        ("topk-attention > adaptive-span", "", ("layer 0", "'topk'")),
        ("adaptive-span > adaptive-span", "", ("layer 0", "'span'")),
        ("adaptive-span > albert:groups=2", Code.WRONG_SHAPE, ("layer 1", "layer 0")),
        ("adaptive-span > tinybert:layers=2", "", ("'tinybert' cannot work on tiny after 'adaptive-span'",)),
    ],
)
def test_what_is_refused(recipe: str, code: Code | str, names: tuple[str, ...]) -> None:
    with refused(code, *names):
        after(recipe)


def test_what_is_refused_beside_it() -> None:
    with refused(Code.CONFLICT, "layerdrop-training", "adaptive-span"):
        Recipe.parse("layerdrop-training + adaptive-span")
    with refused(Code.CONFLICT, "adaptive-span", "svd"):
        Recipe.parse("adaptive-span + svd")


def test_there_must_be_heads() -> None:
    bare = LayerConfig(heads=0, head_size=8, ffn_size=64)
    with refused(Code.WRONG_SHAPE, "heads"):
        shape_left("adaptive-span", CONFIG.with_layers((bare, bare)))
    mixed = shape_left("adaptive-span", CONFIG.with_layers((bare, CONFIG.layers[0])))
    assert mixed.layers[0].attention is None
    assert isinstance(mixed.layers[1].attention, SpanAttention)


@pytest.mark.parametrize("option", ["ramp=0", "start=-1", "penalty=-1", "rate=0", "rate=nan"])
def test_options_out_of_range(option: str) -> None:
    with refused(Code.OUT_OF_RANGE, f"adaptive-span:{option}"):
        Recipe.parse(f"adaptive-span:{option}")
