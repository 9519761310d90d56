"""bert-emd: every layer of the student learns from every layer of the teacher, as far as moving knowledge is cheap."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Annotated

import numpy as np
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
    import ot
    import torch

    from harness.compression.distillation import features as distillation_features
    from harness.compression.distillation import losses


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor

    from harness.compression.comparable import Baseline
    from harness.compression.context import Context, Step
    from harness.compression.distillation.features import Features
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder

LEAST = 0.01
"""No layer's weight falls below this share of an equal one: a layer of weight 0 could never rise again."""


def layer_costs(student: Sequence[Tensor], teacher: Sequence[Tensor], chosen: Tensor) -> Tensor:
    """D_ij, the mean squared error of student layer i and teacher layer j (Li et al. 2020, eq. 3 and 6): (k, M).

    All tensors have one shape; `chosen`, 0 or 1, stretches to it and says what counts. From |a − b|² = |a|² + |b|² −
    2 a·b, so that all pairs cost about one product of matrices.
    """
    weight = chosen.float()
    ours, theirs = (torch.stack([(x.float() * weight).flatten() for x in xs]) for xs in (student, teacher))
    count = weight.expand_as(student[0]).sum().clamp_min(1)
    squared = ours.square().sum(1)[:, None] + theirs.square().sum(1) - 2 * ours @ theirs.T
    return squared.clamp_min(0) / count


def flows(costs: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """How much each of the student's layers takes from each of the teacher's, (k, M), where their weights `ours` (k,)
    and `theirs` (M,) are moved at the least cost (Li et al. 2020, eq. 1-2).
    """
    # What POT imports draws from Python's own generator; that is not what a run's randomness may depend on.
    state = random.getstate()

    random.setstate(state)
    found: np.ndarray = ot.emd(ours / ours.sum(), theirs / theirs.sum(), costs)
    return found


def cost_attention(moved: np.ndarray, weights: np.ndarray, temperature: float) -> np.ndarray:
    """New weights of layers: softmax(Σ c / c_i / T) of what a unit of each cost, c_i = Σ_j f_ij D_ij / w_i; the cheap
    ones gain (Li et al. 2020, eq. 9-10). `moved` (layers, …) are the products f · D.
    """
    unit = moved.sum(axis=1) / weights
    unit = np.maximum(unit, 1e-9 * max(unit.sum(), 1e-30))
    exponents = unit.sum() / unit / temperature
    shares = np.exp(exponents - exponents.max())
    shares = np.maximum(shares / shares.sum(), LEAST / len(shares))
    return shares / shares.sum()


class BertEMD(Shallower):
    """L = β · (EMD of attention + EMD of states + MSE of embeddings) + α · soft cross-entropy + (1 − α) · task loss;
    layers' weights follow what it cost to move them (Li et al. 2020, section 3).
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
            "teacher's width. After the average of attention's and states' weights the released code takes another "
            "softmax, which makes them nearly equal; here the average stands. No weight falls below a hundredth of an "
            "equal share. Padding takes no part."
        ),
        touches=("attention_in", "attention", "attention_out", "ffn"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        claims=(Claim("mnli", "test", "accuracy", 84.7, "6 layers, remembered", False, {"layers": 6}),),
        notes=(
            "Attention is compared by its scores before the softmax. The weights move with each batch, so batches' "
            "order matters. On MRPC three of MiniLM's layers do not suffice, whatever is distilled: see kd-logits."
        ),
    )
    replaces_task_loss = True
    needs = frozenset({"teacher_logits", "hidden_states"})

    @options
    class Options(ShallowerOptions):
        """`layers` of the student; `choose`, which of the teacher's it starts from; the weights `beta` of what is
        compared inside and `alpha` of the soft targets; `temperature` of the layers' weights; `augment`: texts made of
        each example.
        """

        beta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
        alpha: Annotated[float, Field(ge=0, le=1)] = 0.8
        temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    suite = {"layers": (2, 1, 3), "choose": ("spread", "last")}

    def check_against(self, config: EncoderConfig, baseline: Baseline) -> None:
        """Any layer must be comparable with any of the teacher's."""
        super().check_against(config, baseline)
        refuse_other_states(config, baseline.config)
        kept = choose_layers(len(config.layers), self.options.layers, self.options.choose)
        for other, theirs in enumerate(baseline.config.layers):
            for place, index in enumerate(kept):
                refuse_other_maps(config.layers[index], theirs, place, other)

    def prepare(self, student: Encoder, context: Context) -> None:
        """Layers weigh alike at first."""
        models = (student, context.teacher)
        self.read = tuple(
            distillation_features.Features(model, matrices=("query", "key")) for model in models
        )
        self.heads = student.config.layers[0].heads
        self.weights = tuple(np.full(len(model.layers), 1 / len(model.layers)) for model in models)

    def loss(self, step: Step) -> Tensor:
        """The weighted sum; it replaces the task loss."""
        o, mask = self.options, step.batch.attention_mask
        total = o.alpha * losses.logits_loss(step, kind="soft-ce") + (1 - o.alpha) * step.task_loss
        if o.beta == 0:
            return total
        ours, theirs = step.output.hidden_states, step.teacher_pass.hidden_states
        assert ours is not None
        assert theirs is not None
        maps = [self._scores(features) for features in self.read]
        pairs = mask[:, None, :, None] * mask[:, None, None, :]
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
        """Σ f_ij D_ij of each kind of cost, summed; the layers' weights become the mean of what both kinds ask for."""
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
        """Read no more."""
        for features in self.read:
            features.close()
