"""The one training loop. Methods act on it through their hooks; it does not depend on any method.

Batches of similar length, AdamW with linear warm-up and decay, gradient clipping, bfloat16 if the processor has the
instructions, early stopping on a held-out slice of the training set, heads that read standardised states. All random
numbers come from one seed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.common.errors import Code, SkylineError
from harness.common.hardware import has_bfloat16
from harness.compression.comparable import refuse_other_tokens
from harness.compression.context import Budget, Context, Progress, Step
from harness.compression.encoded_rows import EncodedSplit, encode_examples
from harness.compression.evaluation import predict, score
from harness.compression.standardizing import standardized
from harness.compression.task_loss import task_loss
from harness.models.model import Model
from harness.records.schema import Training

if TYPE_CHECKING:
    from harness.compression.card import Need
    from harness.compression.method import Method
    from harness.tasks.base import Example


def parameter_groups(
    model: nn.Module, weight_decay: float, methods: Sequence[Method] = ()
) -> list[dict[str, object]]:
    """Return AdamW's parameter groups. Matrices have weight decay; biases and norms have none (as in BERT's released
    code), nor have parameters that a method gives their own learning rate (`Method.learning_rate`).
    """
    decaying, others = list[nn.Parameter](), list[nn.Parameter]()
    own: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rates = [rate for method in methods if (rate := method.learning_rate(name)) is not None]
        if rates:
            own.setdefault(rates[-1], []).append(parameter)
        else:
            (decaying if parameter.dim() > 1 else others).append(parameter)
    groups: list[dict[str, object]] = [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return groups + [{"params": own[rate], "weight_decay": 0.0, "lr": rate} for rate in sorted(own)]


def linear_schedule(step: int, steps: int, warmup: float) -> float:
    """Return the learning rate at `step` (from 0) as a share of its peak: linear up over the share `warmup` of the
    steps, then linear down to 0.
    """
    warm = max(1, round(steps * warmup))
    return (step + 1) / warm if step < warm else max(0.0, (steps - step) / max(1, steps - warm))


def train(student: Model, methods: Sequence[Method], context: Context, stage: str) -> Training:
    """Train `student` in place with the hooks of `methods`, and return the record of the training. `stage` is the name
    in that record. The student ends in evaluation mode.

    Raises SkylineError for an empty training set (`no-data`), a task longer than the student's positions (`too-long`),
    a need that cannot be met with the teacher's tokenizer (`wrong-order`), and a loss that is not finite
    (`not-finite`).
    """
    budget, task, device = context.budget, context.task, context.device
    examples = context.training_examples()
    held: Sequence[Example] = ()
    if budget.patience is not None:
        examples, held = task.with_examples(examples).holdout(budget.holdout, context.seed, at_most=1000)
    # Examples augmented from a held-out example must not be trained on.
    out = {id(example) for example in held}
    sources = context.training_examples()
    made = [each.example for each in context.augmented if id(sources[each.source]) not in out]
    own, examples = len(examples), [*examples, *made]
    source = f"the training set of {task.name}"
    rows = encode_examples(examples, student, task.kind, student.length_for(task), source)
    needs: frozenset[Need] = frozenset().union(*(method.needs for method in methods))
    teacher_rows = rows
    if needs and not student.require_tokenizer().same_as(context.teacher.require_tokenizer()):
        refuse_other_tokens(needs, spans=task.kind == "span")
        theirs = context.teacher.length_for(task)
        teacher_rows = encode_examples(examples, context.teacher, task.kind, theirs, source)
    cached = None
    if "teacher_logits" in needs and context.teacher_logits is not None:
        # Two parts, because each is probably cached: the task's examples by an earlier recipe, the augmented ones
        # by the labelling.
        parts = (
            [teacher_rows.part(0, own), teacher_rows.part(own, own + len(made))] if made else [teacher_rows]
        )
        cached = torch.cat([context.teacher_logits.of(context.teacher, part, device) for part in parts])
    bfloat16 = budget.precision == "bfloat16" or (budget.precision == "auto" and has_bfloat16(device))
    optimizer = torch.optim.AdamW(
        parameter_groups(student, budget.weight_decay, methods), lr=budget.learning_rate, fused=True
    )
    per_epoch = math.ceil(len(rows) / budget.batch_size)
    steps = max(1, round(per_epoch * budget.epochs))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: linear_schedule(step, steps, budget.warmup)
    )
    settled = max((method.fully_compressed_at for method in methods), default=0.0)
    order = context.generator("order")
    student.to(device).train()
    context.teacher.to(device).eval()
    best, best_state, waited = -math.inf, None, 0
    running, done, seen, started = math.nan, 0, 0, time.monotonic()
    # Dropout draws from torch's global generator, so its state is restored afterwards.
    with standardized(student, rows), torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.generator("dropout").initial_seed())
        while done < steps and waited < (budget.patience or math.inf):
            for chosen in rows.shuffled_batches(budget.batch_size, order):
                loss = _one_step(
                    student,
                    methods,
                    context,
                    (rows, teacher_rows),
                    chosen,
                    needs,
                    cached,
                    bfloat16,
                    done / steps,
                )
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise SkylineError(
                        f"the loss is {value} at step {done + 1} of '{stage}' on {task.name}; "
                        "lower the learning rate or use --precision float32",
                        Code.NOT_FINITE,
                    )
                torch.autograd.backward(loss)
                nn.utils.clip_grad_norm_(student.parameters(), budget.clip)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                schedule.step()
                done, seen = done + 1, seen + len(chosen)
                for method in methods:
                    method.step(student, done / steps)
                running = value if math.isnan(running) else 0.98 * running + 0.02 * value
                if context.progress is not None and (done % 10 == 0 or done == steps):
                    context.progress(stage, Progress(done, steps, running))
                if done == steps:
                    break
            if held and done / steps >= settled:
                reached = score(task, predict(student, task, held, device), held)[task.metric]
                student.train()
                waited = 0 if reached > best else waited + 1
                if reached > best:
                    best, best_state = reached, deepcopy(student.state_dict())
        if best_state is not None:
            student.load_state_dict(best_state)
    student.eval()
    return Training(
        stage=stage,
        epochs=done / per_epoch,
        steps=done,
        examples=len(examples),
        seconds=time.monotonic() - started,
        final_loss=running,
        precision="bfloat16" if bfloat16 else "float32",
        threads=torch.get_num_threads(),
        seen=seen,
    )


def train_round(
    student: Model, methods: Sequence[Method], context: Context, stage: str, *, share: float, **budget: Any
) -> None:
    """Train `student` in place for `share` of the stage's epochs, for example in one round of several. The stage's
    training comes in addition. All rounds of a method together may take its `own_share`.

    The hooks of `methods` act on it; `budget` changes other fields of the stage's budget. The record is added to
    `context.trained`. It does nothing if the context wants shapes only. Only methods with `trains` may call it. Raises
    SkylineError as `train` does, and (`conflict`) for more than the method's `own_share` or a number of epochs.
    """
    if context.shapes_only:
        return
    if "epochs" in budget:
        raise SkylineError(
            f"'{stage}' sets its epochs; give `share`, its share of the stage's epochs, instead",
            Code.CONFLICT,
        )
    context.own.take(share, stage)
    epochs = share * context.budget.epochs
    own = Budget.model_validate({**context.budget.model_dump(), **budget, "epochs": epochs})
    context.trained.append(train(student, methods, replace(context, budget=own), stage))


def _one_step(
    student: Model,
    methods: Sequence[Method],
    context: Context,
    read: tuple[EncodedSplit, EncodedSplit],
    chosen: list[int],
    needs: frozenset[Need],
    cached: Tensor | None,
    bfloat16: bool,
    progress: float,
) -> Tensor:
    device = context.device
    rows, teacher_rows = read
    batch, targets = rows.batch(chosen).to(device), rows.targets[chosen].to(device)
    with torch.autocast(device.partition(":")[0], dtype=torch.bfloat16, enabled=bfloat16):
        output = student(batch, hidden_states="hidden_states" in needs, attentions="attentions" in needs)
    loss = task_loss(context.task.kind, output.logits, targets)
    step = Step(
        kind=context.task.kind,
        batch=batch,
        targets=targets,
        rows=chosen,
        output=output,
        task_loss=loss,
        progress=progress,
        teacher=context.teacher,
        teacher_batch=None if teacher_rows is rows else teacher_rows.batch(chosen).to(device),
        needs=needs,
        bfloat16=bfloat16,
        _logits=None if cached is None else cached[chosen].to(device),
    )
    terms = [term for method in methods if (term := method.loss(step)) is not None]
    if not any(method.replaces_task_loss for method in methods):
        terms.append(loss)
    return torch.stack(terms).sum()
