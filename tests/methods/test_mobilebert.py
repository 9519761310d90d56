"""mobilebert: the divergence of attention maps, and the student that it begins with."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import entropy

from harness.common.errors import Code
from harness.compression.distillation.losses import attention_divergences
from harness.conformance.tiny import CONFIG, tiny_encoder
from harness.models.batch import AttentionMap
from harness.models.config import EncoderConfig
from harness.recipes.recipe import Recipe
from harness.runs.resolution import check_recipe
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import context, method_of


def maps(seed: int, mask: torch.Tensor) -> AttentionMap:
    """Random attention maps (b, 2, n, n) over the tokens of `mask` (b, n)."""
    count, tokens = mask.shape
    scores = torch.randn(count, 2, tokens, tokens, generator=torch.Generator().manual_seed(seed))
    masked = scores.masked_fill(~mask.bool()[:, None, None, :], float("-inf"))
    return AttentionMap(scores, torch.softmax(masked, dim=-1))


def test_the_divergence_of_maps_is_scipy_s() -> None:
    """The mean over heads and real queries of KL(teacher ‖ student); padded keys have no share in it."""
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    ours, theirs = maps(0, mask), maps(1, mask)
    terms = [
        entropy(theirs.probabilities[b, h, q, :n].double(), ours.probabilities[b, h, q, :n].double())
        for b, n in ((0, 4), (1, 2))
        for h in range(2)
        for q in range(n)
    ]
    found = attention_divergences([ours], [theirs], mask)
    assert found.tolist() == pytest.approx([sum(terms) / len(terms)], rel=1e-4)
    assert attention_divergences([ours], [ours], mask).tolist() == pytest.approx([0.0], abs=1e-7)


def test_word_embeddings_begin_as_the_teacher_s() -> None:
    """At the teacher's own width nothing is lost; a token's neighbours have no part yet."""
    teacher = tiny_encoder().eval()
    student = method_of(f"mobilebert:embedding={CONFIG.hidden_size}").student(teacher, context(teacher))
    batch = teacher.encode(["a good film", "bad"])
    ids = batch.input_ids
    noise = torch.randn(*ids.shape, CONFIG.hidden_size, generator=torch.Generator().manual_seed(0))
    states = student.embedding.project(torch.cat([noise, student.embedding.word(ids), noise], dim=-1))
    assert torch.allclose(states, teacher.embedding.word(ids), atol=1e-5)
    assert torch.equal(student.embedding.position.weight, teacher.embedding.position.weight)


def test_its_shape_is_foretold() -> None:
    teacher = tiny_encoder()
    method = method_of("mobilebert:body=16,ffn_count=3")
    foretold = method.final_shape_from(CONFIG)
    assert method.student(teacher, context(teacher)).config == foretold
    assert (foretold.body_size, foretold.heads, foretold.layer_count, foretold.ffn_count) == (16, 4, 4, 3)


def test_what_is_needed_of_the_teacher_follows_the_phase() -> None:
    method = method_of("mobilebert")
    assert method.needs == {"hidden_states", "attentions"}
    method._transferring = False
    assert method.needs == {"teacher_logits"}


@pytest.mark.parametrize(
    ("recipe", "code", "names"),
    [
        ("mobilebert:body=31", Code.OUT_OF_RANGE, ("body=31", "2 heads")),
        ("layer-drop:drop=1 > mobilebert", Code.WRONG_ORDER, ("layer-drop",)),
        ("mobilebert > head-pruning", Code.WRONG_SHAPE, ("head-pruning",)),
        ("mobilebert > svd:rank=8", Code.WRONG_SHAPE, ("svd",)),
    ],
)
def test_refusals(recipe: str, code: Code, names: tuple[str, ...]) -> None:
    with refused(code, "'mobilebert'", *names):
        check_recipe(Recipe.parse(recipe), "bert-tiny")


def test_layers_with_other_numbers_of_heads_are_refused() -> None:
    first, *others = CONFIG.layers
    uneven = CONFIG.with_layers((first.model_copy(update={"heads": 2}), *others))
    with refused(Code.WRONG_SHAPE, "heads"):
        method_of("mobilebert").final_shape_from(uneven)
    spans = EncoderConfig.model_validate({**CONFIG.model_dump(), "head": {"kind": "span", "outputs": 2}})
    with refused(Code.WRONG_SHAPE, "span"):
        method_of("mobilebert").final_shape_from(spans)


def test_a_student_may_be_quantized_after() -> None:
    check_recipe(Recipe.parse("mobilebert > dynamic-int8"), "bert-tiny")
