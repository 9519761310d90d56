"""What the training loop and the hooks of methods are told: budget, context and step. Data only."""

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
    """The trainings that methods began by `training.train_round`."""
    figures: dict[str, float] = field(default_factory=dict)
    """What methods found out in this stage, by name; it goes into the record of the stage's training."""

    def pretrained(self) -> Encoder:
        """The base model as it was before the baseline was fine-tuned: pre-trained weights and the new head that
        the baseline began with. A copy of the teacher where none can be had.
        """
        return deepcopy(self.teacher) if self.load_pretrained is None else self.load_pretrained()

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
