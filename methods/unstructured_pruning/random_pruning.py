"""random-pruning: prunes weights at random; the control that every pruning method has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness import Card, Paper
from harness.common.lazy import lazy_imports
from harness.compression.pruning.gradual import GradualPruning, regime_claims

with lazy_imports():
    import torch


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Context


class RandomPruning(GradualPruning):
    """Prunes random weights on the same schedule as magnitude pruning (Gordon et al. 2020, section 3.4)."""

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
        deviations=(
            "By default a fine-tuned encoder is pruned while it is fine-tuned further; the paper prunes at random "
            "during pre-training. regime=pretraining does that too, but on the task's training text for "
            "`pretraining_share` of the epochs and with a new head. Word embeddings are pruned only with "
            "embeddings=true; the paper always prunes them."
        ),
        touches=("embedding", "attention_in", "attention_out", "ffn"),
        reduces=("disk",),
        claims=regime_claims(
            "random pruning",
            {
                0.1: (82.0, 90.1, 90.3, 92.3, 77.0),
                0.2: (80.6, 89.8, 88.5, 91.1, 73.5),
                0.3: (79.1, 89.2, 86.9, 89.3, 71.8),
                0.4: (75.4, 88.2, 84.5, 88.6, 69.3),
                0.5: (71.6, 86.6, 81.5, 85.0, 69.1),
                0.6: (70.4, 85.2, 71.7, 81.5, 69.1),
                0.7: (64.1, 81.4, 63.0, 80.6, 69.1),
                0.8: (58.8, 76.6, 61.1, 80.6, 69.1),
                0.9: (49.8, 74.3, 60.2, 75.1, 69.1),
            },
            "pretraining",
        ),
        notes=(
            "This is a control, not a proposal. Dense kernels execute the zeros. regime=information-deletion leaves a "
            "dense artifact; the paper has it for magnitudes only."
        ),
    )
    suite = {
        "sparsity": (0.6, 0.4, 0.8),
        "regime": ("after-fine-tuning", "pretraining", "information-deletion"),
    }

    def draw(self, context: Context) -> None:
        """Draw one score for each weight, so that a sparser mask drops all weights that a denser one drops."""
        generator = context.generator("random-pruning")
        self.drawn = {
            name: torch.rand(weight.shape, generator=generator) for name, weight in self.masks.weights.items()
        }

    def scores(self) -> Mapping[str, Tensor]:
        """Return the drawn scores by name, each in the weight's shape."""
        return {name: drawn.to(self.masks.weights[name].device) for name, drawn in self.drawn.items()}
