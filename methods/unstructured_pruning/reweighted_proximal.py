"""reweighted-proximal: a soft threshold after every step, higher for smaller weights."""

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
"""ε, added to |w| before the reciprocal. Small compared with the weights that are pruned (about 0.01)."""


def soft_threshold(weight: Tensor, threshold: Tensor) -> Tensor:
    """Return sign(a) · max(|a| − t, 0), the proximal operator of t · |w| (Parikh & Boyd 2014, section 6.5.2)."""
    return weight.sign() * (weight.abs() - threshold).clamp_min(0)


def penalty(cut: float, steps: int) -> float:
    """Return λ = cut (cut + ε) / (2 · steps): weights up to the size `cut` become zero in `steps` proximal steps, if
    the loss does not change them.

    |w| loses λ / (|w| + ε) in each step, so (|w| + ε)² loses about 2λ. Sizes fall slowly at first, the smallest
    weights reach zero first, and the largest hardly change.
    """
    return cut * (cut + EPSILON) / (2 * steps)


class ReweightedProximal(Method):
    """RPP (Guo et al. 2019) during fine-tuning: the optimizer minimises the task loss alone. After each of its steps,
    which leaves a, w = sign(a) · max(|a| − λ α, 0) with α = 1 / (|w_t| + ε). w_t is the weight at the last
    re-weighting.
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
            "RPP-FT: the paper finds one mask in pre-training and keeps it in fine-tuning. Here the proximal steps run "
            "while the fine-tuned baseline is fine-tuned further, so each task has its own mask. The paper tunes λ by "
            "hand and takes the resulting sparsity. Here λ is a share (`strength`) of the value that would bring the "
            "wanted part of each matrix to zero by `end` if the loss did not change it, so the number of zeros grows "
            "step by step. At `end` the smallest remaining weights are pruned to the wanted sparsity, and the rest "
            "trains on under the mask. It takes some hundred steps instead of the paper's pre-training."
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
        notes="Dense kernels execute the zeros, so it claims neither FLOPs nor latency.",
    )
    decides = frozenset({"which weights are zero"})

    @options
    class Options:
        """`sparsity` at the end; `scope`: of each matrix, or over all; `strength` of the penalty (1: the penalty alone
        would reach the sparsity); `interval`: steps between two re-weightings; `end`: training progress at which the
        proximal steps stop and the mask is fixed.
        """

        sparsity: Annotated[float, Field(gt=0, lt=1)] = 0.5
        scope: Literal["matrix", "global"] = "matrix"
        strength: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5
        interval: Annotated[int, Field(ge=1)] = 10
        end: Annotated[float, Field(gt=0, le=1)] = 0.6

    suite = {"sparsity": (0.6, 0.412, 0.8), "scope": ("matrix", "global"), "strength": (0.5, 1.0)}

    @property
    def fully_compressed_at(self) -> float:
        """Training progress at which the proximal steps stop."""
        return float(self.options.end)

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape unchanged. Raises SkylineError (WRONG_SHAPE) if the layers have no matrix."""
        if not any(layer.heads or layer.ffn_size for layer in config.layers):
            raise SkylineError("the layers have no matrix to prune; leave it out", Code.WRONG_SHAPE)
        return config

    def prepare(self, student: Encoder, context: Context) -> None:
        """Compute the first α, and the size below which the wanted share of each matrix (or of all weights) lies."""
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
        """Take a proximal step until `end`, then apply the mask."""
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
        """Set α = 1 / (|w| + ε) from the current weights."""
        self._alphas = {name: 1 / (size + EPSILON) for name, size in self.masks.magnitudes().items()}

    def _shrink(self) -> None:
        with torch.no_grad():
            for name, weight in self.masks.weights.items():
                alpha = self._alphas[name] = self._alphas[name].to(weight.device)
                weight.copy_(soft_threshold(weight, self._penalties[name] * alpha))

    def _mask(self) -> None:
        """Fix the mask: drop the smallest weights, zeros first."""
        if self._masked:
            return
        sizes = self.masks.magnitudes()
        total = sum(size.numel() for size in sizes.values())
        self._zeros = 1 - sum(int(size.count_nonzero()) for size in sizes.values()) / total
        self.masks.replace(masks.keep_largest(sizes, self.options.sparsity, self.options.scope))
        self._masked = True
        self._alphas.clear()

    def finish(self, student: Encoder, context: Context) -> None:
        """Mask at once if nothing was trained, and store the remaining weights with a bitmask."""
        self._mask()
        self.masks.store(student)
        context.figures["zeros_before_mask"] = self._zeros


def _smallest(sizes: Tensor, share: float) -> float:
    """Return the largest of the `share` smallest sizes (n,), or 0 if the share is empty."""
    count = round(share * sizes.numel())
    return float(sizes.kthvalue(count).values) if count else 0.0
