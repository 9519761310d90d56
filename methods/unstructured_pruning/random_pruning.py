"""random-pruning: the control that every pruning method has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness import Card, Claim, Paper
from harness.gradual import GradualPruning

if TYPE_CHECKING:
    from torch import Tensor

    from harness.encoder import Encoder
    from harness.training import Context


class RandomPruning(GradualPruning):
    """Weights drawn at random go, on the same schedule as magnitude pruning (Gordon et al. 2020, section
    3.4).
    """

    card = Card(
        id="random-pruning",
        title="Random pruning",
        family="unstructured-pruning",
        paper=Paper(
            title="Compressing BERT: Studying the Effects of Weight Pruning on Transfer Learning",
            authors="Gordon, Duh, Andrews",
            year=2020,
            venue="RepL4NLP",
            link="https://aclanthology.org/2020.repl4nlp-1.18/",
        ),
        scope="task-agnostic",
        fidelity="variant",
        deviations="Prunes a fine-tuned encoder while it is fine-tuned further, not during pre-training.",
        touches=("embedding", "attention_in", "attention_out", "ffn"),
        reduces=("disk",),
        claims=(
            Claim(
                "sst2",
                "dev",
                "accuracy",
                88.6,
                "Table 1, random pruning, 40 %",
                options={"sparsity": 0.4},
            ),
            Claim(
                "sst2",
                "dev",
                "accuracy",
                81.5,
                "Table 1, random pruning, 60 %",
                options={"sparsity": 0.6},
            ),
            Claim(
                "sst2",
                "dev",
                "accuracy",
                80.6,
                "Table 1, random pruning, 80 %",
                options={"sparsity": 0.8},
            ),
        ),
        notes="A control, not a proposal. Dense kernels execute the zeros.",
    )
    suite = {"sparsity": (0.6, 0.4, 0.8)}

    def prepare(self, student: Encoder, context: Context) -> None:
        """Draw one score a weight: sparser masks then only ever drop more."""
        import torch

        super().prepare(student, context)
        generator = context.generator("random-pruning")
        self.drawn = {
            name: torch.rand(weight.shape, generator=generator).to(weight.device)
            for name, weight in self.masks.weights.items()
        }

    def scores(self) -> Mapping[str, Tensor]:
        """The drawn numbers."""
        return self.drawn
