"""Examples a second of our loop and of `transformers.Trainer` at its defaults, in turn, on the same rows of
the same model.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import load_model, load_task
from harness.checkpoints import save_checkpoint
from harness.evaluation import predict
from harness.tasks import TrainingView
from harness.training import Budget, Context, train

pytestmark = [pytest.mark.timed, pytest.mark.slow]
ROUNDS, EXAMPLES, BATCH = 5, 1024, 32


def _in_turn(arms: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(ROUNDS):
        names = list(arms) if turn % 2 == 0 else list(reversed(arms))
        for name in names:
            start = time.perf_counter()
            arms[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _ratios(seconds: dict[str, list[float]], ours: str) -> float:
    pairs = zip(seconds["trainer"], seconds[ours], strict=True)
    return statistics.median(theirs / our for theirs, our in pairs)


class _Rows(torch.utils.data.Dataset[dict[str, Any]]):
    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


def test_training_and_evaluation_against_trainer(benchmark: Any, tmp_path: Path) -> None:
    from transformers import (
        AutoTokenizer,
        BertForSequenceClassification,
        Trainer,
        TrainingArguments,
        logging,
    )

    logging.set_verbosity_error()
    name = "sst2" if os.environ.get("SKYLINE_DATA_DIR") else "toy-sentiment"
    task = load_task(name)
    model = load_model("minilm-l6", labels=2, seed=0)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(task.train()), generator=generator)[:EXAMPLES].tolist()
    examples = [task.train()[i] for i in chosen]
    view = TrainingView(
        task.name, task.kind, task.labels, task.metrics, task.metric, task.max_length, examples
    )
    save_checkpoint(model, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    rows = _Rows(
        [
            {**tokenizer(e.text, truncation=True, max_length=task.max_length), "label": e.label}
            for e in examples
        ]
    )

    def ours(precision: str) -> Callable[[], None]:
        def run() -> None:
            budget = Budget(epochs=1, batch_size=BATCH, precision=precision)
            student = deepcopy(model)
            train(student, [], Context(student, view, budget), "baseline")

        return run

    def trainer() -> Any:
        theirs = BertForSequenceClassification.from_pretrained(tmp_path / "model")
        arguments = TrainingArguments(
            output_dir=str(tmp_path / "trainer"),
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=BATCH,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        return Trainer(theirs, arguments, train_dataset=rows, processing_class=tokenizer)

    training = _in_turn(
        {
            "ours-float32": ours("float32"),
            "trainer": lambda: trainer().train(),
            "ours-bfloat16": ours("bfloat16"),
        }
    )
    predictor = trainer()
    evaluation = _in_turn(
        {
            "ours": lambda: predict(model, task, examples) and None,
            "trainer": lambda: predictor.predict(rows) and None,
        }
    )
    figures = {
        "task": name,
        "training_ratio_float32": _ratios(training, "ours-float32"),
        "training_ratio_bfloat16": _ratios(training, "ours-bfloat16"),
        "evaluation_ratio": _ratios(evaluation, "ours"),
        "examples_per_second": {
            arm: EXAMPLES / statistics.median(times)
            for arm, times in {**training, "predict": evaluation["ours"]}.items()
        },
    }
    print(figures)
    benchmark.extra_info.update(figures)
    benchmark.pedantic(ours("float32"), rounds=1)
