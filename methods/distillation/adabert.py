"""adabert: a convolutional student learns the teacher's logits; a differentiable search finds its cell."""

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
    """AdaBERT (Chen et al. 2020, section 3): L = (1 − γ) · task loss + γ · soft cross-entropy of the logits + β · L_E,
    with L_E = K / 8 · the mean cost of the edges' operations, for K cells.

    The search comes first and trains cells with every operation. The cell that it finds keeps its weights and is
    trained further without L_E.
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
            "The number of cells is an option; the paper searches for it too. The efficiency loss keeps its factor K / "
            "8 and the released code's costs of the operations. The teacher's loss uses its logits, without probes on "
            "its layers, and stays after the search, when the released code uses the labels alone. Weights and "
            "architecture are trained together, on the same batches, for `search_share` of the epochs instead "
            "of 80 epochs, so the architecture's rate is higher than the released code's. Each step computes only the "
            "drawn operation of an edge, not all. Word embeddings begin with principal components of the teacher's, "
            "positions with zeros, instead of a learned projection of both. The texts of a pair are encoded separately "
            "and combined as [u; v; |u - v|; u * v]; in the paper they are the two inputs of the first cell. There is "
            "a hidden layer before the classifier. Dilated convolutions read every other token; the released code's "
            "are morphological dilations. Batch normalisation leaves padding out. The optimizer is AdamW with warm-up "
            "and decay. The cell of search=none is ours."
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
            "cells=8 has 6.4. The paper augments as TinyBERT does. A recipe that is not trained has the cell of "
            "search=none."
        ),
    )
    inert_when_tiny = {
        "vocabulary": "It acts only with embedding=bpe, char or hash, which also need start=random."
    }
    _searching: Search | None = None

    @options
    class Options(AugmentationOptions):
        """`search`: find the cell in a separate training of `search_share` of the epochs (gumbel), or take a fixed one
        (none); number of `cells`, with `channels` each; `embedding`, `dimension`, `vocabulary`, `start` and
        `classifier` as for all students; `gamma`: weight of the teacher's logits (the labels have 1 − gamma); `beta`:
        weight of the efficiency loss; `temperature` at the end of the search (1 at first); `rate`: peak rate of the
        weights; `architecture_rate`: peak rate of the architecture; `dropout`; `augment`.
        """

        search: Literal["gumbel", "none"] = "gumbel"
        search_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
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
            """Raise ValueError if the embedding options do not fit each other."""
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
        "search_share": (0.5,),
        "gamma": (0.8, 0.0),
        "beta": (4.0, 0.0),
    }

    @property
    def own_share(self) -> float:
        """The share of the search; 0 without one."""
        return float(self.options.search_share) if self.options.search == "gumbel" else 0.0

    def shape(self, common: Mapping[str, Any]) -> ConvolutionalConfig:
        """Return the shape with the fixed cell. Another cell is known only after the search."""
        o = self.options
        own = {"cells": o.cells, "channels": o.channels, "dropout": o.dropout}
        return ConvolutionalConfig.model_validate({**common, **own})

    def student(self, teacher: Any, context: Context) -> convolutional.ConvolutionalStudent:
        """Return a new student, after the search if this run trains."""
        student = super().student(teacher, context)
        assert isinstance(student, convolutional.ConvolutionalStudent)
        # Not in `prepare`: other methods of the stage must see the weights that stay.
        if self.options.search == "gumbel" and not context.shapes_only:
            self._search(student, context)
        return student

    def _search(self, student: ConvolutionalStudent, context: Context) -> None:
        """Train the student with every operation on every edge, then give it the cell that was found."""
        body = _architecture_search.Search(student.config).initialize(context.generator("adabert cells"))
        self.noise = context.generator("adabert operations")
        body.choice.draw(self.noise, 1.0)
        student.body = self._searching = body
        name = "adabert 1 of 2: search"
        try:
            training.train_round(student, [self], context, name, share=self.own_share, patience=None)
        finally:
            self._searching = None
        found = {"genotype": _architecture_search.genotype_of(body.choice.logits)}
        student.config = student.config.model_copy(update=found)
        student.body = body.kept(student.config)

    def learning_rate(self, name: str) -> float:
        """Return `architecture_rate` for the architecture, `rate` for all other parameters."""
        o = self.options
        return float(o.architecture_rate if name.endswith("choice.logits") else o.rate)

    def step(self, student: ConvolutionalStudent, progress: float) -> None:
        """Draw the operations of the next step, during the search."""
        if self._searching is not None:
            self._searching.choice.draw(
                self.noise, _architecture_search.annealed(progress, self.options.temperature)
            )

    def loss(self, step: Step) -> Tensor:
        """Return the weighted sum (a scalar), which replaces the task loss."""
        o = self.options
        loss: Tensor = (1 - o.gamma) * step.task_loss + o.gamma * losses.logits_loss(step, kind="soft-ce")
        if self._searching is None:
            return loss
        return loss + o.beta * _architecture_search.efficiency_loss(self._searching.choice.weights(), o.cells)
