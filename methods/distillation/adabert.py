"""adabert: a convolutional student, whose cell is found by differentiable search, learns the teacher's logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from harness import Card, Claim, Paper, options
from harness.common.lazy import lazy_imports
from harness.compression.distillation.augmentation import AugmentationOptions
from harness.compression.distillation.students import Embedding, StudentDistillation, StudentOptions
from harness.models.students.config import ConvolutionalConfig

with lazy_imports():
    from harness.compression import training
    from harness.compression.distillation import losses
    from harness.models.students import convolutional
    from methods.distillation import _architecture_search


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Context, Step
    from harness.models.students.config import ConvolutionalConfig
    from harness.models.students.convolutional import ConvolutionalStudent
    from methods.distillation._architecture_search import Search

SURVEY = "Ganesh et al. 2021, Table 1"
SEARCHED = {"search": "gumbel"}


class AdaBERT(StudentDistillation):
    """L = (1 − γ) · task loss + γ · soft cross-entropy of the logits + β · L_E (Chen et al. 2020, section 3), L_E = the
    cells' share of 8 · the mean cost of what their edges compute. The search goes first, and trains cells with every
    operation; the cell that it finds then goes on with its weights, without L_E.
    """

    card = Card(
        id="adabert",
        title="AdaBERT",
        family="distillation",
        paper=Paper(
            title="AdaBERT: Task-Adaptive BERT Compression with Differentiable Neural Architecture Search",
            authors="Chen, Li, Qiu, Wang, Li, Ding, Deng, Huang, Lin, Zhou",
            year=2020,
            venue="IJCAI",
            link="https://arxiv.org/abs/2001.04246",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "The number of cells is an option, the paper searches for it too; the efficiency loss keeps its factor K / "
            "8, and the released code's costs of the operations. The teacher's part of the loss is of its logits, "
            "without probes on its layers, and stays after the search, where the released code has the labels alone. "
            "Weights and architecture learn at once, from the same batches, for `epochs` instead of 80, so the "
            "architecture's rate is higher than the released code's; one operation of an edge is computed a step, the "
            "drawn one, not all. Word embeddings begin with principal components of the teacher's, positions with "
            "nothing, instead of a learned projection of both. Pairs are read each for itself and meet in [u; v; "
            "|u - v|; u * v]; in the paper they are the two inputs of the first cell. There is a hidden layer before "
            "the classifier. Dilated convolutions read every other token; the released code's are morphological "
            "dilations. Batch normalisation leaves padding out. AdamW with warm-up and decay. The cell of search=none "
            "is ours."
        ),
        touches=("embedding", "attention_in", "attention", "attention_out", "ffn", "head"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        claims=(
            Claim("mnli", "unknown", "accuracy", 81.6, SURVEY, False, SEARCHED),
            Claim("qqp", "unknown", "accuracy", 88.7, SURVEY, False, SEARCHED),
            Claim("sst2", "unknown", "accuracy", 91.8, SURVEY, False, SEARCHED),
            Claim(
                "mrpc",
                "unknown",
                "f1",
                78.7,
                "the paper's without augmentation, as the released code's README has it",
                options={**SEARCHED, "augment": 0},
            ),
        ),
        notes=(
            "Published sizes are 6.4 (SST-2) to 9.5 million parameters (MNLI); under BERT-base, search=none with "
            "cells=8 has 6.4. The paper augments as TinyBERT does. Of a recipe that is not trained the cell is that "
            "of search=none."
        ),
    )
    inert_when_tiny = {
        "vocabulary": "It acts with embedding=bpe, char or hash, which needs start=random too."
    }
    _searching: Search | None = None

    @options
    class Options(AugmentationOptions):
        """`search`: `gumbel` finds the cell in `epochs` of a training of its own, `none` takes a fixed one; `cells`,
        how many there are, of `channels` each; `embedding`, `dimension`, `vocabulary`, `start` and `classifier` as of
        all students. `gamma` weighs the teacher's logits, 1 − gamma the labels, `beta` the efficiency loss;
        `temperature`, what that of the drawn operations falls to from 1; `rate` of the weights and
        `architecture_rate` of what the search learns, at their peak; `dropout`; `augment`.
        """

        search: Literal["gumbel", "none"] = "gumbel"
        epochs: Annotated[float, Field(gt=0, le=1000)] = 3.0
        cells: Annotated[int, Field(ge=1, le=8)] = 4
        channels: Annotated[int, Field(ge=1, le=4096)] = 128
        embedding: Embedding = "wordpiece"
        dimension: Annotated[int, Field(ge=1, le=4096)] = 128
        vocabulary: Annotated[int, Field(ge=0, le=1_000_000)] = 0
        start: Literal["random", "teacher"] = "teacher"
        classifier: Annotated[int, Field(ge=1, le=65536)] = 128
        gamma: Annotated[float, Field(ge=0, le=1)] = 0.8
        beta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 4.0
        temperature: Annotated[float, Field(gt=0, le=1)] = 0.2
        rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
        architecture_rate: Annotated[float, Field(gt=0, le=1)] = 3e-3
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1

        def __post_init__(self) -> None:
            """The embeddings must fit each other, as of all students."""
            if self.embedding != "wordpiece" and self.start == "teacher":
                raise ValueError(
                    f"embedding={self.embedding} cannot begin with the teacher's word embeddings; use start=random"
                )
            StudentOptions.__post_init__(self)  # type: ignore[arg-type]

    suite = {
        "search": ("gumbel", "none"),
        "cells": (2, 1, 8),
        "channels": (8, 128),
        "dimension": (8, 16),
        "classifier": (16, 128),
        "start": ("teacher", "random"),
        "epochs": (1.0,),
        "gamma": (0.8, 0.0),
        "beta": (4.0, 0.0),
    }

    def shape(self, common: Mapping[str, Any]) -> ConvolutionalConfig:
        """The fixed cell: another is known only after the search."""
        o = self.options
        own = {"cells": o.cells, "channels": o.channels, "dropout": o.dropout}
        return ConvolutionalConfig.model_validate({**common, **own})

    def student(self, teacher: Any, context: Context) -> convolutional.ConvolutionalStudent:
        """A new student; where anything is trained, with the cell that a search finds."""
        student = super().student(teacher, context)
        assert isinstance(student, convolutional.ConvolutionalStudent)
        # Here, not in `prepare`: what acts beside this method must meet the weights that stay.
        if self.options.search == "gumbel" and not context.shapes_only:
            self._search(student, context)
        return student

    def _search(self, student: ConvolutionalStudent, context: Context) -> None:
        """Train the student with every operation on every edge, and leave it the cell that this finds."""
        body = _architecture_search.Search(student.config).initialize(context.generator("adabert cells"))
        self.noise = context.generator("adabert operations")
        body.choice.draw(self.noise, 1.0)
        student.body = self._searching = body
        name = "adabert 1 of 2: search"
        try:
            training.train_round(student, [self], context, name, epochs=self.options.epochs, patience=None)
        finally:
            self._searching = None
        found = {"genotype": _architecture_search.genotype_of(body.choice.logits)}
        student.config = student.config.model_copy(update=found)
        student.body = body.kept(student.config)

    def learning_rate(self, name: str) -> float:
        """The architecture has one of its own."""
        o = self.options
        return float(o.architecture_rate if name.endswith("choice.logits") else o.rate)

    def step(self, student: ConvolutionalStudent, progress: float) -> None:
        """Draw the operations of the next step."""
        if self._searching is not None:
            self._searching.choice.draw(
                self.noise, _architecture_search.annealed(progress, self.options.temperature)
            )

    def loss(self, step: Step) -> Tensor:
        """The weighted sum; it replaces the task loss."""
        o = self.options
        loss: Tensor = (1 - o.gamma) * step.task_loss + o.gamma * losses.logits_loss(step, kind="soft-ce")
        if self._searching is None:
            return loss
        return loss + o.beta * _architecture_search.efficiency_loss(self._searching.choice.weights(), o.cells)
