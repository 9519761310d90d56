"""The data that the training loop and the hooks of methods get: budget, context and step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from harness.common.errors import Code, SkylineError
from harness.compression.encoded_rows import encode_examples
from harness.compression.teacher_logits import TeacherLogits
from harness.models.batch import Batch, Output
from harness.models.encoder.encoder import Encoder
from harness.models.model import Model
from harness.records.schema import Training

if TYPE_CHECKING:
    from harness.compression.card import Need
    from harness.models.encoder.mlm_head import MaskedLanguageModelHead
    from harness.tasks.base import Example, Kind, TrainingView


class Budget(BaseModel):
    """How long and how a stage trains. Each stage that trains gets one for all of its trainings together; a method may
    change fields for its own rounds (`train_round`). All values are validated; an unknown field is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over the training set, of all trainings of a stage together; a fraction is allowed. A training makes at
    least one step.
    """
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Examples in an optimizer step."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    """The peak of AdamW's rate: linear up over the warm-up, then linear down to 0."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The share of all steps in which the rate rises."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of matrices; biases and normalisations have none (as in BERT's released code)."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """The largest L2 norm of the gradient of all parameters; a larger gradient is scaled down to it."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """The precision of the student's passes. auto: bfloat16 if the processor has the instructions, else float32."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """None trains to the end. A number stops after that many epochs without a better score on the held-out slice of
    the training set, and keeps the best weights.
    """
    holdout: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """The share of training examples that early stopping holds out."""
    examples: Annotated[int, Field(ge=1)] | None = None
    """The most training examples, drawn from the seed; None: all."""


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
class OwnRounds:
    """The share of a stage's epochs that a method declares for its own rounds (`Method.own_share`), and the share that
    its rounds have taken so far.
    """

    declared: float = 1.0
    taken: float = 0.0

    def take(self, share: float, stage: str) -> None:
        """Count one more round, named `stage`. Raises SkylineError (`conflict`) if the rounds then take more than the
        method declares.
        """
        self.taken += share
        if self.taken > self.declared + 1e-9:  # shares such as 1/3 do not add up exactly
            raise SkylineError(
                f"with '{stage}' the method's own rounds take {self.taken:g} of the stage's epochs, but own_share is "
                f"{self.declared:g}; raise own_share or train for less",
                Code.CONFLICT,
            )


@dataclass
class Context:
    """What a stage tells its methods' hooks. One context serves one stage; only `own` differs between its methods.

    A hook may read all of it, call its functions, and add to `figures`; it must not change anything else. No path leads
    from a context to the dev split.
    """

    teacher: Encoder
    """The fine-tuned baseline. Must not be changed."""
    task: TrainingView
    """The training side of the task: its name, kind, examples and longest row in tokens."""
    budget: Budget
    seed: int = 0
    device: str = "cpu"
    """Where the stage trains. `student` gets its model on the processor, as `finish` does."""
    teacher_logits: TeacherLogits | None = None
    """The cache of the teacher's logits, which the loop reads."""
    progress: Callable[[str, Progress], None] | None = None
    """Told the stage's name and how far it is."""
    load_pretrained: Callable[[], Encoder] | None = None
    """Loads the base model as it was before fine-tuning; None if there is none (see `pretrained`)."""
    load_language_model: Callable[[], MaskedLanguageModelHead | None] = lambda: None
    """Loads the head of the base model's masked language model; returns None if the checkpoint has none."""
    shapes_only: bool = False
    """Whether only the shape of the result is wanted, for its size, FLOPs and latency. Then nothing is trained and the
    weights do not matter, so that a hook may replace an expensive choice by any choice of the same shape. It is False
    in every real run, also in stages without training: do not guard a calibration by anything else.
    """
    augmented: Sequence[Augmented] = ()
    """What trains in addition to the task's own examples: what the methods' `examples` made."""
    trained: list[Training] = field(default_factory=list)
    """The trainings that methods began by `training.train_round`, which adds to it."""
    own: OwnRounds = field(default_factory=OwnRounds)
    """How much of the epochs the method that gets this context may train for by `training.train_round`."""
    figures: dict[str, float] = field(default_factory=dict)
    """What methods found out in this stage, by a name in words; the record keeps it."""

    def pretrained(self) -> Encoder:
        """A new copy of the base model as it was before the baseline was fine-tuned: pre-trained weights, and the new
        head that the baseline began with. Without such a model, a copy of the teacher.
        """
        return deepcopy(self.teacher) if self.load_pretrained is None else self.load_pretrained()

    def generator(self, purpose: str) -> torch.Generator:
        """A generator on the processor, seeded by the run's seed and `purpose`. Each purpose has its own, so that one
        more draw for one purpose changes nothing for another.
        """
        # torch's generator on a CPU takes the lower 32 bits of a seed and drops the rest: so hash first.
        mixed = hashlib.sha256(f"{self.seed}:{purpose}".encode()).digest()[:4]
        return torch.Generator().manual_seed(int.from_bytes(mixed, "little"))

    def batches(
        self, model: Model, size: int, count: int | None = None, purpose: str = "batches"
    ) -> Iterator[tuple[Batch, Tensor]]:
        """Random batches for what a method measures: importance, curvature, ranges of activations.

        Yields (batch, targets) on the context's device: ids, mask and segments (b, n) with b at most `size`, padded to
        the longest row; targets (b,), for spans (b, 2). Ends after `count` batches, or when each training example was
        seen once. Raises SkylineError for a row that `model` cannot read.
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
        """The training examples within the budget: all, or `budget.examples` of them, drawn from the seed and in the
        order of the training set.
        """
        examples, limit = self.task.examples, self.budget.examples
        if limit is None or limit >= len(examples):
            return examples
        chosen = torch.randperm(len(examples), generator=self.generator("subset"))[:limit].sort().values
        return [examples[i] for i in chosen.tolist()]


@dataclass
class Step:
    """One training step, as `Method.loss` sees it: a batch of b rows, padded to n tokens, after the student's forward
    pass and before the backward pass. It must not be changed.
    """

    kind: Kind
    """The task's kind, which says what targets and logits mean."""
    batch: Batch
    """Ids, mask and segments (b, n), by the student's tokenizer."""
    targets: Tensor
    """Labels (b,) int64 for classes, scores (b,) float32 for regression, first and last token (b, 2) for spans."""
    rows: list[int]
    """Indices of the b rows in this training's examples: first the task's own, then the augmented ones."""
    output: Output
    """The student's: logits (b, outputs), for spans (b, n, 2); hidden states and attentions as `needs` says; the
    logits of exit ramps.
    """
    task_loss: Tensor
    """The scalar loss against the targets, with its graph."""
    progress: float
    """Steps done / all steps, in [0, 1)."""
    teacher: Encoder
    teacher_batch: Batch | None = None
    """The same texts by the teacher's tokenizer; None if the student has the same tokenizer."""
    needs: frozenset[Need] = frozenset()
    """What the stage's methods read, together."""
    bfloat16: bool = False
    """Whether the student's pass was in bfloat16."""
    _logits: Tensor | None = field(default=None, repr=False)

    @cached_property
    def teacher_output(self) -> Output:
        """The teacher's output on this batch, in float32 and without gradients; hidden states and attentions as `needs`
        says. It is computed when first asked for.
        """
        return self._run_teacher()

    @cached_property
    def teacher_pass(self) -> Output:
        """The same as `teacher_output`, but in the precision of the student's pass, which may be twice as fast."""
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
        """The teacher's logits for these rows, shaped as the student's. They come from the cache for a method with
        `teacher_logits` in `needs`, else from a pass of the teacher.
        """
        return self._logits if self._logits is not None else self.teacher_output.logits
