"""Distillation from a teacher that reads other tokens than its student: both read the same texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from harness.common.errors import Code
from harness.compression.context import Step
from harness.compression.method import Method
from harness.compression.teacher_logits import TeacherLogits
from harness.compression.training import train
from harness.conformance.tiny import tiny_encoder
from harness.models.encoder.encoder import Encoder
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from harness.tasks import Example
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import built, context


class Seen(Method):
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
    given_to_it = context(teacher, teacher_logits=logits, examples=48)
    probe = Seen()
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
    given_to_it = context(teacher, teacher_logits=TeacherLogits(tmp_path, "tiny"), examples=32, epochs=40)
    pruned, _ = run_stage(pruning, teacher, replace(given_to_it, shapes_only=True))
    examples = list(given_to_it.training_examples())
    before = divergence(pruned.eval(), teacher, examples)
    student, (record,) = run_stage(distilling, pruned, given_to_it)
    assert record.steps == 80
    assert student.config.vocab_size == 80
    assert student.require_tokenizer().same_as(pruned.require_tokenizer())
    assert divergence(student.eval(), teacher, examples) < 0.5 * before
    by_token = Seen()
    by_token.needs = frozenset({"hidden_states"})  # type: ignore[misc]
    with refused(Code.WRONG_ORDER, "hidden states"):
        train(student, [by_token], given_to_it, "probe")
