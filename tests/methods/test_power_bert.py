"""power-bert: its search, the numbers that come of it, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.common.errors import Code
from harness.compression.comparable import Baseline
from harness.compression.context import Context
from harness.compression.method import Method
from harness.conformance.tiny import CONFIG, tiny_encoder
from harness.models.config import LayerConfig
from harness.models.surgery import keep_heads
from harness.recipes.builder import run_stage
from harness.recipes.compatibility import check_stage, shape_after
from harness.recipes.recipe import Recipe
from methods.word_vector_elimination._soft_extraction import SoftExtract, soften
from methods.word_vector_elimination.power_bert import (
    PowerBert,
    RetentionSearch,
    kept_share,
    retention_numbers,
)
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import built, context, shape_left


def baseline() -> Baseline:
    return Baseline(CONFIG, lambda: None)


def test_numbers_are_read_as_they_are_written() -> None:
    assert retention_numbers("64/48/48/1") == [64, 48, 48, 1]
    assert retention_numbers("7") == [7]


@pytest.mark.parametrize(
    ("retention", "code", "place"),
    [
        ("64/0/0/0", Code.CONFLICT, "layer 1"),
        ("64//16/8", Code.CONFLICT, "layer 1"),
        ("/", Code.CONFLICT, "layer 0"),
        ("8/4/6/2", Code.CONFLICT, "layer 2"),
        ("all", Code.OUT_OF_RANGE, "power-bert"),
    ],
)
def test_retentions_that_are_none(retention: str, code: Code, place: str) -> None:
    with refused(code, f"retention={retention}", place):
        Recipe.parse(f"power-bert:retention={retention}")


def test_given_numbers_are_taken() -> None:
    teacher = tiny_encoder().eval()
    student = built("power-bert:retention=12/9/9/2", teacher)
    assert [layer.kept for layer in student.config.layers] == [12, 9, 9, 2]
    assert student.config == shape_left("power-bert:retention=12/9/9/2", CONFIG)
    for name, weight in teacher.named_parameters():
        assert torch.equal(student.get_parameter(name), weight), name


def test_the_penalty_by_hand() -> None:
    """λ (1 · 1.75 + 3 · 0.5) with weights of the first and of the third layer."""
    soft = {index: SoftExtract(nn.Identity(), 2) for index in (0, 2)}  # type: ignore[arg-type]
    with torch.no_grad():
        soft[0].retention.copy_(torch.tensor([1.0, 0.75]))
        soft[2].retention.copy_(torch.tensor([0.5, 0.0]))
    search = RetentionSearch(soft, penalty=0.1, rate=0.02)
    loss = search.loss(None)  # type: ignore[arg-type]
    assert float(loss.detach()) == pytest.approx(0.1 * (1.75 + 1.5))
    loss.backward()
    assert soft[0].retention.grad.tolist() == pytest.approx([0.1, 0.1])
    assert soft[2].retention.grad[0].item() == pytest.approx(0.3)
    assert search.learning_rate("layers.2.retention") == 0.02
    assert search.learning_rate("layers.2.layer.ffn.into.weight") is None


def test_weights_are_clipped_after_each_step() -> None:
    soft = {0: SoftExtract(nn.Identity(), 3)}  # type: ignore[arg-type]
    with torch.no_grad():
        soft[0].retention.copy_(torch.tensor([1.5, 0.4, -0.2]))
    RetentionSearch(soft, 0.1, 0.1).step(None, 0.5)
    assert soft[0].retention.tolist() == pytest.approx([1.0, 0.4, 0.0])


def searched(told: Context, **options: float) -> tuple[list[int | None], dict[str, float], list[str]]:
    text = ",".join(f"{name}={value}" for name, value in options.items())
    (stage,) = Recipe.parse(f"power-bert:{text}").stages
    student, done = run_stage(stage, told.teacher, told)
    return [layer.kept for layer in student.config.layers], done[-1].figures, [entry.stage for entry in done]


def test_the_search_takes_word_vectors_out_of_every_layer() -> None:
    """A rate at which few steps suffice: with Adam each moves a weight by about the rate of the step."""
    told = context(epochs=3)
    kept, figures, stages = searched(told, rate=0.4, penalty=0.1, search_share=0.667)
    assert stages[0] == "power-bert search"
    assert len(stages) == 2
    numbers = [number for number in kept if number is not None]
    assert len(numbers) == 4
    assert 1 <= numbers[3] <= numbers[2] <= numbers[1] <= numbers[0] < told.task.length_within(64) - 1
    assert figures["word-vectors kept"] == sum(numbers)
    assert [figures[f"word-vectors kept in layer {layer}"] for layer in range(4)] == numbers
    # A search that hardly moves its weights ends a little below all of them: the sum is rounded down.
    slow, _, _ = searched(told, rate=1e-6, penalty=0.1)
    assert slow == [told.task.length_within(64) - 1] * 4


def test_a_stronger_penalty_keeps_no_more() -> None:
    """Against the task alone, whose gradient weights of ranks follow too."""
    free, _, _ = searched(context(epochs=4), rate=0.1, penalty=0.0)
    strong, _, _ = searched(context(epochs=4), rate=0.1, penalty=1.0)
    assert sum(n or 0 for n in strong) < sum(n or 0 for n in free)


def test_without_training_nothing_goes() -> None:
    student = built("power-bert")
    longest = context().task.length_within(64)
    assert [layer.kept for layer in student.config.layers] == [longest] * 4
    assert all(type(layer).__name__ == "Layer" for layer in student.layers)


def test_the_share_of_real_word_vectors() -> None:
    teacher, told = tiny_encoder().eval(), context(examples=20)
    batch = teacher.encode([example.text for example in told.training_examples()])
    lengths = batch.attention_mask.sum(1).tolist()
    expected = sum(min(length, number) for length in lengths for number in (9, 4)) / (2 * sum(lengths))
    assert kept_share(teacher, [9, 4], told) == pytest.approx(expected)
    assert kept_share(teacher, [64, 64], told) == 1.0


def test_layers_without_attention_go_on_with_what_there_is() -> None:
    teacher = keep_heads(tiny_encoder().eval(), [[0], [], [1], []])
    student = built("power-bert:retention=9/8/5/4", teacher)
    assert [layer.kept for layer in student.config.layers] == [9, None, 5, None]
    assert list(soften(keep_heads(tiny_encoder(), [[0], [], [1], []]), 64)) == [0, 2]
    kept, figures, _ = searched(context(teacher, epochs=4), rate=0.4, penalty=0.1)
    assert kept[1] is kept[3] is None
    assert figures["word-vectors kept in layer 1"] == kept[0]


@pytest.mark.parametrize(
    ("recipe", "code", "names"),
    [
        ("power-bert:retention=8/4", Code.OUT_OF_RANGE, ("retention=8/4", "2 numbers", "4 layers")),
        ("power-bert > power-bert", "", ("retention",)),
        ("linformer:projected=8 > power-bert", Code.WRONG_SHAPE, ("Linformer",)),
        ("power-bert > linformer:projected=8", "", ("attention",)),
        ("power-bert:retention=8/8/4/4 > theseus:layers=2", "", ("modules",)),
        ("power-bert:retention=8/8/4/4 > layerdrop-training", "", ("left out",)),
        ("power-bert > svd:rank=8", "", ("token by token",)),
        ("power-bert > deformer:layers=2", "", ("token by token",)),
    ],
)
def test_what_is_refused(recipe: str, code: Code | str, names: tuple[str, ...]) -> None:
    asked = recipe.rpartition("> ")[2].partition(":")[0]
    with refused(code, f"'{asked}' cannot work on tiny", *names):
        shape_after(Recipe.parse(recipe), "tiny", baseline())


def test_what_is_compared_beside_it_is_refused_in_either_order() -> None:
    class Compares(Method):
        """Reads hidden states."""

        needs = frozenset({"hidden_states"})

    compares, eliminates = Compares(None), PowerBert(PowerBert.Options(retention="8/8/4/4"))
    for methods in ([compares, eliminates], [eliminates, compares]):
        with refused("token by token"):
            check_stage(methods, CONFIG, baseline())
    check_stage([compares], CONFIG, baseline())


def test_spans_are_refused() -> None:
    with refused(Code.WRONG_SHAPE, "span"):
        shape_left("power-bert:retention=8/8/4/4", CONFIG.with_head("span", 2))


def test_it_goes_with_layers_that_share_weights_and_with_pruned_ones() -> None:
    recipe = "albert:groups=1 > power-bert:retention=9/7/4/2"
    config = shape_after(Recipe.parse(recipe), "tiny", baseline())
    assert [layer.kept for layer in config.layers] == [9, 7, 4, 2]
    assert [layer.shares_with for layer in config.layers] == [None, 0, 0, 0]
    bare = LayerConfig(heads=0, head_size=8, ffn_size=64)
    left = shape_left("power-bert", CONFIG.with_layers((CONFIG.layers[0], bare)))
    assert [layer.kept for layer in left.layers] == [64, None]
