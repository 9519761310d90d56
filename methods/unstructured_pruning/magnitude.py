"""magnitude: the smallest weights go, a few more after every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness import Card, Claim, Paper
from harness.gradual import GradualPruning

if TYPE_CHECKING:
    from torch import Tensor


class Magnitude(GradualPruning):
    """Gradual magnitude pruning (Zhu & Gupta 2017; Gordon et al. 2020) while fine-tuning."""

    card = Card(
        id="magnitude",
        title="Magnitude pruning",
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
            "Prunes a fine-tuned encoder while it is fine-tuned further (the paper's regime 'pruned after downstream "
            "fine-tuning', but gradually), not during pre-training. Word embeddings are pruned only with "
            "embeddings=true."
        ),
        touches=("embedding", "attention_in", "attention_out", "ffn"),
        reduces=("disk",),
        claims=(
            Claim(
                "sst2",
                "dev",
                "accuracy",
                91.7,
                "Table 1, pruned after downstream fine-tuning, 40 %",
                options={"sparsity": 0.4},
            ),
            Claim(
                "sst2",
                "dev",
                "accuracy",
                90.6,
                "Table 1, pruned after downstream fine-tuning, 60 %",
                options={"sparsity": 0.6},
            ),
            Claim(
                "sst2",
                "dev",
                "accuracy",
                86.4,
                "Table 1, pruned after downstream fine-tuning, 80 %",
                options={"sparsity": 0.8},
            ),
        ),
        notes="Dense kernels execute the zeros, so it claims neither FLOPs nor latency.",
    )
    suite = {"sparsity": (0.6, 0.4, 0.8), "schedule": ("cubic", "linear"), "scope": ("matrix", "global")}

    def scores(self) -> Mapping[str, Tensor]:
        """|w|."""
        return self.masks.magnitudes()
