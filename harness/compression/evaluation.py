"""Predict with a model, and score its predictions with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from harness.compression.encoded_rows import EncodedSplit, encode_examples
from harness.models.model import Model
from harness.records.predictions import pack_predictions
from harness.records.schema import Predictions, Quality, Training
from harness.tasks import squad
from harness.tasks.metrics import bootstrap, compute, interval

if TYPE_CHECKING:
    from harness.tasks.base import Example, Task, TrainingView

TOKENS_PER_BATCH = 4096
"""The most tokens in a batch, padding included."""
REPLICATES = 1000
"""Bootstrap resamples."""


def predict_logits(model: Model, rows: EncodedSplit, device: str = "cpu") -> list[Tensor]:
    """Return the float32 logits of every row, in the rows' order: each (outputs,), or (tokens of the row, 2) for spans.

    Leaves the model in evaluation mode.
    """
    model.eval()
    logits: list[Tensor] = [torch.empty(0)] * len(rows)
    with torch.inference_mode():
        for batch in rows.sorted_batches(TOKENS_PER_BATCH):
            output = model(rows.batch(batch).to(device)).logits.float().cpu()  # (b, outputs) or (b, n, 2)
            for row, value in zip(batch, output, strict=True):
                # A copy, so that no row keeps its whole batch in memory.
                logits[row] = (value[: int(rows.lengths[row])] if value.dim() > 1 else value).clone()
    return logits


def predict(
    model: Model, task: Task | TrainingView, examples: Sequence[Example], device: str = "cpu"
) -> list[Any]:
    """Return one prediction per example: a class id, a score, or an answer's text.

    Raises SkylineError (`too-long`) if the model has fewer positions than the task needs (see `Task.length_within`).
    """
    return _predict(model, task, examples, device)[0]


def _predict(
    model: Model, task: Task | TrainingView, examples: Sequence[Example], device: str
) -> tuple[list[Any], Predictions | None]:
    """Return the predictions, and packed ones for a record; spans are not packed."""
    length = model.length_for(task)
    rows = encode_examples(examples, model, task.kind, length, task.name)
    logits = predict_logits(model, rows, device)
    if task.kind == "span":
        found = squad.windows(model.require_tokenizer().fast, examples, max_length=length)
        texts = squad.answers(
            found, [x[:, 0].numpy() for x in logits], [x[:, 1].numpy() for x in logits], examples
        )
        return texts, None
    stacked = torch.stack(logits)  # (N, outputs)
    if task.kind == "regression":
        return stacked[:, 0].tolist(), pack_predictions(stacked.numpy(), None, 1)
    labels = [cast("int", example.label) for example in examples]
    return stacked.argmax(dim=1).tolist(), pack_predictions(stacked.numpy(), labels, task.output_size)


def score(
    task: Task | TrainingView, predictions: Sequence[Any], examples: Sequence[Example]
) -> dict[str, float]:
    """Return every metric of the task by name, in points (0 to 100)."""
    return compute(task, predictions, [example.label for example in examples])


def evaluate_quality(
    model: Model, task: Task, device: str = "cpu", training: Sequence[Training] = ()
) -> Quality:
    """Score `model` on the task's dev splits, with 95 % bootstrap intervals and the main metric's replicates.

    Metrics of a second dev split have its name as a suffix: `accuracy_mismatched` for MNLI. `training` is copied into
    the result. Raises SkylineError as `predict` does.
    """
    scores: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for place, split in enumerate(task.dev_splits):
        examples = task.split(split)
        predictions, packed = _predict(model, task, examples, device)
        references = [example.label for example in examples]
        suffix = split.removeprefix("dev") if place else ""
        scores |= {f"{name}{suffix}": value for name, value in compute(task, predictions, references).items()}
        samples = bootstrap(task, predictions, references, REPLICATES)
        intervals |= {f"{name}{suffix}": interval(values) for name, values in samples.items()}
        if not place:
            first = packed
            replicates = np.round(samples[task.metric], 3).tolist()
    return Quality(
        metric=task.metric,
        scores=scores,
        ci95=intervals,
        replicates=replicates,
        examples=len(task.dev()),
        predictions=first,
        training=list(training),
    )
