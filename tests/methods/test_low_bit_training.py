"""q-bert and ternarybert: bits by sensitivity, sizes, losses, and that the artifact holds what training saw."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from harness.common.errors import Code
from harness.compression.context import Step
from harness.compression.quantization.fake_quantization import QuantizedTraining, Rounded, rounded_as_it_comes
from harness.conformance.tiny import CONFIG, tiny_encoder, tiny_task
from harness.models.artifacts import load_artifact, read_config, save_artifact
from harness.models.batch import AttentionMap, Batch, Output
from harness.models.codecs import Codec, Ternary
from harness.models.config import EncoderConfig, LayerConfig
from harness.models.encoder.encoder import Encoder
from harness.profiling.costs.size import artifact_facts
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from leaderboard.boards.claims import claims_of, installed_cards
from methods.quantization.q_bert import layer_bits
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import built, context, method_of

MIB = 2**20
WORDS = "embedding.word.weight"
MATRIX = "layers.1.ffn.into.weight"


def squared_error(student: Encoder, teacher: Encoder) -> float:
    pairs = ((student.get_parameter(name), teacher.get_parameter(name)) for name in teacher.matrix_names())
    return sum(float((a - b).detach().square().sum()) for a, b in pairs)


def test_bits_go_to_the_most_sensitive() -> None:
    assert layer_bits([0.5, 3.0, 1.0, 2.0], 0.5, 4, 2) == [2, 4, 2, 4]
    assert layer_bits([0.5, 3.0, 1.0, 2.0], 0.25, 4, 3) == [3, 4, 3, 3]
    assert layer_bits([1.0, 1.0, 1.0], 1.0, 4, 2) == [4, 4, 4]
    assert layer_bits([1.0, 1.0, 1.0], 0.0, 4, 2) == [2, 2, 2]


def test_groups_err_less_than_one_range_for_a_matrix() -> None:
    teacher = tiny_encoder().eval()
    errors = [
        squared_error(built(f"q-bert:bits=4,groups={n},train=false", teacher), teacher) for n in (1, 4, 32)
    ]
    assert errors[0] > errors[1] > errors[2] > 0


def test_mixed_bits_follow_the_curvature(tmp_path: Path) -> None:
    teacher = tiny_encoder().eval()
    (stage,) = Recipe.parse("q-bert:bits=mixed,groups=8,low=2,high=4,share=0.5,shards=2,examples=8").stages
    student, (log,) = run_stage(stage, teacher, context(teacher))
    omegas = [log.figures[f"sensitivity of layer {index}"] for index in range(4)]
    bits = [log.figures[f"bits of layer {index}"] for index in range(4)]
    assert sorted(bits) == [2, 2, 4, 4]
    assert min(o for o, b in zip(omegas, bits, strict=True) if b == 4) > max(
        o for o, b in zip(omegas, bits, strict=True) if b == 2
    )
    save_artifact(student, tmp_path / "artifact")
    codecs = read_config(tmp_path / "artifact").codecs
    for index, width in enumerate(map(int, bits)):
        assert codecs[f"layers.{index}.ffn.into.weight"] == f"groups({width},8)+pack({width})"
    assert codecs["head.pooler.weight"] == "groups(4,8)+pack(4)"
    assert codecs[WORDS] == codecs["embedding.position.weight"] == "int8(channel)"
    assert "embedding.segment.weight" not in codecs
    loaded = load_artifact(tmp_path / "artifact")
    low = f"layers.{bits.index(2)}.ffn.into.weight"
    assert max(len(rows.unique()) for rows in loaded.get_parameter(low).view(8, -1)) == 4


def test_without_training_the_hessian_is_taken_only_where_it_decides() -> None:
    teacher = tiny_encoder().eval()
    shapes = context(teacher, shapes_only=True)
    method_of("q-bert:bits=mixed,groups=8").prepare(tiny_encoder(), shapes)
    assert not shapes.figures
    (after,) = Recipe.parse("q-bert:bits=mixed,groups=8,train=false,shards=1,examples=4").stages
    assert not after.trains
    _, (entry,) = run_stage(after, teacher, context(teacher))
    assert (entry.stage, entry.steps, entry.final_loss) == (str(after), 0, None)
    assert len(entry.figures) == 8, "a sensitivity and a width for each of four layers"


def survey_mib(text: str) -> tuple[float, float]:
    """Of a BERT-base without pooler: all weights, and without the words'. METHODS.md, section 0.2."""
    with torch.device("meta"):
        model = Encoder(EncoderConfig.bert(12, 768, pooler=False))
    one = method_of(text)
    told = context(model, shapes_only=True)
    shapes = {n: p.numel() for n, p in model.named_parameters() if not n.startswith("head.classifier")}
    assert sum(shapes.values()) == 108_891_648
    one.prepare(model, told)
    stages = one.training.stages  # type: ignore[attr-defined]
    bits = {n: count * (stages[n].bits(32) if n in stages else 32) for n, count in shapes.items()}
    return sum(bits.values()) / 8 / MIB, (sum(bits.values()) - bits[WORDS]) / 8 / MIB


@pytest.mark.parametrize(("bits", "mib"), [("8", 103.8), ("4", 63.3), ("3", 53.2), ("2", 43.0)])
def test_sizes_of_q_bert_at_bert_base(bits: str, mib: float) -> None:
    """The published ones count biases and norms with a matrix's bits; float32, they are 0.44 MiB more at most."""
    whole, others = survey_mib(f"q-bert:bits={bits}")
    vectors = 12 * (9 * 768 + 3072 + 768) - 12 * 768 + 2 * 768 + 2 * 768  # with the segments' table
    tables = 23_440_896 + 512 * 768
    exact = (12 * 7_077_888 * int(bits) / 8 + tables + 4 * vectors) / MIB
    assert whole == pytest.approx(exact, abs=1e-6)
    assert mib <= whole + 0.1 <= mib + 0.6
    if bits == "4":
        assert whole / 415.4 * 100 == pytest.approx(15.24, abs=0.3)
        assert others / 328.2 * 100 == pytest.approx(12.5, abs=0.3)


def test_mixed_bits_lie_half_way() -> None:
    two, four, mixed = (survey_mib(f"q-bert:bits={bits}")[0] for bits in ("2", "4", "mixed"))
    assert mixed == pytest.approx((two + four) / 2)


def test_size_of_ternarybert_at_bert_base() -> None:
    """The paper's 28 MB."""
    assert survey_mib("ternarybert")[0] == pytest.approx(28, abs=0.5)


def test_bytes_beside_the_survey_s_convention(tmp_path: Path) -> None:
    """A word's row takes a byte a unit and a float32 scale; a matrix of 8 groups 5 bytes each and its count."""
    teacher = tiny_encoder().eval()
    save_artifact(built("q-bert:bits=3,groups=8", teacher), tmp_path / "artifact")
    facts = artifact_facts(tmp_path / "artifact")
    assert facts.word_embedding_bytes == CONFIG.vocab_size * (32 + 4)
    assert facts.survey_params - facts.survey_params_without_embeddings == CONFIG.vocab_size * 32 / 4
    matrices = 4 * (4 * 32 * 32 + 2 * 32 * 128) + 32 * 32
    stored = matrices * 3 / 8 + (4 * 6 + 1) * (8 * 5 + 8) + (CONFIG.vocab_size + 64) * (32 + 4)
    dense = sum(
        4 * p.numel()
        for n, p in teacher.named_parameters()
        if p.dim() == 1 or "segment" in n or "classifier.w" in n
    )
    header = facts.weight_bytes - (stored + dense)
    assert 0 < header < 20_000


@pytest.mark.parametrize(
    ("recipe", "tolerance"),
    [
        ("q-bert:bits=2,groups=8", 1e-6),
        ("q-bert:bits=4,groups=8,embedding_bits=4", 1e-6),
        ("ternarybert", 0.0),
    ],
)
def test_the_artifact_holds_what_training_saw(recipe: str, tolerance: float, tmp_path: Path) -> None:
    """The published export of TernaryBERT does not: it ternarizes the words' rows with one threshold for all."""
    teacher = tiny_encoder().eval()
    one, told, student = method_of(recipe), context(teacher), tiny_encoder(seed=1)
    one.prepare(student, told)
    seen = {n: student.get_submodule(n.rpartition(".")[0]).weight.detach().clone() for n in (WORDS, MATRIX)}
    assert not torch.equal(seen[MATRIX], tiny_encoder(seed=1).get_parameter(MATRIX))
    one.finish(student, told)
    save_artifact(student, tmp_path / "artifact")
    loaded = load_artifact(tmp_path / "artifact")
    for name, weight in seen.items():
        assert torch.allclose(loaded.get_parameter(name), weight, rtol=tolerance, atol=0)
    if recipe == "ternarybert":
        rows = loaded.get_parameter(WORDS).abs().amax(1)
        assert len(rows.unique()) > CONFIG.vocab_size / 2, "an α for each row"
        assert len(loaded.get_parameter(MATRIX).unique()) == 3


@given(st.integers(0, 9999), st.integers(1, 700), st.sampled_from(["tensor", "row"]))
@settings(max_examples=100, deadline=None)
def test_what_is_ternary_stays_to_the_bit(seed: int, columns: int, per: str) -> None:
    drawn = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, columns, generator=drawn) * 0.02
    if seed % 3 == 0:  # no zeros at all, or nothing else
        weight = weight.sign() * 0.0123
        weight[0] = 0
    codec = Codec.parse(f"ternary({per})+pack(2)")
    once = codec.decode(codec.encode(weight), weight.shape)
    assert torch.equal(codec.decode(codec.encode(once), once.shape), once)


def test_a_clipped_weight_gets_no_gradient() -> None:
    weight = torch.tensor([[3.0, -0.1, 2.0, -2.6]], requires_grad=True)
    seen = Rounded(Ternary(), clip=2.5)(weight)
    # 0.7 · mean |w| is 1.35; above it are 3, 2 and 2.6, whose mean is 7.6 / 3.
    assert torch.allclose(seen, torch.tensor([[1.0, 0.0, 1.0, -1.0]]) * 7.6 / 3)
    seen.backward(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert weight.grad is not None
    assert weight.grad.tolist() == [[0.0, 2.0, 3.0, 0.0]]


def test_inputs_rounded_as_they_come() -> None:
    """The step is max |x| / 127, training or not: 1.4 steps of 0.1 are one."""
    x = torch.tensor([[12.7, -0.14, 0.26]], requires_grad=True)
    (rounded,) = rounded_as_it_comes(nn.Linear(3, 1), (x,))
    assert rounded[0].tolist() == pytest.approx([12.7, -0.1, 0.3])
    rounded.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0, 1.0, 1.0]]


def test_only_linear_maps_see_rounded_inputs_and_only_in_training() -> None:
    model = tiny_encoder()
    training = QuantizedTraining(model, {WORDS: Ternary("row"), MATRIX: Ternary()}, dynamic=True)
    assert len(model.layers[1].ffn.into._forward_pre_hooks) == 1
    assert not model.embedding.word._forward_pre_hooks
    training.store(model)
    assert not model.layers[1].ffn.into._forward_pre_hooks
    assert {name: str(codec) for name, codec in model.storage.codecs.items()} == {
        WORDS: "ternary(row)+pack(2)",
        MATRIX: "ternary(tensor)+pack(2)",
    }


def test_a_mask_stays_and_an_earlier_codec_goes() -> None:
    model = tiny_encoder()
    model.storage.codecs[MATRIX] = Codec.parse("dictionary(3,kept)+pack(3)")
    model.storage.codecs["layers.0.ffn.into.weight"] = Codec.parse("bitmask")
    student = built("q-bert:bits=4,groups=8,train=false", model)
    assert str(student.storage.codecs[MATRIX]) == "groups(4,8)+pack(4)"
    assert str(student.storage.codecs["layers.0.ffn.into.weight"]) == "groups(4,8)+bitmask+pack(4)"


def output(logits: list[float], states: list[Tensor], scores: Tensor) -> Output:
    return Output(torch.tensor([logits]), tuple(states), (AttentionMap(scores, scores.softmax(-1)),))


def step_of(kind: Any, ours: Output, theirs: Output, mask: list[int]) -> Step:
    ids = torch.zeros(1, len(mask), dtype=torch.long)
    step = Step(
        kind=kind,
        batch=Batch(ids, torch.tensor([mask]), ids),
        targets=torch.tensor([0]),
        rows=[0],
        output=ours,
        task_loss=torch.tensor(100.0),
        progress=0.0,
        teacher=tiny_encoder(),
    )
    step.__dict__["teacher_output"] = theirs
    return step


def test_the_distillation_loss_by_hand() -> None:
    """Uniform logits: −Σ p log ½ = log 2 whatever the teacher's. States: 1 everywhere, then 2 on one of four
    numbers, the padding far off. Scores: 3 on one of the two heads' four pairs.
    """
    zeros, ones, padded = torch.zeros(1, 3, 2), torch.ones(1, 3, 2), torch.zeros(1, 3, 2)
    padded[0, 0, 1], padded[0, 2] = 2.0, 50.0
    scores, none = torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)
    scores[0, 1, 1, 0], scores[0, :, 2], scores[0, :, :, 2] = 3.0, 70.0, 70.0
    ours = output([0.0, 0.0], [ones, padded], scores)
    theirs = output([math.log(3), 0.0], [zeros, zeros], none)
    step = step_of("classification", ours, theirs, [1, 1, 0])
    logits, states, attention = math.log(2), 1 + 2**2 / 4, 3**2 / 8
    assert float(method_of("ternarybert").loss(step)) == pytest.approx(logits + states + attention)
    assert float(method_of("ternarybert:distillation=logits").loss(step)) == pytest.approx(logits)
    assert float(method_of("ternarybert:distillation=none").loss(step)) == 100.0
    score = step_of("regression", output([1.5], [ones], none), output([3.5], [zeros], none), [1, 1, 1])
    assert float(method_of("ternarybert").loss(score)) == pytest.approx(4 + 1)


def test_ternarybert_trains_towards_its_teacher() -> None:
    """In a few steps the ternary student comes closer to the teacher than by rounding alone."""
    teacher = tiny_encoder().eval()
    batch = teacher.encode([example.text for example in tiny_task().dev()[:32]])
    with torch.no_grad():
        wanted = teacher(batch).logits
        distances = []
        for training in (False, True):
            with torch.enable_grad():
                student = built("ternarybert:activations=false", teacher, training, epochs=4, examples=256)
            distances.append(float((student(batch).logits - wanted).square().mean()))
    assert distances[1] < distances[0]


def test_groups_that_do_not_divide_are_refused_before_training() -> None:
    with refused(Code.OUT_OF_RANGE, "groups=128", "32 rows of the pooler", "1, 2, 4"):
        method_of("q-bert").final_shape_from(CONFIG)
    narrow = CONFIG.with_layers((LayerConfig(heads=2, head_size=8, ffn_size=24),))
    with refused(Code.OUT_OF_RANGE, "groups=16", "24 rows of ffn_in in layer 0", "1, 2, 4, 8"):
        method_of("q-bert:groups=16").final_shape_from(narrow)
    assert method_of("q-bert:groups=8").final_shape_from(narrow) == narrow
    factorized = CONFIG.with_layers((LayerConfig(heads=4, head_size=8, ffn_size=128, ranks={"value": 6}),))
    with refused(Code.OUT_OF_RANGE, "6 rows of the first factor of value in layer 0", "1, 2") as error:
        method_of("q-bert:groups=8").final_shape_from(factorized)
    assert str(error.value).endswith(" 1, 2"), "no other number divides all rows"
    base = EncoderConfig.bert(12, 768)
    assert method_of("q-bert").final_shape_from(base) == base


@pytest.mark.parametrize(
    ("recipe", "sst2"),
    [
        ("q-bert", [92.66]),
        ("q-bert:bits=mixed", [92.55]),
        ("q-bert:bits=mixed,high=3", [92.08]),
        ("q-bert:train=false", []),
        ("q-bert:groups=1", []),
    ],
)
def test_which_figures_are_claimed(recipe: str, sst2: list[float]) -> None:
    claims = claims_of(recipe, "bert-base", installed_cards())
    assert [claim["value"] for claim in claims if claim["task"] == "sst2"] == sst2
