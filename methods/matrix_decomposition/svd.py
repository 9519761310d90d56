"""svd: every linear map of the layers becomes the product of two thinner ones, then learns the features of the
whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Claim, Method, Paper, options

if TYPE_CHECKING:
    from torch import Tensor

    from harness.encoder import Encoder
    from harness.training import Context, Step


class SVD(Method):
    """Truncated SVD of the fine-tuned matrices, then fine-tuning with feature distillation (Noach & Goldberg
    2020).

    L = task loss + λ · [mean over layers of MSE(hidden states) + T² · KL(teacher ‖ student)].
    """

    card = Card(
        id="svd",
        title="SVD of weight matrices",
        family="matrix-decomposition",
        paper=Paper(
            title="Compressing Pre-trained Language Models by Matrix Decomposition",
            authors="Noach, Goldberg",
            year=2020,
            venue="AACL-IJCNLP",
            link="https://aclanthology.org/2020.aacl-main.88/",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "Features distilled are the layers' hidden states and the logits; the paper also distils the features "
            "inside a layer (queries, keys, values, attention scores). The rank of the survey's row is near 250, "
            "245 is remembered."
        ),
        touches=("attention_in", "attention_out", "ffn"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        claims=(
            Claim("mnli", "unknown", "accuracy", 84.8, "Ganesh et al. 2021, Table 1", False, {"rank": 245}),
            Claim("qqp", "unknown", "accuracy", 89.7, "Ganesh et al. 2021, Table 1", False, {"rank": 245}),
            Claim("sst2", "unknown", "accuracy", 92.4, "Ganesh et al. 2021, Table 1", False, {"rank": 245}),
        ),
        notes="Two thin products take less arithmetic than one, but more calls: the speed is below the FLOPs'.",
    )
    needs = frozenset({"teacher_logits", "hidden_states"})
    rewrites = frozenset({"the student"})

    @options
    class Options:
        """`rank` of every matrix; `weight` λ of the distillation; `temperature` T."""

        rank: Annotated[int, Field(ge=1)] = 128
        weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
        temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    suite = {"rank": (8, 16, 24)}

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """The factorized copy."""
        from harness.config import MATRICES
        from harness.surgery import factorize

        return factorize(teacher, dict.fromkeys(MATRICES, self.options.rank))

    def loss(self, step: Step) -> Tensor | None:
        """The distillation's share; the task loss stands beside it."""
        import torch
        import torch.nn.functional as F

        if self.options.weight == 0:
            return None
        ours, theirs = step.output.hidden_states, step.teacher_output.hidden_states
        assert ours is not None
        assert theirs is not None
        mask = step.batch.attention_mask.bool()
        pairs = zip(ours[1:], theirs[1:], strict=True)
        features = torch.stack([F.mse_loss(a[mask].float(), b[mask].float()) for a, b in pairs]).mean()
        return self.options.weight * (features + self._outputs(step))

    def _outputs(self, step: Step) -> Tensor:
        import torch.nn.functional as F

        ours, theirs = step.output.logits.float(), step.teacher_logits.float()
        if step.kind != "classification":
            theirs = theirs[:, : ours.shape[1]]
            real = step.batch.attention_mask.bool() if step.kind == "span" else ...
            return F.mse_loss(ours[real], theirs[real])
        temperature = self.options.temperature
        return temperature**2 * F.kl_div(
            F.log_softmax(ours / temperature, dim=-1),
            F.log_softmax(theirs / temperature, dim=-1),
            reduction="batchmean",
            log_target=True,
        )
