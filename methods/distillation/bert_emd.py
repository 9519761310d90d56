"""bert-emd: every layer of the student learns from every layer of the teacher, weighted by optimal transport."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Claim, Paper, options
from harness.common.lazy import lazy_imports
from harness.compression.distillation.layer_maps import (
    Shallower,
    ShallowerOptions,
    choose_layers,
    refuse_other_maps,
    refuse_other_states,
)

with lazy_imports():
    import numpy as np
    import ot
    import torch

    from harness.compression.distillation import features as distillation_features
    from harness.compression.distillation import losses


if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from harness.compression.comparable import Baseline
    from harness.compression.context import Context, Step
    from harness.compression.distillation.features import Features
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder

LEAST = 0.01
"""Smallest weight of a layer, as a share of an equal weight. A layer of weight 0 could never rise again."""


def layer_costs(student: Sequence[Tensor], teacher: Sequence[Tensor], chosen: Tensor) -> Tensor:
    """Return D_ij (k, M), the mean squared error of student layer i and teacher layer j (Li et al. 2020, eq. 3 and 6).

    All tensors have the same shape. `chosen` (0 or 1) broadcasts to it and selects the entries that count. Computed as
    |a − b|² = |a|² + |b|² − 2 a·b, so that all pairs cost about one matrix product.
    """
    weight = chosen.float()
    ours, theirs = (torch.stack([(x.float() * weight).flatten() for x in xs]) for xs in (student, teacher))
    count = weight.expand_as(student[0]).sum().clamp_min(1)
    squared = ours.square().sum(1)[:, None] + theirs.square().sum(1) - 2 * ours @ theirs.T  # (k, M)
    return squared.clamp_min(0) / count


def flows(costs: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return the optimal transport (k, M) of the layer weights `ours` (k,) to `theirs` (M,) at `costs` (k, M) (Li et
    al. 2020, eq. 1-2).
    """
    # The first use imports POT, which draws from Python's generator. A run's randomness must not depend on that.
    state = random.getstate()
    found: np.ndarray = ot.emd(ours / ours.sum(), theirs / theirs.sum(), costs)
    random.setstate(state)
    return found


def cost_attention(moved: np.ndarray, weights: np.ndarray, temperature: float) -> np.ndarray:
    """Return new layer weights softmax(Σ c / c_i / T), with c_i = Σ_j f_ij D_ij / w_i the cost of a unit of layer i (Li
    et al. 2020, eq. 9-10). Cheap layers gain weight. `moved` (layers, other layers) are the products f · D.
    """
    unit = moved.sum(axis=1) / weights
    unit = np.maximum(unit, 1e-9 * max(unit.sum(), 1e-30))
    exponents = unit.sum() / unit / temperature
    shares = np.exp(exponents - exponents.max())
    shares = np.maximum(shares / shares.sum(), LEAST / len(shares))
    return shares / shares.sum()


class BertEMD(Shallower):
    """BERT-EMD (Li et al. 2020, section 3): L = β · (EMD of attention + EMD of states + MSE of embeddings) + α · soft
    cross-entropy + (1 − α) · task loss. The layers' weights follow their transport costs.
    """

    card = Card(
        id="bert-emd",
        title="BERT-EMD",
        family="distillation",
        paper=Paper(
            title="BERT-EMD: Many-to-Many Layer Mapping for BERT Compression with Earth Mover's Distance",
            authors="Li, Liu, Zhao, Xu, Yang, Jin",
            year=2020,
            venue="EMNLP",
            link="https://aclanthology.org/2020.emnlp-main.242/",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "The student begins with layers of the fine-tuned teacher instead of a pre-trained TinyBERT, and has the "
            "teacher's width. The released code applies another softmax to the average of attention's and states' "
            "weights, which makes them nearly equal; here the average is used. No weight falls below a hundredth of an "
            "equal share. Padding is left out."
        ),
        touches=("attention_in", "attention", "attention_out", "ffn"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        claims=(Claim("mnli", "test", "accuracy", 84.7, "6 layers, remembered", False, {"layers": 6}),),
        notes=(
            "Attention is compared by its scores before the softmax. The weights change with each batch, so the order "
            "of batches matters."
        ),
    )
    replaces_task_loss = True
    needs = frozenset({"teacher_logits", "hidden_states"})

    @options
    class Options(ShallowerOptions):
        """`layers` of the student; `choose`: the teacher's layers that it starts from; `beta`: weight of the attention,
        state and embedding losses; `alpha`: weight of the soft targets; `temperature` of the layer weights; `augment`:
        texts made of each example.
        """

        beta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
        alpha: Annotated[float, Field(ge=0, le=1)] = 0.8
        temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    suite = {"layers": (2, 1, 3), "choose": ("spread", "last")}

    def check_against(self, config: EncoderConfig, baseline: Baseline) -> None:
        """Raise SkylineError if a layer cannot be compared with every layer of the teacher."""
        super().check_against(config, baseline)
        refuse_other_states(config, baseline.config)
        kept = choose_layers(len(config.layers), self.options.layers, self.options.choose)
        for other, theirs in enumerate(baseline.config.layers):
            for place, index in enumerate(kept):
                refuse_other_maps(config.layers[index], theirs, place, other)

    def prepare(self, student: Encoder, context: Context) -> None:
        """Attach hooks that read queries and keys, and give all layers equal weights."""
        models = (student, context.teacher)
        self.read = tuple(
            distillation_features.Features(model, matrices=("query", "key")) for model in models
        )
        self.heads = student.config.layers[0].heads
        self.weights = tuple(np.full(len(model.layers), 1 / len(model.layers)) for model in models)

    def loss(self, step: Step) -> Tensor:
        """Return the weighted sum (a scalar), which replaces the task loss."""
        o, mask = self.options, step.batch.attention_mask
        total = o.alpha * losses.logits_loss(step, kind="soft-ce") + (1 - o.alpha) * step.task_loss
        if o.beta == 0:
            return total
        ours, theirs = step.output.hidden_states, step.teacher_pass.hidden_states
        assert ours is not None
        assert theirs is not None
        maps = [self._scores(features) for features in self.read]
        pairs = mask[:, None, :, None] * mask[:, None, None, :]  # (b, 1, n, n)
        costs = [layer_costs(*maps, pairs), layer_costs(ours[1:], theirs[1:], mask[..., None])]
        moved = self._transported(costs)
        return total + o.beta * (moved + losses.hidden_losses(ours[:1], theirs[:1], mask).sum())

    def _scores(self, features: Features) -> list[Tensor]:
        read = features.take()
        layers = sorted({index for index, _ in read})
        return [
            distillation_features.relation_scores(read[index, "query"], read[index, "key"], self.heads)
            for index in layers
        ]

    def _transported(self, costs: Sequence[Tensor]) -> Tensor:
        """Return Σ f_ij D_ij over both kinds of costs (k, M), and set the layer weights to the mean of both kinds'."""
        totals, asked = [], []
        for cost in costs:
            known = cost.detach().double().cpu().numpy()
            flow = flows(known, *self.weights)
            totals.append((cost * torch.from_numpy(flow).to(cost)).sum())
            moved = flow * known
            asked.append(
                [
                    cost_attention(side, weights, self.options.temperature)
                    for side, weights in zip((moved, moved.T), self.weights, strict=True)
                ]
            )
        self.weights = tuple((first + second) / 2 for first, second in zip(*asked, strict=True))
        return torch.stack(totals).sum()

    def finish(self, student: Encoder, context: Context) -> None:
        """Remove the hooks."""
        for features in self.read:
            features.close()
