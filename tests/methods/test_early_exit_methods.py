"""What early-exit methods train, and how they choose a threshold: worked by hand, and against trying every one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy as scipy_entropy
from torch import Tensor

from harness.common.errors import Code
from harness.compression.comparable import Baseline
from harness.compression.context import Augmented, Step
from harness.compression.early_exit import EarlyExit, entropy_candidates
from harness.compression.encoded_rows import encode_examples
from harness.compression.exit_rules import ramp_logits
from harness.conformance.tiny import CONFIG, tiny_encoder
from harness.models.batch import Batch, Output
from harness.models.config import EncoderConfig
from harness.models.encoder.encoder import Encoder
from harness.models.flops.exits import row_macs
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import built, context, draw, method_of, shape_left

METHODS = ("deebert", "fastbert", "pabee")


def method(recipe: str) -> EarlyExit:
    made = method_of(recipe)
    assert isinstance(made, EarlyExit)
    return made


def cross_entropy(logits: Tensor, targets: list[int]) -> float:
    rows = log_softmax(logits.double().numpy(), axis=1)
    return float(np.mean([-row[target] for row, target in zip(rows, targets, strict=True)]))


def losses(recipe: str) -> tuple[float, list[Tensor], Tensor, list[int]]:
    exits, head, targets = [draw(4, 3, seed=i) for i in range(3)], draw(4, 3, seed=9), [0, 2, 1, 1]
    numbered = {index + 1: logits for index, logits in enumerate(exits)}
    found = method(recipe).ramp_loss("classification", numbered, head, torch.tensor(targets))
    return float(found), exits, head, targets


def test_deebert_adds_the_cross_entropies_of_its_ramps() -> None:
    found, exits, _, targets = losses("deebert")
    assert found == pytest.approx(sum(cross_entropy(logits, targets) for logits in exits), rel=1e-5)


def test_pabee_weighs_layers_by_their_number() -> None:
    found, exits, head, targets = losses("pabee")
    one, two, three, four = (cross_entropy(logits, targets) for logits in (*exits, head))
    assert found == pytest.approx((one + 2 * two + 3 * three + 4 * four) / 10, rel=1e-5)


def test_pabee_on_scores_is_squared_error() -> None:
    exits, head = {1: torch.tensor([[1.0], [0.0]])}, torch.tensor([[2.0], [1.0]])
    found = method("pabee").ramp_loss("regression", exits, head, torch.tensor([2.0, 0.0]))
    assert float(found) == pytest.approx((1 * 0.5 + 2 * 0.5) / 3)


def test_fastbert_adds_the_divergences_from_the_head() -> None:
    found, exits, head, _ = losses("fastbert")
    teacher = softmax(head.double().numpy(), axis=1)
    students = [softmax(logits.double().numpy(), axis=1) for logits in exits]
    expected = sum(float(np.mean(scipy_entropy(teacher, each, axis=1))) for each in students)
    assert found == pytest.approx(expected, rel=1e-5)


def test_fastberts_head_is_a_teacher_that_learns_nothing() -> None:
    head = draw(4, 3, seed=9).requires_grad_()
    exits = {1: draw(4, 3).requires_grad_()}
    method("fastbert").ramp_loss("classification", exits, head, torch.zeros(4, dtype=torch.long)).backward()
    assert head.grad is None
    assert exits[1].grad is not None


def step_of(logits: list[Tensor], rows: list[int], targets: Tensor) -> Step:
    ids = torch.zeros(len(rows), 3, dtype=torch.long)
    output = Output(logits[-1], exits=dict(enumerate(logits[:-1])))
    batch = Batch(ids, torch.ones_like(ids), ids)
    zero = torch.zeros(())
    return Step("classification", batch, targets, rows, output, zero, 0.0, tiny_encoder())


@pytest.mark.parametrize("name", METHODS)
def test_rows_that_are_set_aside_take_no_part(name: str) -> None:
    logits, targets = [draw(4, 2, seed=i).requires_grad_() for i in range(4)], torch.tensor([0, 1, 1, 0])
    partly, plain = method(name), method(name)
    partly.held = frozenset({7, 5})
    found = partly.loss(step_of(logits, [5, 1, 7, 2], targets))
    kept = [each[[1, 3]] for each in logits]
    alone = plain.loss(step_of(kept, [1, 2], targets[[1, 3]]))
    assert found.item() == pytest.approx(alone.item(), rel=1e-6)
    found.backward()
    assert logits[0].grad is not None
    assert torch.equal(logits[0].grad[[0, 2]], torch.zeros(2, 2))
    partly.held = frozenset({5, 1, 7, 2})
    nothing = partly.loss(step_of(logits, [5, 1, 7, 2], targets))
    assert nothing.item() == 0
    nothing.backward()


def test_rows_are_set_aside_for_a_speed_alone_and_what_was_made_of_them_too() -> None:
    given = context()
    given.augmented = [Augmented(row, given.task.examples[0]) for row in range(48)]
    choosing, told = method("deebert:speed=2"), method("deebert:threshold=0.3")
    for each in (choosing, told):
        each.prepare(each.student(tiny_encoder(), given), given)
    rows = {row for row in choosing.held if row < 48}
    assert 0 < len(rows) == len(choosing.calibration) <= 24
    assert choosing.held == rows | {row + 48 for row in rows}
    examples = given.training_examples()
    assert [examples[row] for row in sorted(rows)] == list(choosing.calibration)
    assert told.held == frozenset()
    assert len(told.calibration) == 48


def test_with_early_stopping_its_own_rows_are_taken() -> None:
    given = context(patience=1, holdout=0.25)
    choosing = method("deebert:speed=2")
    choosing.prepare(choosing.student(tiny_encoder(), given), given)
    held = given.task.with_examples(given.training_examples()).holdout(0.25, 0, at_most=1000)[1]
    assert list(choosing.calibration) == list(held)
    assert choosing.held == frozenset()
    assert choosing.fully_compressed_at == 1.0  # the head of a frozen encoder says nothing of the ramps
    assert method("pabee").fully_compressed_at == 0.0


@pytest.mark.parametrize("name", METHODS)
def test_what_is_trained(name: str) -> None:
    before, after = tiny_encoder(), built(f"{name}:speed=1.3", training=True)
    changed = {
        name.split(".")[0]
        for name, parameter in before.named_parameters()
        if not torch.equal(parameter, after.get_parameter(name))
    }
    assert changed == ({"embedding", "layers", "head"} if name == "pabee" else set())
    assert all(parameter.requires_grad for parameter in after.parameters())
    start = method(f"{name}:speed=1.3").student(before, context())
    moved = [not torch.equal(p, after.exits.get_parameter(n)) for n, p in start.exits.named_parameters()]
    # The key's bias moves all scores of a query alike, so its gradient is zero.
    assert sum(moved) >= len(moved) - 3


def leave(ramps: list[np.ndarray], threshold: float, kind: str) -> list[int]:
    """After how many layers each row leaves, in plain Python."""
    found = []
    for row in range(len(ramps[0])):
        depth, streak = len(ramps) + 1, 0
        for place, logits in enumerate(ramps):
            if kind == "patience":
                same = place > 0 and logits[row].argmax() == ramps[place - 1][row].argmax()
                streak = streak + 1 if same else 0
                leaves = streak >= threshold
            else:
                value = float(scipy_entropy(softmax(logits[row])))
                leaves = value / (math.log(2) if kind == "normalized-entropy" else 1) < threshold
            if leaves:
                depth = place + 1
                break
        found.append(depth)
    return found


@pytest.mark.parametrize(
    ("name", "speed"), [("deebert", 2.0), ("deebert", 1.2), ("fastbert", 1.7), ("pabee", 1.1), ("pabee", 1.4)]
)
def test_the_threshold_is_the_most_careful_that_reaches_the_speed(name: str, speed: float) -> None:
    given = context()
    made = method(f"{name}:speed={speed}")
    student = made.student(tiny_encoder(), given)
    made.prepare(student, given)
    # Ramps that answer differently, without training.
    with torch.no_grad():
        for parameter in student.exits.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(0, 0.3, generator=given.generator("test")))
    student.eval()
    with torch.no_grad():
        made.finish(student, given)
    rows = encode_examples(made.calibration, student, "classification", 64, "rows")
    rule = student.config.exit_rule
    assert rule is not None
    student.config = student.config.with_exit_rule(None)
    ramps = [logits.double().numpy() for logits in ramp_logits(student, rows, 512).values()]
    lengths = rows.lengths.tolist()
    costs, base = row_macs(student.config, lengths), row_macs(CONFIG, lengths)[4].sum()

    def reached(threshold: float) -> float:
        return base / sum(costs[d][row] for row, d in enumerate(leave(ramps, threshold, rule.kind)))

    assert reached(rule.threshold) >= speed
    assert given.figures["flops_ratio"] == pytest.approx(reached(rule.threshold), rel=1e-9)
    depths = leave(ramps, rule.threshold, rule.kind)
    assert given.figures["mean_depth"] == pytest.approx(np.mean(depths))
    for depth in (1, 2, 3, 4):
        assert given.figures[f"left_after_{depth}"] == pytest.approx(np.mean([d == depth for d in depths]))
    # Whatever is more careful, as it tells rows apart at all, is too slow.
    tried: list[float] = list(made.candidates({i: torch.tensor(each) for i, each in enumerate(ramps)}))
    careful = tried[: int(np.argmin(np.abs(np.array(tried) - rule.threshold)))]
    assert all(reached(threshold) < speed for threshold in careful)


def test_candidates_lie_between_the_entropies() -> None:
    assert entropy_candidates(torch.tensor([[0.5, 0.1], [0.3, 0.1]])) == pytest.approx([0.2, 0.4, 0.501])
    assert list(method("pabee").candidates(dict.fromkeys(range(4), torch.zeros(1, 2)))) == [3.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("recipe", "names"),
    [
        ("deebert:threshold=1e-9", ["threshold=1e-09"]),
        ("fastbert:threshold=1e-9", ["threshold=1e-09"]),
        ("deebert:speed=3.999", ["speed=3.999", "3.9"]),
    ],
)
def test_what_training_rows_refuse(recipe: str, names: list[str]) -> None:
    with refused(*names):
        built(recipe, training=True)


def test_a_threshold_that_no_row_meets_is_left_where_nothing_was_trained() -> None:
    student = built("deebert:threshold=1e-9")
    assert student.config.exit_rule is not None
    assert student.config.exit_rule.threshold == 1e-9


def test_a_given_patience_is_set() -> None:
    student = built("pabee:patience=1,tolerance=0.2")
    assert student.config.exit_rule is not None
    assert student.config.exit_rule.model_dump() == {"kind": "patience", "threshold": 1.0, "tolerance": 0.2}


@pytest.mark.parametrize(
    ("recipe", "code", "names"),
    [
        ("deebert:threshold=0.1,speed=2", Code.CONFLICT, ("threshold", "speed")),
        ("pabee:patience=2,speed=2", Code.CONFLICT, ("patience", "speed")),
        ("deebert:threshold=0", Code.OUT_OF_RANGE, ("threshold=0",)),
        ("deebert:speed=1", Code.OUT_OF_RANGE, ("speed=1",)),
        ("fastbert:threshold=1", Code.OUT_OF_RANGE, ("threshold=1",)),
        ("pabee:patience=0", Code.OUT_OF_RANGE, ("patience=0",)),
        ("pabee:tolerance=0", Code.OUT_OF_RANGE, ("tolerance=0",)),
        ("deebert + fastbert", Code.CONFLICT, ("deebert", "fastbert")),
    ],
)
def test_options_that_cannot_be(recipe: str, code: Code, names: tuple[str, ...]) -> None:
    with refused(code, *names):
        Recipe.parse(recipe)


SCORES, SPANS = CONFIG.with_head("regression", 1), CONFIG.with_head("span", 2)


@pytest.mark.parametrize(
    ("recipe", "config", "names"),
    [
        ("deebert", SPANS, ["span"]),
        ("deebert", SCORES, ["pabee"]),
        ("fastbert", SCORES, ["pabee"]),
        ("pabee:patience=3", CONFIG, ["patience=3", "layer 4 of 4", "smaller patience"]),
        ("deebert", CONFIG.with_layers(CONFIG.layers[:1]), ["layer 1 of 1", "deeper"]),
        ("pabee", CONFIG.with_layers(CONFIG.layers[:2]), ["layer 2 of 2", "deeper"]),
        ("deebert > pabee", CONFIG, ["ramps"]),
    ],
)
def test_shapes_that_are_refused(recipe: str, config: EncoderConfig, names: list[str]) -> None:
    with refused(*names):
        shape_left(recipe, config)


def test_scores_take_pabee() -> None:
    left = shape_left("pabee", SCORES)
    assert left.exit_rule is not None
    assert [layer.exit for layer in left.layers] == ["linear"] * 3 + [None]


@pytest.mark.parametrize(
    ("recipe", "fastest"), [("deebert:speed=4", "4.0"), ("pabee:speed=2", "2.0"), ("deebert:speed=3.9", None)]
)
def test_a_speed_beyond_the_first_ramp_is_refused_before_training(recipe: str, fastest: str | None) -> None:
    made, baseline = method(recipe), Baseline(CONFIG, lambda: None)
    if fastest is None:
        made.check_against(CONFIG, baseline)
        return
    with refused(fastest):
        made.check_against(CONFIG, baseline)


def test_figures_reach_the_training_and_a_smaller_encoder_counts_from_the_baseline() -> None:
    """After layer-drop the encoder has two thirds of the FLOPs before a row leaves early at all."""
    teacher, given = tiny_encoder().eval(), context()
    student: Any = teacher
    for stage in Recipe.parse("layer-drop:drop=1 > deebert:speed=2").stages:
        student, training = run_stage(stage, student, given)
    assert isinstance(student, Encoder)
    assert training[-1].figures["flops_ratio"] >= 2
    assert 1 <= training[-1].figures["mean_depth"] <= 3
    assert set(training[-1].figures) >= {"threshold", "rows", "left_after_1", "left_after_3"}


@pytest.mark.parametrize("name", ["deebert:speed=1.5", "pabee:speed=1.2"])
def test_no_row_leaves_while_a_later_method_measures_and_the_rule_comes_back(name: str) -> None:
    exits = built(name)
    rule = exits.config.exit_rule
    assert rule is not None
    (stage,) = Recipe.parse("head-pruning:share=0.5,batches=2").stages
    pruned, _ = run_stage(stage, exits, context(shapes_only=True))
    assert sum(layer.heads for layer in pruned.config.layers) == 8
    assert pruned.config.exit_rule == exits.config.exit_rule == rule
    (stage,) = Recipe.parse("layer-drop:drop=3").stages
    assert run_stage(stage, exits, context(shapes_only=True))[0].config.exit_rule is None
