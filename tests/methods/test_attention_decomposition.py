"""topk-attention, local-attention, linformer and deformer: what they make of an encoder, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from harness.common.errors import Code
from harness.compression.comparable import Baseline
from harness.compression.context import Step
from harness.compression.task_loss import task_loss
from harness.conformance.tiny import CONFIG, tiny_encoder
from harness.models.attention_kinds import LinformerAttention, LocalAttention, SegmentAttention, TopKAttention
from harness.models.batch import Batch
from harness.models.config import EncoderConfig, LayerConfig
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.segment_cache import segment_flops
from harness.models.surgery import own_segment_positions, set_attention
from harness.recipes.builder import run_stage
from harness.recipes.compatibility import shape_after
from harness.recipes.recipe import Recipe
from harness.tasks import load_task
from methods.attention_decomposition.deformer import DeFormer
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import built, context, method_of, shape_left

LINFORMER = LinformerAttention(projected=16, length=32)


@pytest.mark.parametrize(
    ("recipe", "kinds", "positions"),
    [
        ("topk-attention:k=3", [TopKAttention(k=3)] * 4, 64),
        ("local-attention:window=5", [LocalAttention(window=5)] * 4, 64),
        ("linformer:projected=16,length=32", [LINFORMER] * 4, 32),
        ("linformer:projected=16", [LinformerAttention(projected=16, length=64)] * 4, 64),
        ("deformer:layers=3", [SegmentAttention()] * 3 + [None], 64),
    ],
)
def test_the_encoder_that_is_trained(recipe: str, kinds: list[object], positions: int) -> None:
    teacher = tiny_encoder().eval()
    student = built(recipe, teacher)
    assert [layer.attention for layer in student.config.layers] == kinds
    assert student.config.positions == positions
    assert student.config == shape_left(recipe, teacher.config), "what `final_shape_from` foresaw"
    ours, theirs = dict(student.named_parameters()), dict(teacher.named_parameters())
    for name, weight in theirs.items():
        assert torch.equal(ours[name], weight[:positions] if "position" in name else weight), name
    assert all(".places." in name for name in ours.keys() - theirs.keys())


def test_linformer_learns_its_projections() -> None:
    student = built("linformer:projected=8", training=True)
    start = set_attention(tiny_encoder(), LinformerAttention(projected=8, length=64))
    for ours, theirs in zip(student.layers, start.layers, strict=True):
        for name, before in theirs.attention_in.places.named_parameters():
            moved = ours.attention_in.places.get_parameter(name) != before
            assert moved.any()


def test_the_loss_of_deformer_by_its_parts() -> None:
    teacher = tiny_encoder().eval()
    made = set_attention(own_segment_positions(tiny_encoder(1)), SegmentAttention(), [0, 1]).eval()
    batch = Batch.synthetic(3, 10, CONFIG.vocab_size)
    batch.token_type_ids[:, 4:] = 1
    batch.attention_mask[1, 7:] = batch.token_type_ids[1, 7:] = 0
    targets = torch.tensor([0, 1, 1])
    with torch.no_grad():
        ours, theirs = (model(batch, hidden_states=True) for model in (made, teacher))
    given = Step(
        kind="classification",
        batch=batch,
        targets=targets,
        rows=[0, 1, 2],
        output=ours,
        task_loss=task_loss("classification", ours.logits, targets),
        progress=0.0,
        teacher=teacher,
        needs=DeFormer.needs,
    )
    chosen = batch.attention_mask.bool()
    # Of four layers the last two are joint; then the pooled states.
    squares = [
        float((ours.hidden_states[i][chosen] - theirs.hidden_states[i][chosen]).square().mean())
        for i in (3, 4)
    ]
    with torch.no_grad():
        pooled = [
            torch.tanh(model.head.pooler(output.hidden_states[-1][:, 0]))
            for model, output in ((made, ours), (teacher, theirs))
        ]
    squares.append(float((pooled[0] - pooled[1]).square().mean()))
    soft = functional.softmax(theirs.logits / 2, -1)
    divergence = (soft * (soft.log() - functional.log_softmax(ours.logits / 2, -1))).sum(-1).mean()
    for alpha, beta in ((1.0, 1.0), (0.5, 0.0), (0.0, 3.0), (0.0, 0.0)):
        method = DeFormer(DeFormer.Options(layers=2, alpha=alpha, beta=beta))
        method.prepare(made, context(teacher))
        expected = alpha * 4 * float(divergence) + beta * sum(squares) / 3
        assert float(method.loss(given).detach()) == pytest.approx(expected, rel=1e-4, abs=1e-7)


def deformed(task: str) -> tuple[Encoder, dict[str, float]]:
    teacher = tiny_encoder().eval()
    told = replace(context(teacher, examples=20), task=load_task(task).training_view())
    (stage,) = Recipe.parse("deformer:layers=2").stages
    student, done = run_stage(stage, teacher, told)
    return student, done[-1].figures


def test_deformer_says_what_a_cache_would_save_on_the_tasks_pairs() -> None:
    student, figures = deformed("toy-pairs")
    told = replace(context(examples=20), task=load_task("toy-pairs").training_view())
    examples = told.training_examples()
    batch = student.encode([e.text for e in examples], [e.pair for e in examples])
    second = int((batch.token_type_ids * batch.attention_mask).sum())
    lengths = int(batch.attention_mask.sum()) - second, second
    plain, cached = segment_flops(student, *(round(length / 20) for length in lengths))
    assert figures == {"cached share of FLOPs": cached.total.flops / plain.total.flops}
    assert 0.5 < figures["cached share of FLOPs"] < 0.95


def test_single_sentences_leave_a_cache_nothing() -> None:
    assert deformed("toy-sentiment")[1] == {}


@pytest.mark.parametrize(
    ("recipe", "code", "names"),
    [
        ("deformer:layers=4", Code.OUT_OF_RANGE, ("layers=4", "4 layers", "use 3 or fewer")),
        ("linformer:projected=64", Code.OUT_OF_RANGE, ("projected=64", "64 tokens")),
        ("linformer:projected=40,length=32", Code.OUT_OF_RANGE, ("projected=40", "32 tokens")),
        ("topk-attention > local-attention", "", ("layer 0", "'topk'")),
        ("deformer:layers=2 > linformer", "", ("layer 0", "'segments'")),
        ("linformer > topk-attention", "", ("layer 0", "'linformer'")),
        ("local-attention > deformer:layers=2", "", ("layer 0", "'local'")),
        ("albert:groups=1 > deformer:layers=2", Code.OUT_OF_RANGE, ("layers=2", "share weights")),
        ("layer-drop:drop=1 > deformer:layers=3", Code.OUT_OF_RANGE, ("layers=3", "3 layers")),
    ],
)
def test_shapes_that_are_refused(recipe: str, code: Code | str, names: tuple[str, ...]) -> None:
    with refused(code, *names):
        shape_left(recipe, CONFIG)


def test_an_encoder_of_one_segment_has_none_to_read_apart() -> None:
    with refused(Code.WRONG_SHAPE, "one segment"):
        shape_left("deformer:layers=2", CONFIG.model_copy(update={"segments": 1}))
    with refused(Code.OUT_OF_RANGE, "layers=1", "deeper"):
        shape_left("deformer:layers=1", CONFIG.with_layers(CONFIG.layers[:1]))


def after(recipe: str) -> EncoderConfig:
    made = shape_after(Recipe.parse(recipe), "tiny", Baseline(CONFIG, lambda: None))
    assert isinstance(made, EncoderConfig)
    return made


def test_what_can_no_longer_be_compared_with_the_teacher() -> None:
    with refused("'svd' cannot work on tiny after 'linformer'"):
        after("linformer > svd:rank=8")
    few = CONFIG.with_layers(tuple(LayerConfig(heads=2, head_size=8, ffn_size=64) for _ in range(4)))
    with refused("deformer:beta=0"):
        method_of("deformer:layers=2").check_against(few, Baseline(CONFIG, lambda: None))
    method_of("deformer:layers=2,beta=0").check_against(few, Baseline(CONFIG, lambda: None))
    assert after("svd:rank=8 > linformer").layers[0].attention is not None
    assert after("svd:rank=8 > deformer:layers=2").layers[0].ranks["query"] == 8
