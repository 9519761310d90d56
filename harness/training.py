"""The one training loop. Methods act on it through their hooks; it knows none of them.

Length-bucketed batches, AdamW with linear warm-up and decay, clipping, bfloat16 where the processor has the
instructions, early stopping on a slice of the training set, all drawn from one seed.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from harness.compatibility import refuse_other_tokens
from harness.data import EncodedSplit, encode_examples
from harness.encoder import Encoder
from harness.errors import SkylineError
from harness.evaluation import predict, score
from harness.model import Batch, Model, Output
from harness.records import Training
from harness.teacher import TeacherLogits

if TYPE_CHECKING:
    from harness.masked_language_model import MaskedLanguageModelHead
    from harness.method import Method, Need
    from harness.tasks.base import Example, Kind, TrainingView


class Budget(BaseModel):
    """How long and how a stage trains. `learning_rate` is the peak; `examples` caps the training set (None:
    all of it).

    `patience` None trains to the end; a number stops after so many epochs without a better score on the
    held-out slice of the training set, and keeps the best.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: Annotated[float, Field(gt=0)] = 3.0
    batch_size: Annotated[int, Field(ge=1)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip: Annotated[float, Field(gt=0)] = 1.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    patience: Annotated[int, Field(ge=1)] | None = None
    holdout: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    examples: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True)
class Progress:
    """What the loop reports now and then: optimizer steps done and in all, and the loss's running mean."""

    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class Augmented:
    """A training example made of another: of that at `source` in the context's training examples. Its label is the
    teacher's.
    """

    source: int
    example: Example


@dataclass
class Context:
    """What a method may know of the run. `task` is the training side only: no path leads from it to the dev
    split.
    """

    teacher: Encoder
    task: TrainingView
    budget: Budget
    seed: int = 0
    device: str = "cpu"
    teacher_logits: TeacherLogits | None = None
    progress: Callable[[str, Progress], None] | None = None
    """Told the stage's name and how far it is."""
    load_pretrained: Callable[[], Encoder] | None = None
    load_language_model: Callable[[], MaskedLanguageModelHead | None] = lambda: None
    """The head of the base model's masked language model, where its checkpoint has it."""
    trains: bool = True
    """Whether anything may be trained; not where only shapes are wanted."""
    augmented: Sequence[Augmented] = ()
    """What trains beside the task's own examples."""
    trained: list[Training] = field(default_factory=list)
    """The trainings that methods began by `train`."""
    figures: dict[str, float] = field(default_factory=dict)
    """What methods found out in this stage, by name; it goes into the record of the stage's training."""

    def pretrained(self) -> Encoder:
        """The base model as it was before the baseline was fine-tuned: pre-trained weights and the new head that
        the baseline began with. A copy of the teacher where none can be had.
        """
        return deepcopy(self.teacher) if self.load_pretrained is None else self.load_pretrained()

    def train(self, student: Model, methods: Sequence[Method], stage: str, **budget: Any) -> None:
        """Train `student` in place before (or after) the stage's own training: one round of several, for example.
        `methods` act on it; `budget` changes fields of the stage's budget. Does nothing where nothing is trained.
        """
        if not self.trains:
            return
        own = Budget.model_validate({**self.budget.model_dump(), **budget})
        self.trained.append(train(student, methods, replace(self, budget=own), stage))

    def generator(self, purpose: str) -> torch.Generator:
        """A generator of its own for each purpose, so that one more draw here changes nothing there."""
        # torch's generator on a CPU takes the lower 32 bits of a seed and drops the rest: so hash first.
        mixed = hashlib.sha256(f"{self.seed}:{purpose}".encode()).digest()[:4]
        return torch.Generator().manual_seed(int.from_bytes(mixed, "little"))

    def batches(
        self, model: Model, size: int, count: int | None = None, purpose: str = "batches"
    ) -> Iterator[tuple[Batch, Tensor]]:
        """Random batches of `size` training examples with their targets, on the context's device, for what a
        method measures: importance, curvature, significance. Ends after `count`, or when each was seen once.
        """
        examples = self.training_examples()
        if count is not None and count * size < len(examples):
            order = torch.randperm(len(examples), generator=self.generator(purpose))
            examples = [examples[i] for i in order[: count * size].tolist()]
        length = model.length_for(self.task)
        source = f"the training set of {self.task.name}"
        rows = encode_examples(examples, model, self.task.kind, length, source)
        shuffled = rows.shuffled_batches(size, self.generator(purpose))
        for chosen in islice(shuffled, count):
            yield rows.batch(chosen).to(self.device), rows.targets[chosen].to(self.device)

    def training_examples(self) -> Sequence[Example]:
        """The training examples within the budget, drawn from the seed where the budget caps them."""
        examples, limit = self.task.examples, self.budget.examples
        if limit is None or limit >= len(examples):
            return examples
        chosen = torch.randperm(len(examples), generator=self.generator("subset"))[:limit].sort().values
        return [examples[i] for i in chosen.tolist()]


@dataclass
class Step:
    """One training step as a method's `loss` sees it. `rows` are indices into the training examples of this
    run.
    """

    kind: Kind
    batch: Batch
    targets: Tensor
    rows: list[int]
    output: Output
    task_loss: Tensor
    progress: float
    teacher: Encoder
    teacher_batch: Batch | None = None
    """The same texts by the teacher's own tokenizer, where that is another than the student's."""
    needs: frozenset[Need] = frozenset()
    bfloat16: bool = False
    """Whether the student's pass was in bfloat16."""
    _logits: Tensor | None = field(default=None, repr=False)

    @cached_property
    def teacher_output(self) -> Output:
        """The teacher's output on this batch, computed when first asked for; hidden states and attentions as
        `needs` says.
        """
        return self._run_teacher()

    @cached_property
    def teacher_pass(self) -> Output:
        """As `teacher_output`, in the precision of the student's pass, which may be twice as fast."""
        with torch.autocast(self.targets.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            return self._run_teacher()

    def _run_teacher(self) -> Output:
        # Not inference_mode: its tensors could not be saved for the student's backward pass.
        with torch.no_grad():
            output: Output = self.teacher(
                self.teacher_batch or self.batch,
                hidden_states="hidden_states" in self.needs,
                attentions="attentions" in self.needs,
            )
        return output

    @property
    def teacher_logits(self) -> Tensor:
        """The teacher's logits for these rows, from the cache (a method asks for them through `needs`)."""
        return self._logits if self._logits is not None else self.teacher_output.logits


def task_loss(kind: Kind, logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of classes, squared error of scores, mean cross-entropy of start and end for spans."""
    logits = logits.float()
    if kind == "classification":
        return F.cross_entropy(logits, targets)
    if kind == "regression":
        return F.mse_loss(logits[:, 0], targets)
    return (
        F.cross_entropy(logits[..., 0], targets[:, 0]) + F.cross_entropy(logits[..., 1], targets[:, 1])
    ) / 2


def parameter_groups(
    model: nn.Module, weight_decay: float, methods: Sequence[Method] = ()
) -> list[dict[str, object]]:
    """Matrices decay; biases and norms do not (as in BERT's released code). What a method gives a learning rate
    of its own (`Method.learning_rate`) does not decay either.
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
    """The share of the peak learning rate at `step` (from 0): linear up over `warmup` of the steps, linear
    down to 0.
    """
    warm = max(1, round(steps * warmup))
    return (step + 1) / warm if step < warm else max(0.0, (steps - step) / max(1, steps - warm))


def has_bfloat16(device: str) -> bool:
    """Whether the processor multiplies bfloat16 matrices by instructions of its own."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def train(student: Model, methods: Sequence[Method], context: Context, stage: str) -> Training:
    """Train `student` in place with the hooks of `methods`, and say how it went.

    Raises SkylineError for an empty training set, a task whose `max_length` the student cannot hold, and where
    the loss is no finite number.
    """
    budget, task, device = context.budget, context.task, context.device
    examples = context.training_examples()
    held: Sequence[Example] = ()
    if budget.patience is not None:
        examples, held = task.with_examples(examples).holdout(budget.holdout, context.seed, at_most=1000)
    # What was made of a held-out example must not be trained on.
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
        # What was made for itself: it has been labelled already, and the task's own may have been read before.
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
    settled = max((method.settled for method in methods), default=0.0)
    order = context.generator("order")
    student.to(device).train()
    context.teacher.to(device).eval()
    best, best_state, waited = -math.inf, None, 0
    running, done, seen, started = math.nan, 0, 0, time.monotonic()
    # Dropout draws from torch's own generator; it is given back as it was.
    with torch.random.fork_rng(devices=[]):
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
                        "lower the learning rate or use --precision float32"
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
    )


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
