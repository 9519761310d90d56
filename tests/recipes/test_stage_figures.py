"""What the methods of a stage without training find out stands in the record, and such a stage cannot train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.common.errors import Code
from harness.common.hardware import hardware
from harness.compression.context import Context
from harness.compression.training import train_round
from harness.conformance.tiny import tiny_encoder
from harness.models.checkpoints import save_checkpoint
from harness.models.config import EncoderConfig
from harness.models.tokenizer import Tokenizer
from harness.recipes.builder import run_stage
from harness.recipes.recipe import RecipeStage
from harness.records.cells import BudgetSpec, QualityCell
from harness.records.schema import parse_record
from harness.runs.cell_execution import execute_quality
from tests.support.encoder_models import VOCABULARY, random_weights
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import context
from tests.support.training_probes import Probe, probe


def test_a_real_run_keeps_the_figures(tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    config = EncoderConfig.bert(1, 24, heads=2, ffn=40, vocab_size=len(VOCABULARY), positions=256)
    save_checkpoint(random_weights(config, 0, tiny_tokenizer), tmp_path / "base")
    budget = {"epochs": 1, "examples": 40}
    cell = QualityCell(
        recipe="part-pruning:body=0.25 > dynamic-int8",
        model=str(tmp_path / "base"),
        task="toy-sentiment",
        seed=0,
        budget=BudgetSpec(baseline=budget, recipe=budget),
    )
    text = execute_quality(cell, tmp_path / "work", None, "stamp", hardware(), 1, lambda _: None)
    record = parse_record(text, "the record")
    assert record.quality is not None
    baseline, pruning = record.quality.training
    assert (baseline.stage, baseline.figures) == ("baseline", {})
    assert baseline.final_loss is not None
    assert (pruning.stage, pruning.steps, pruning.final_loss) == ("part-pruning:body=0.25", 0, None)
    assert pruning.figures == {"sparsity": pytest.approx(0.25, abs=0.01)}


class Calibrates(Probe):
    """A post-training method that guards its calibration."""

    trains = False

    def finish(self, student: Any, context: Context) -> None:
        if not context.shapes_only:
            context.figures["rows"] = sum(len(batch) for batch, _ in context.batches(student, 16))


def test_post_training_calibrates_but_not_for_shapes_alone() -> None:
    stage = RecipeStage((probe(Calibrates),))
    _, (entry,) = run_stage(stage, tiny_encoder(), context(examples=40))
    assert entry.figures == {"rows": 40}
    assert run_stage(stage, tiny_encoder(), context(shapes_only=True))[1] == []


def test_a_stage_that_says_it_does_not_train_must_not() -> None:
    class Secretly(Probe):
        trains = False
        own_share = 0.5

        def prepare(self, student: Any, context: Context) -> None:
            train_round(student, [], context, "secret", share=0.5)

    stage = RecipeStage((probe(Secretly),))
    with refused(Code.CONFLICT, "trains = False"):
        run_stage(stage, tiny_encoder(), context())
    run_stage(stage, tiny_encoder(), context(shapes_only=True))
