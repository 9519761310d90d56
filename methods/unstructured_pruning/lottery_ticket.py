"""lottery-ticket: rounds of training find the weights to keep, which are then trained from the pre-trained weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Claim, Method, Paper, options
from harness.common.lazy import lazy_imports
from harness.compression.pruning.rewinding import restore, rewind

with lazy_imports():
    from harness.compression import training
    from harness.compression.pruning import masks as pruning_masks


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Context
    from harness.compression.pruning.masks import Masks
    from harness.models.encoder.encoder import Encoder

POOLER = "head.pooler.weight"


class LotteryTicket(Method):
    """Iterative magnitude pruning with rewinding (Chen et al. 2020, Algorithm 1): in each round, train the masked
    pre-trained weights θ₀, drop the smallest remaining weights, and reset the others to θ₀. Then train m ⊙ θ₀.
    """

    card = Card(
        id="lottery-ticket",
        title="Lottery ticket",
        family="unstructured-pruning",
        paper=Paper(
            title="The Lottery Ticket Hypothesis for Pre-trained BERT Networks",
            authors="Chen, Frankle, Chang, Liu, Zhang, Wang, Carbin",
            year=2020,
            venue="NeurIPS",
            link="https://arxiv.org/abs/2007.12223",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "Rounds and the last training together take the budget's epochs, by default in equal parts; in the paper "
            "each takes three. The number of rounds is free: each round prunes an equal share of the original "
            "weights, 10 % in the paper. Learning rate and batch size are the budget's."
        ),
        touches=("attention_in", "attention_out", "ffn", "head"),
        reduces=("disk",),
        claims=(
            Claim("mnli", "dev", "accuracy", 82.6, "ticket of 70 %", False, {"sparsity": 0.7}),
            Claim("qqp", "dev", "accuracy", 90.0, "ticket of 90 %", False, {"sparsity": 0.9}),
            Claim("sst2", "dev", "accuracy", 91.9, "ticket of 60 %", False, {"sparsity": 0.6}),
            Claim("squad", "dev", "f1", 87.7, "ticket of 40 %", False, {"sparsity": 0.4}),
        ),
        notes=(
            "Each round resets every weight to the pre-trained checkpoint, also embeddings, norms and head. The "
            "layers' matrices and the pooler are pruned together. The survey prints other figures (83.1, 89.5, 92.9, "
            "87.8), which could not be matched. The record's figure differs_from_one_shot is the share of the mask "
            "that differs from one-shot pruning of θ₀. Dense kernels execute the zeros."
        ),
    )
    decides = frozenset({"which weights are zero"})
    restarts_from_pretrained = True
    masks: Masks

    @options
    class Options:
        """`sparsity` over all pruned matrices after the last of `rounds`. Each round trains with a new optimizer and
        schedule. `rounds_share`: share of the epochs that all rounds take together; by default each takes as much as
        the last training.
        """

        sparsity: Annotated[float, Field(gt=0, lt=1)] = 0.5
        rounds: Annotated[int, Field(ge=1, le=100)] = 5
        rounds_share: Annotated[float, Field(gt=0, lt=1)] | None = None

    suite = {"sparsity": (0.6, 0.5, 0.7), "rounds": (2, 5)}

    @property
    def own_share(self) -> float:
        """The share of all rounds."""
        o = self.options
        return float(o.rounds / (o.rounds + 1) if o.rounds_share is None else o.rounds_share)

    def prepare(self, student: Encoder, context: Context) -> None:
        """Find the ticket: run the rounds, and leave the masked pre-trained weights."""
        o = self.options
        start = rewind(student, context, self.card.id)
        pooler = [POOLER] if student.head.pooler is not None else []
        self.masks = pruning_masks.Masks(
            student, [*pruning_masks.prunable(student, embeddings=False), *pooler]
        )
        # Without training, all rounds together drop the same weights as a single one.
        for done in (o.rounds,) if context.shapes_only else range(1, o.rounds + 1):
            stage = f"{self.card.id} round {done} of {o.rounds}"
            training.train_round(
                student, [self], context, stage, share=self.own_share / o.rounds, patience=None
            )
            self.masks.replace(
                pruning_masks.keep_largest(self._left(), o.sparsity * done / o.rounds, "global")
            )
            restore(student, start)
            self.masks.apply()
        if not context.shapes_only:
            at_once = pruning_masks.keep_largest(
                {name: start[name].abs() for name in self.masks.kept}, o.sparsity, "global"
            )
            kept = {name: mask.cpu() for name, mask in self.masks.kept.items()}
            context.figures["differs_from_one_shot"] = pruning_masks.share_changed(at_once, kept)

    def _left(self) -> dict[str, Tensor]:
        """Return |w| of the remaining weights, and −1 for pruned ones, so that these rank lowest."""
        sizes, kept = self.masks.magnitudes(), self.masks.kept
        return {name: size.masked_fill(~kept[name].to(size.device), -1.0) for name, size in sizes.items()}

    def step(self, student: Encoder, progress: float) -> None:
        """Apply the mask after each optimizer step."""
        self.masks.apply()

    def finish(self, student: Encoder, context: Context) -> None:
        """Store the remaining weights with a bitmask."""
        self.masks.store(student)
