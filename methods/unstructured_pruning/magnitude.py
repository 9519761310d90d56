"""magnitude: the smallest weights are pruned, a few more after every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness import Card, Paper
from harness.common.lazy import lazy_imports
from harness.compression.pruning.gradual import GradualPruning, regime_claims

with lazy_imports():
    from harness.compression.pruning import masks


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Context
    from harness.models.encoder.encoder import Encoder


class Magnitude(GradualPruning):
    """Gradual magnitude pruning (Zhu & Gupta 2017) in the regimes of Gordon et al. 2020, section 3."""

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
            "By default a fine-tuned encoder is pruned gradually while it is fine-tuned further; the paper fine-tunes "
            "for 3 epochs, prunes, and goes on for 5 more (7 from 80 %). In the other regimes pre-training is "
            "masked-language modelling alone, on the task's training text, with a new head, for `pretraining_share` of "
            "the epochs; the paper's takes 100,000 steps on BERT's corpus. Fine-tuning takes the rest (the paper's: 3 "
            "epochs, 13 to 15 after information deletion). Word embeddings are pruned only with embeddings=true; the "
            "paper always prunes them."
        ),
        touches=("embedding", "attention_in", "attention_out", "ffn"),
        reduces=("disk",),
        claims=(
            *regime_claims(
                "pruned after downstream fine-tuning",
                {
                    0.1: (82.9, 90.6, 90.3, 91.6, 79.0),
                    0.2: (82.7, 90.6, 90.2, 92.0, 79.0),
                    0.3: (82.7, 90.4, 89.7, 91.6, 78.5),
                    0.4: (82.7, 90.5, 89.9, 91.7, 78.8),
                    0.5: (82.6, 90.3, 89.7, 90.8, 78.0),
                    0.6: (81.8, 90.2, 89.3, 90.6, 76.1),
                    0.7: (80.5, 89.4, 86.2, 88.2, 69.5),
                    0.8: (73.7, 87.8, 80.4, 86.4, 69.1),
                    0.9: (58.7, 82.5, 65.2, 81.5, 69.1),
                },
                "after-fine-tuning",
            ),
            *regime_claims(
                "pruned during pre-training",
                {
                    0.1: (83.3, 90.4, 91.0, 91.6, 79.4),
                    0.2: (83.3, 90.5, 91.1, 91.6, 79.1),
                    0.3: (83.3, 90.2, 90.7, 91.9, 79.5),
                    0.4: (83.0, 90.1, 90.4, 91.5, 78.4),
                    0.5: (82.6, 89.8, 90.2, 90.9, 77.4),
                    0.6: (81.8, 89.4, 89.3, 91.4, 75.9),
                    0.7: (79.5, 88.6, 88.4, 90.1, 72.7),
                    0.8: (75.9, 86.9, 85.3, 88.1, 69.1),
                    0.9: (64.8, 81.1, 71.7, 80.3, 69.1),
                },
                "pretraining",
            ),
            *regime_claims(
                "information deletion",
                {
                    0.1: (82.8, 90.5, 90.5, 92.2, 80.8),
                    0.2: (82.9, 90.5, 90.5, 91.5, 80.3),
                    0.3: (82.3, 90.6, 90.5, 90.8, 80.0),
                    0.4: (82.2, 90.5, 90.1, 92.0, 79.0),
                    0.5: (82.5, 90.3, 90.2, 91.2, 77.9),
                    0.6: (81.9, 90.1, 89.5, 90.8, 76.4),
                    0.7: (80.8, 90.2, 88.7, 90.3, 74.4),
                    0.8: (78.6, 89.3, 86.0, 88.8, 70.0),
                    0.9: (72.9, 87.5, 76.8, 83.0, 69.1),
                },
                "information-deletion",
            ),
        ),
        notes=(
            "Dense kernels execute the zeros, so it claims neither FLOPs nor latency. regime=information-deletion "
            "leaves a dense artifact as large as the baseline's: it only measures what the encoder forgets. The "
            "record's figure mask_changed is the share of the masks that the baseline's fine-tuning changed (the "
            "paper: < 6 %). MiniLM's checkpoint was tuned for sentence similarity and has no masked-language head."
        ),
    )
    suite = {
        "sparsity": (0.6, 0.4, 0.8),
        "schedule": ("cubic", "linear"),
        "scope": ("matrix", "global"),
        "regime": ("after-fine-tuning", "pretraining", "information-deletion"),
    }

    def prepare(self, student: Encoder, context: Context) -> None:
        """Record the share of the masks that the baseline's fine-tuning changed, then attach masks."""
        if (
            not context.shapes_only
            and context.load_pretrained is not None
            and student.config == context.teacher.config
        ):
            context.figures["mask_changed"] = self._mask_changed(context.teacher, context.pretrained())
        super().prepare(student, context)

    def _mask_changed(self, tuned: Encoder, pretrained: Encoder) -> float:
        """Return the share of weights that masks of the final sparsity keep in only one of the two encoders."""
        o = self.options
        names = masks.prunable(tuned, o.embeddings)
        scores = (masks.Masks(model, names).magnitudes() for model in (pretrained, tuned))
        return masks.share_changed(*(masks.keep_largest(each, o.sparsity, o.scope) for each in scores))

    def scores(self) -> Mapping[str, Tensor]:
        """Return |w| by name, each in the weight's shape."""
        return self.masks.magnitudes()
