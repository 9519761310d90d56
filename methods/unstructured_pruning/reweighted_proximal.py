"""reweighted-proximal: a soft threshold after every step, the higher the smaller a weight is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from harness import Card, Claim, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports

with lazy_imports():
    import torch

    from harness.compression.pruning import masks


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Context
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder

EPSILON = 1e-4
"""Added to |w| before its reciprocal is taken: small beside the weights that go (some 0.01)."""


def soft_threshold(weight: Tensor, threshold: Tensor) -> Tensor:
    """sign(a) · max(|a| − t, 0): the proximal operator of t · |w| (Parikh & Boyd 2014, section 6.5.2)."""
    return weight.sign() * (weight.abs() - threshold).clamp_min(0)


def penalty(cut: float, steps: int) -> float:
    """The λ at which the weights up to the size `cut` are zero after `steps` proximal steps if the loss leaves them
    alone: λ = cut (cut + ε) / (2 · steps).

    |w| then loses λ / (|w| + ε) a step, so (|w| + ε)² loses about 2λ: sizes fall slowly at first, the smallest reach
    zero first, and the largest hardly change.
    """
    return cut * (cut + EPSILON) / (2 * steps)


class ReweightedProximal(Method):
    """RPP (Guo et al. 2019) while fine-tuning: the optimizer follows the task loss alone; after each of its steps,
    w = sign(a) · max(|a| − λ α, 0) with α = 1 / (|w_t| + ε), w_t being the weight at the last re-weighting.
    """

    card = Card(
        id="reweighted-proximal",
        title="Reweighted proximal pruning",
        family="unstructured-pruning",
        paper=Paper(
            title="Reweighted Proximal Pruning for Large-Scale Language Representation",
            authors="Guo, Liu, Mungall, Lin, Wang",
            year=2019,
            venue="arXiv",
            link="https://arxiv.org/abs/1909.12486",
        ),
        scope="task-agnostic",
        fidelity="variant",
        deviations=(
            "RPP-FT: the paper finds one mask in pre-training and keeps it in fine-tuning; here the proximal steps run "
            "while the fine-tuned baseline is fine-tuned further, so the mask is the task's own. The paper tunes λ by "
            "hand and takes the sparsity that comes of it. Here λ is a share (`strength`) of what would bring the "
            "wanted part of each matrix to zero by `end` if the loss left it alone, so that zeros grow in number from "
            "step to step; what is not zero by then goes by size, and the rest trains on under the mask. Some hundred "
            "steps instead of the paper's pre-training."
        ),
        touches=("attention_in", "attention_out", "ffn"),
        reduces=("disk",),
        claims=(
            Claim(
                "squad",
                "unknown",
                "f1",
                88.5,
                "Ganesh et al. 2021, Table 1, 41.2 % pruned",
                False,
                {"sparsity": 0.412},
            ),
        ),
        notes=(
            "Dense kernels execute the zeros, so it claims neither FLOPs nor latency. On MiniLM 41 % pruned lose 8.7 "
            "points of CoLA and 1.0 of MRPC; as many epochs more of the whole encoder lose 3.7 and 2.0, and a score of "
            "CoLA is uncertain by 6.5."
        ),
    )
    decides = frozenset({"which weights are zero"})

    @options
    class Options:
        """The final `sparsity`, of each matrix or over all (`scope`); `strength` of the penalty, 1 where it alone would
        reach that sparsity; steps between two re-weightings (`interval`); the training progress at which the proximal
        steps `end` and the mask is fixed.
        """

        sparsity: Annotated[float, Field(gt=0, lt=1)] = 0.5
        scope: Literal["matrix", "global"] = "matrix"
        strength: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5
        interval: Annotated[int, Field(ge=1)] = 10
        end: Annotated[float, Field(gt=0, le=1)] = 0.6

    suite = {"sparsity": (0.6, 0.412, 0.8), "scope": ("matrix", "global"), "strength": (0.5, 1.0)}

    @property
    def fully_compressed_at(self) -> float:
        """The end of the proximal steps."""
        return float(self.options.end)

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """There must be a matrix."""
        if not any(layer.heads or layer.ffn_size for layer in config.layers):
            raise SkylineError("the layers have no matrix to prune; leave it out", Code.WRONG_SHAPE)
        return config

    def prepare(self, student: Encoder, context: Context) -> None:
        """Take the first weights α, and the size below which the wanted part of each matrix (or of all) lies."""
        self.masks = masks.Masks(student, masks.prunable(student, embeddings=False))
        self._steps, self._masked, self._zeros = 0, False, 0.0
        sizes, o = self.masks.magnitudes(), self.options
        if o.scope == "global":
            together = torch.cat([size.flatten() for size in sizes.values()])
            self._cuts = dict.fromkeys(sizes, _smallest(together, o.sparsity))
        else:
            self._cuts = {name: _smallest(size.flatten(), o.sparsity) for name, size in sizes.items()}
        self._reweigh()

    def step(self, student: Encoder, progress: float) -> None:
        """A proximal step until `end`, then the mask."""
        o = self.options
        if not self._masked:
            if self._steps == 0:
                steps = max(1, math.ceil(o.end * round(1 / progress)))
                self._penalties = {name: o.strength * penalty(cut, steps) for name, cut in self._cuts.items()}
            self._shrink()
            self._steps += 1
            if progress >= o.end:
                self._mask()
            elif self._steps % o.interval == 0:
                self._reweigh()
        if self._masked:
            self.masks.apply()

    def _reweigh(self) -> None:
        """α = 1 / (|w| + ε) of every weight as it is now."""
        self._alphas = {name: 1 / (size + EPSILON) for name, size in self.masks.magnitudes().items()}

    def _shrink(self) -> None:
        with torch.no_grad():
            for name, weight in self.masks.weights.items():
                alpha = self._alphas[name] = self._alphas[name].to(weight.device)
                weight.copy_(soft_threshold(weight, self._penalties[name] * alpha))

    def _mask(self) -> None:
        """Drop the smallest weights for good, those that are zero first."""
        if self._masked:
            return
        sizes = self.masks.magnitudes()
        total = sum(size.numel() for size in sizes.values())
        self._zeros = 1 - sum(int(size.count_nonzero()) for size in sizes.values()) / total
        self.masks.replace(masks.keep_largest(sizes, self.options.sparsity, self.options.scope))
        self._masked = True
        self._alphas.clear()

    def finish(self, student: Encoder, context: Context) -> None:
        """Mask, in one shot where nothing was trained, and store the rest sparsely."""
        self._mask()
        self.masks.store(student)
        context.figures["zeros_before_mask"] = self._zeros


def _smallest(sizes: Tensor, share: float) -> float:
    """The largest of the `share` smallest sizes; 0 where that is none."""
    count = round(share * sizes.numel())
    return float(sizes.kthvalue(count).values) if count else 0.0
