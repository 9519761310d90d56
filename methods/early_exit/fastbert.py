"""fastbert: small attention classifiers on a frozen encoder, distilled from its last layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Paper, options
from harness.common.lazy import lazy_imports
from harness.compression.early_exit import EarlyExit, Speed, entropy_candidates

with lazy_imports():
    import torch

    from harness.compression.distillation import losses
    from harness.models.encoder import exits as encoder_exits


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from harness.tasks.base import Kind


class FastBert(EarlyExit):
    """FastBERT (Liu et al. 2020): a student classifier on every layer but the last learns the last classifier's output,
    with the fine-tuned encoder frozen. A row leaves at the first student whose normalised entropy is below the
    threshold.
    """

    card = Card(
        id="fastbert",
        title="FastBERT",
        family="early-exit",
        paper=Paper(
            title="FastBERT: a Self-distilling BERT with Adaptive Inference Time",
            authors="Liu, Zhou, Wang, Zhao, Deng, Ju",
            year=2020,
            venue="ACL",
            link="https://aclanthology.org/2020.acl-main.537/",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "The last layer keeps BERT's pooler and classifier instead of a classifier of the students' shape. The "
            "students' width is a sixth of the hidden size (the published 128 at 768); their dropout is the "
            "encoder's instead of 0.5. Only the training set's texts are used, no other unlabelled text. The threshold "
            "is given (the paper calls it Speed), or chosen for a speed on training rows."
        ),
        touches=("head",),
        reduces=("flops", "latency"),
        input_dependent=True,
        notes=(
            "The paper has no figures on GLUE: on its book reviews accuracy falls from 86.88 to 86.64 at 4.2 times "
            "fewer FLOPs (threshold 0.5). Student and teacher logits come from one pass with dropout, as in the "
            "released code. The speed is measured on rows that the students were not trained on. The encoder was "
            "fine-tuned on them, however, and is more certain of them than of new rows, on which the speed stays below "
            "the target."
        ),
    )
    ramp = "student"
    rule_kind = "normalized-entropy"
    inert_when_tiny = {
        "threshold": "After three steps every ramp is so uncertain that any threshold is refused."
    }

    @options
    class Options:
        """`threshold` on the entropy as a share of its maximum, or the `speed` that it is chosen for: the baseline's
        FLOPs divided by the mean FLOPs of a row. Without either, a speed of 2.
        """

        threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
        speed: Speed | None = None

        def __post_init__(self) -> None:
            """Raise ValueError if both are given."""
            if self.threshold is not None and self.speed is not None:
                raise ValueError("threshold and speed exclude each other; give one")

    suite = {"speed": (2.0, 1.5, 3.0)}

    def ramp_loss(self, kind: Kind, exits: Mapping[int, Tensor], logits: Tensor, targets: Tensor) -> Tensor:
        """Return the sum over students of their KL divergence from the head's logits (b, classes), the mean over rows
        (section 3.2.2, eq. 8 and 9).
        """
        return torch.stack([losses.divergence(each, logits.detach()) for each in exits.values()]).sum()

    def candidates(self, exits: Mapping[int, Tensor]) -> Sequence[float]:
        """Return thresholds between the normalised entropies, the lowest first; `exits`: logits (b, classes)."""
        entropies = torch.stack([encoder_exits.entropy(logits) for logits in exits.values()])  # (exits, b)
        classes = next(iter(exits.values())).shape[1]
        return entropy_candidates(entropies / math.log(max(2, classes)))
