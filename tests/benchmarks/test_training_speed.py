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
from harness.compression.context import Budget, Context
from harness.compression.evaluation import predict
from harness.compression.training import train
from harness.models.checkpoints import save_checkpoint
from harness.tasks import TrainingView

pytestmark = [pytest.mark.timed, pytest.mark.slow]
BATCH = 32


def _in_turn(arms: dict[str, Callable[[], Callable[[], object]]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each arm in each round. An arm makes ready what it needs and returns what is timed."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(rounds):
        names = list(arms) if turn % 2 == 0 else list(reversed(arms))
        for name in names:
            timed = arms[name]()
            start = time.perf_counter()
            timed()
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


def test_training_and_evaluation_against_trainer(benchmark: Any, scale: Any, tmp_path: Path) -> None:
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
    model = load_model(scale.trained, labels=2, seed=0)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(task.train()), generator=generator)[: scale.examples].tolist()
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

    def ours(precision: str) -> Callable[[], Callable[[], object]]:
        def ready() -> Callable[[], object]:
            budget = Budget(epochs=1, batch_size=BATCH, precision=precision)
            context = Context(deepcopy(model), view, budget)
            return lambda: train(context.teacher, [], context, "baseline")

        return ready

    loaded = BertForSequenceClassification.from_pretrained(tmp_path / "model")

    def trainer() -> Any:
        arguments = TrainingArguments(
            output_dir=str(tmp_path / "trainer"),
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=BATCH,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        return Trainer(deepcopy(loaded), arguments, train_dataset=rows, processing_class=tokenizer)

    training = _in_turn(
        {
            "ours-float32": ours("float32"),
            "trainer": lambda: trainer().train,
            "ours-bfloat16": ours("bfloat16"),
        },
        scale.rounds,
    )
    predictor = trainer()
    evaluation = _in_turn(
        {
            "ours": lambda: lambda: predict(model, task, examples),
            "trainer": lambda: lambda: predictor.predict(rows),
        },
        scale.rounds,
    )
    figures = {
        "task": name,
        "model": scale.trained,
        "training_ratio_float32": _ratios(training, "ours-float32"),
        "training_ratio_bfloat16": _ratios(training, "ours-bfloat16"),
        "evaluation_ratio": _ratios(evaluation, "ours"),
        "examples_per_second": {
            arm: scale.examples / statistics.median(times)
            for arm, times in {**training, "predict": evaluation["ours"]}.items()
        },
    }
    print(figures)
    benchmark.extra_info.update(figures)
    benchmark.pedantic(ours("float32")(), rounds=1)
