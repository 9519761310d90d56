"""power-bert: each layer drops the word-vectors that get the least attention."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from harness import Card, Claim, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.attention_kinds import LinformerAttention
from harness.models.shape_checks import refuse_eliminated

with lazy_imports():
    import torch

    from harness.compression import training
    from harness.models import surgery
    from methods.word_vector_elimination import _soft_extraction


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Context, Step
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder
    from methods.word_vector_elimination._soft_extraction import SoftExtract

SEARCH = "search"
PUBLISHED = (
    ("mnli", "accuracy", 83.8, 1e-4, 2e-4),
    ("sst2", "accuracy", 92.1, 2e-4, 5e-4),
    ("qqp", "f1", 70.2, 3e-4, 1e-4),
)
"""Task, metric and score on GLUE's test splits, and the penalty and rate of the search."""


def retention_numbers(text: str) -> list[int]:
    """Parse a retention configuration such as 64/48/32, one number for each layer.

    Raises ValueError if a layer keeps no word-vector, or more than the layer before.
    """
    numbers = [int(part or "0") for part in text.split("/")]
    for layer, number in enumerate(numbers):
        if number < 1:
            raise ValueError(f"retention={text} keeps no word-vector in layer {layer}; keep at least 1")
        if layer and number > numbers[layer - 1]:
            raise ValueError(
                f"retention={text} keeps more word-vectors in layer {layer} than in the one before; "
                "numbers must not grow"
            )
    return numbers


class PowerBert(Method):
    """PoWER-BERT (Goyal et al. 2020): each layer passes on only the word-vectors that get the most attention from other
    tokens. Their number is learned: word-vectors of the fine-tuned encoder are multiplied by weights r_j of their rank,
    trained with loss + λ · Σ_j j · ‖r_j‖₁. Layer j then keeps ⌊Σ r_j⌋ word-vectors, and all is fine-tuned again.
    """

    card = Card(
        id="power-bert",
        title="PoWER-BERT",
        family="word-vector-elimination",
        paper=Paper(
            title="PoWER-BERT: Accelerating BERT Inference via Progressive Word-vector Elimination",
            authors="Goyal, Choudhury, Raje, Chakaravarthy, Sabharwal, Verma",
            year=2020,
            venue="ICML",
            link="https://arxiv.org/abs/2001.08950",
        ),
        scope="task-specific",
        fidelity="faithful",
        deviations=(
            "The mask is gathered with the word-vectors that stay; the released code truncates it. Padding gives no "
            "attention and is dropped before any word. The first token ranks first in the search too, not only in the "
            "elimination. Rows are padded to the longest of their batch, not to the task's maximum. The defaults of "
            "`penalty` and `rate` are the upper ends of the published ranges; the paper chooses both for each task "
            "(SST-2: 2e-4 and 5e-4). All other weights are trained at the rate of the budget, in the released code at "
            "3e-5."
        ),
        touches=("attention", "ffn"),
        reduces=("flops", "latency"),
        claims=tuple(
            Claim(
                task,
                "test",
                metric,
                value,
                "the released code's README",
                options={"retention": SEARCH, "penalty": penalty, "rate": rate},
            )
            for task, metric, value, penalty, rate in PUBLISHED
        ),
        notes=(
            "The numbers are counts of word-vectors, as published, and refer to the task's maximal length: a row with "
            "fewer tokens than a layer keeps loses none there and does not become faster. The published speedups (2.4 "
            "on SST-2, 2.6 on MNLI) are for batches padded to that maximum, so they come in large part from dropped "
            "padding, which costs nothing here from the start. The record's figures are the counts, and the share of "
            "word-vectors without padding that the training rows keep. Without training there is no search, so nothing "
            "is dropped: give a retention. Layers that eliminate use explicit attention, because its probabilities are "
            "needed. A single row saves less time than FLOPs, since each map reads all of its weights for a few "
            "vectors."
        ),
    )
    decides = frozenset({"the student"})

    @options
    class Options:
        """`retention`: number of word-vectors that each layer keeps, such as 64/48/32/16, or search. For the search:
        `penalty` λ; `rate`: peak learning rate of the rank weights r; `search_share`: its share of the epochs.
        """

        retention: Annotated[str, Field(pattern=rf"^({SEARCH}|[0-9/]+)$")] = SEARCH
        penalty: Annotated[float, Field(ge=0, le=1)] = 1e-3
        rate: Annotated[float, Field(gt=0, le=1)] = 3e-3
        search_share: Annotated[float, Field(gt=0, lt=1)] = 0.5

        def __post_init__(self) -> None:
            """Raise ValueError if the retention cannot be parsed."""
            if self.retention != SEARCH:
                retention_numbers(self.retention)

    suite = {"retention": ("14/10/6/2", "search", "12/12/4/4"), "penalty": (1e-3, 1e-4)}

    @property
    def own_share(self) -> float:
        """The share of the search; 0 without one."""
        return float(self.options.search_share) if self.options.retention == SEARCH else 0.0

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape with the number of word-vectors that each layer keeps.

        Raises SkylineError: OUT_OF_RANGE if `retention` has not one number for each layer; WRONG_SHAPE for a span head,
        for Linformer's attention, or if word-vectors are eliminated already.
        """
        refuse_eliminated(config, "so there is a retention already; leave one of them out")
        if config.head.kind == "span":
            raise SkylineError(
                "spans need every token's vector, so none can be eliminated; use another task",
                Code.WRONG_SHAPE,
            )
        if any(isinstance(layer.attention, LinformerAttention) for layer in config.layers):
            raise SkylineError(
                "Linformer's attention does not tell how much a token gets; leave one of the methods out",
                Code.WRONG_SHAPE,
            )
        kept = self._given(config) or [config.positions] * len(config.layers)
        return config.with_layers(
            tuple(
                layer.model_copy(update={"kept": number if layer.heads else None})
                for layer, number in zip(config.layers, kept, strict=True)
            )
        )

    def _given(self, config: EncoderConfig) -> list[int] | None:
        """Return the retention in the options, or None for a search."""
        if self.options.retention == SEARCH:
            return None
        numbers = retention_numbers(self.options.retention)
        if len(numbers) != len(config.layers):
            raise SkylineError(
                f"retention={self.options.retention} has {len(numbers)} numbers for {len(config.layers)} layers; "
                "give one for each",
                Code.OUT_OF_RANGE,
            )
        return numbers

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """Return a copy of the teacher that eliminates word-vectors, after a search if no retention is given."""
        model, kept = deepcopy(teacher), self._given(teacher.config)
        if kept is None:
            kept = self._search(model, context)
        heads = [layer.heads for layer in teacher.config.layers]
        numbers = [number if attends else None for number, attends in zip(kept, heads, strict=True)]
        context.figures["word-vectors kept"] = sum(kept)
        for layer, number in enumerate(kept):
            context.figures[f"word-vectors kept in layer {layer}"] = number
        context.figures["share of the training rows' word-vectors"] = kept_share(model, kept, context)
        return surgery.keep_word_vectors(model, numbers)

    def _search(self, model: Encoder, context: Context) -> list[int]:
        """Train `model` with rank weights, and return the number of word-vectors that each layer keeps. Layers without
        attention take the number of the layer before.
        """
        o, length = self.options, context.task.length_within(model.config.positions)
        soft = _soft_extraction.soften(model, length)
        search = RetentionSearch(soft, o.penalty, o.rate)
        training.train_round(
            model, [search], context, "power-bert search", share=self.own_share, patience=None
        )
        _soft_extraction.harden(model, soft)
        counts = dict(
            zip(
                soft,
                _soft_extraction.retention_counts([layer.retention for layer in soft.values()]),
                strict=True,
            )
        )
        found: list[int] = []
        for index in range(len(model.layers)):
            found.append(counts.get(index, found[-1] if found else length))
        return found


def kept_share(model: Encoder, kept: list[int], context: Context) -> float:
    """Return the share of word-vectors, without padding, that up to 512 training rows keep over all layers."""
    batches = context.batches(model, 32, 16, "power-bert")
    lengths = torch.cat([batch.attention_mask.sum(1).cpu() for batch, _ in batches])  # (rows,)
    left = sum(int(lengths.clamp(max=number).sum()) for number in kept)
    return left / (len(kept) * int(lengths.sum()))


class RetentionSearch(Method):
    """Trains the rank weights: adds λ · Σ_j j · ‖r_j‖₁ to the task loss, with layers j counted from 1, and clips the
    weights to [0, 1] after each step.
    """

    def __init__(self, soft: dict[int, SoftExtract], penalty: float, rate: float) -> None:
        super().__init__(None)
        self.soft, self.penalty, self.rate = soft, penalty, rate

    def learning_rate(self, name: str) -> float | None:
        """Return `rate` for the rank weights, None for other parameters."""
        return self.rate if name.endswith(".retention") else None

    def loss(self, step: Step) -> Tensor:
        """Return the penalty (a scalar)."""
        terms = [(index + 1) * layer.retention.abs().sum() for index, layer in self.soft.items()]
        return self.penalty * torch.stack(terms).sum()

    def step(self, student: Any, progress: float) -> None:
        """Clip the rank weights to [0, 1]."""
        for layer in self.soft.values():
            layer.retention.data.clamp_(0.0, 1.0)
