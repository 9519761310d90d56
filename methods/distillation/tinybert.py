"""tinybert: a student first learns the teacher's embeddings, states and attention scores, then its logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Claim, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.compression.distillation.layer_maps import (
    Shallower,
    ShallowerOptions,
    choose_layers,
    map_layers,
    refuse_other_maps,
    refuse_other_tokens_kept,
)
from harness.models.config import EncoderConfig
from harness.models.shape_checks import refuse_wide_ramps

with lazy_imports():
    import torch

    from harness.compression import training
    from harness.compression.distillation import features, losses
    from harness.compression.pruning import reconstruction as pruning_reconstruction
    from harness.models import model, surgery


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.card import Need
    from harness.compression.comparable import Baseline
    from harness.compression.context import Context, Step
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder

FIT = "fit_dense"
"""Name of the student's map to the teacher's units. The student has it only during training."""


class TinyBERT(Shallower):
    """TinyBERT's task distillation (Jiao et al. 2020). Stage 1: L = Σ MSE(attention scores) + Σ MSE(states · W_fit),
    which compares layer m with the teacher's layer m · M / k, and the embeddings (eq. 7-9). Stage 2: soft cross-entropy
    of the logits at T = 1 (eq. 10).
    """

    card = Card(
        id="tinybert",
        title="TinyBERT (task distillation)",
        family="distillation",
        paper=Paper(
            title="TinyBERT: Distilling BERT for Natural Language Understanding",
            authors="Jiao, Yin, Shang, Jiang, Chen, Li, Wang, Liu",
            year=2020,
            venue="Findings of EMNLP",
            link="https://aclanthology.org/2020.findings-emnlp.372/",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "General distillation is left out: the student begins with layers, and the hidden units that tell most of "
            "the others, of the fine-tuned teacher. Narrower, it keeps the teacher's heads and feed-forward columns; "
            "its map to the teacher's units begins with least squares, and there is none at the teacher's width. The "
            "scores' loss is a mean over pairs of tokens without padding, the soft cross-entropy a sum over classes; "
            "the released code takes means that count padding and classes. Both stages follow the budget's schedule "
            "and learning rate. If the base's checkpoint has no masked language model, and for words in pieces, "
            "augmentation takes the nearest of its word embeddings, not GloVe's. Only one text of a pair changes at a "
            "time. The teacher labels the augmented texts."
        ),
        touches=("embedding", "attention_in", "attention", "attention_out", "ffn", "head"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        claims=(
            Claim(
                "mnli", "test", "accuracy", 82.5, "4 layers, remembered", False, {"layers": 4, "hidden": 312}
            ),
            Claim("qqp", "test", "f1", 71.3, "4 layers, remembered", False, {"layers": 4, "hidden": 312}),
            Claim(
                "sst2", "test", "accuracy", 92.6, "4 layers, remembered", False, {"layers": 4, "hidden": 312}
            ),
        ),
        notes=(
            "The paper makes 20 texts of each example (augment=20) and trains 10 to 20 epochs in stage 1 and 3 in "
            "stage 2. Embedding and head change only if the student is narrower."
        ),
    )
    replaces_task_loss = True
    _intermediate = True

    @options
    class Options(ShallowerOptions):
        """`layers` of the student, a divisor of the teacher's; `choose`: the teacher's layers that it starts from;
        `hidden` size, if it should be smaller; `intermediate_share`: share of the epochs that stage 1 takes; `batches`
        of 32 training examples for the choice of units; `augment`: texts made of each example.
        """

        hidden: Annotated[int, Field(ge=1)] | None = None
        intermediate_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
        batches: Annotated[int, Field(ge=1, le=10000)] = 16

    suite = {
        "layers": (2, 1),
        "hidden": (24, 16),
        "choose": ("spread", "last"),
        "intermediate_share": (0.5,),
        "augment": (1,),
    }

    @property
    def own_share(self) -> float:
        """The share of stage 1."""
        return float(self.options.intermediate_share)

    @property
    def needs(self) -> frozenset[Need]:
        """Hidden states in stage 1 (hooks read queries and keys), logits in stage 2."""
        return frozenset({"hidden_states"} if self._intermediate else {"teacher_logits"})

    def check_against(self, config: EncoderConfig, baseline: Baseline) -> None:
        """Raise SkylineError if `layers` does not divide the teacher's, or mapped layers cannot be compared."""
        super().check_against(config, baseline)
        refuse_other_tokens_kept(config, baseline.config)
        theirs = baseline.config.layers
        kept = choose_layers(len(config.layers), self.options.layers, self.options.choose)
        for place, other in enumerate(map_layers(len(kept), len(theirs), "skip")):
            refuse_other_maps(config.layers[kept[place]], theirs[other], place, other)

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape with fewer layers, and the hidden size of the options.

        Raises SkylineError: OUT_OF_RANGE if `layers` or `hidden` does not fit; WRONG_SHAPE if layers share weights or
        have wide exit ramps.
        """
        left, hidden = super().final_shape_from(config), self.options.hidden
        if hidden is None:
            return left
        refuse_wide_ramps(config)
        if hidden >= config.hidden_size:
            raise SkylineError(
                f"hidden={hidden} is not below the hidden size {config.hidden_size}; use a smaller one or leave it out",
                Code.OUT_OF_RANGE,
            )
        if config.embedding_rank is not None and hidden <= config.embedding_rank:
            raise SkylineError(
                f"hidden={hidden} is not above the rank {config.embedding_rank} of the word embeddings; use more",
                Code.OUT_OF_RANGE,
            )
        return EncoderConfig.model_validate({**left.model_dump(), "hidden_size": hidden})

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """Return a copy of the chosen layers, cut to the chosen units."""
        student = super().student(teacher, context)
        self.start = None
        if self.options.hidden is None:
            return student
        moments = pruning_reconstruction.observe_states(
            teacher.to(context.device), context, self.options.batches
        )
        kept = pruning_reconstruction.choose_units(moments.covariance, self.options.hidden)
        self.start = pruning_reconstruction.reconstruction(moments, kept)
        return surgery.keep_hidden(student, kept)

    def _fit(self, student: Encoder, context: Context) -> torch.nn.Linear:
        """Return the map to the teacher's units: least squares if the uncut student had all of them, else random."""
        fit = torch.nn.Linear(student.config.hidden_size, context.teacher.config.hidden_size)
        with torch.no_grad():
            if self.start is not None and self.start[0].shape == fit.weight.shape:
                fit.weight.copy_(self.start[0])
                fit.bias.copy_(self.start[1])
            else:
                fit.weight.normal_(0.0, model.INITIALIZER_RANGE, generator=context.generator("tinybert"))
                fit.bias.zero_()
        return fit

    def prepare(self, student: Encoder, context: Context) -> None:
        """Run stage 1."""
        teacher, config = context.teacher, student.config
        mapped = map_layers(len(config.layers), len(teacher.layers), "skip")
        self.layers = list(enumerate(mapped))
        self.heads = [layer.heads for layer in config.layers]
        if config.hidden_size != teacher.config.hidden_size:
            student.add_module(FIT, self._fit(student, context))
        self.fit = getattr(student, FIT, None)
        self.ours = features.Features(student, matrices=("query", "key"))
        self.theirs = features.Features(teacher, set(mapped), ("query", "key"))
        try:
            training.train_round(
                student,
                [self],
                context,
                "tinybert stage 1 of 2: states",
                share=self.own_share,
                patience=None,
            )
        finally:
            self.ours.close()
            self.theirs.close()
        if self.fit is not None:
            delattr(student, FIT)
        self._intermediate = False

    def loss(self, step: Step) -> Tensor:
        """Return the loss of the current stage (a scalar), which replaces the task loss."""
        if not self._intermediate:
            return losses.logits_loss(step, kind="soft-ce")
        mask, ours = step.batch.attention_mask, step.output.hidden_states
        theirs = step.teacher_pass.hidden_states
        assert ours is not None
        assert theirs is not None
        if self.fit is not None:
            ours = tuple(self.fit(states.float()) for states in ours)  # (b, n, hidden) -> (b, n, teacher's)
        states = [theirs[0], *(theirs[other + 1] for _, other in self.layers)]
        near, far = self.ours.take(), self.theirs.take()
        scores = [
            [
                features.relation_scores(read[pair[side], "query"], read[pair[side], "key"], heads)
                for pair, heads in zip(self.layers, self.heads, strict=True)
            ]
            for side, read in enumerate((near, far))
        ]
        return losses.score_losses(*scores, mask).sum() + losses.hidden_losses(ours, states, mask).sum()
