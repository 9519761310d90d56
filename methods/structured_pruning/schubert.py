"""schubert: learns factors on hidden units, heads and FFN columns with a penalty, and prunes the smallest."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, cast

from pydantic import Field

from harness import Card, Claim, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.config import MATRICES
from harness.models.parameter_counts import encoder_parameters, head_parameters
from harness.models.shape_checks import refuse_factorized, refuse_shared, refuse_wide_ramps

with lazy_imports():
    import torch

    from harness.compression import training
    from harness.models import model as model_module
    from harness.models import surgery
    from harness.models.encoder import layers as encoder_layers
    from methods.structured_pruning import _unit_scales


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from harness.compression.context import Context, Step
    from harness.models.batch import Batch
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder
    from methods.structured_pruning._unit_scales import UnitFactors

Dimensions = Literal["all", "hidden"]
FACTOR_RATE = 1e-2
"""Peak learning rate of the factors. They must be able to fall from 1 to 0 in a few hundred steps."""


BEST: Mapping[str, str | float | bool] = {"dimensions": "hidden", "keep": 0.39}


class Kept(NamedTuple):
    """Indices of the units that stay: hidden units, and each layer's heads and FFN columns."""

    hidden: list[int]
    heads: list[list[int]]
    columns: list[list[int]]


def with_sizes(
    config: EncoderConfig, hidden: int, heads: Sequence[int], columns: Sequence[int]
) -> EncoderConfig:
    """Return `config` with this hidden size and these numbers of heads and FFN columns for each layer."""
    layers = tuple(
        layer.model_copy(update={"heads": a, "ffn_size": f})
        for layer, a, f in zip(config.layers, heads, columns, strict=True)
    )
    return config.model_copy(update={"hidden_size": hidden, "layers": layers})


def unit_costs(config: EncoderConfig) -> tuple[float, list[float], list[float]]:
    """Return β of a hidden unit, of each layer's heads, and of each layer's FFN columns.

    β is the number of parameters of one unit divided by the largest head's. At BERT-base these are the published 0.73,
    1 and 0.0078.
    """
    hidden = encoder_parameters(config) - encoder_parameters(
        config.model_copy(update={"hidden_size": config.hidden_size - 1})
    )
    heads = [head_parameters(config, layer) for layer in config.layers]
    unit = max(heads)
    return hidden / unit, [n / unit for n in heads], [(2 * config.hidden_size + 1) / unit for _ in heads]


def l1_penalty(factors: UnitFactors, costs: tuple[float, list[float], list[float]]) -> Tensor:
    """Return Σ_d β_d ‖α_d‖₁ over the factors that are learned (a scalar)."""
    hidden, heads, columns = costs
    terms = [hidden * factors.hidden.abs().sum()]
    for cost, factor in zip((*heads, *columns), (*factors.heads, *factors.columns), strict=True):
        if factor.requires_grad:
            terms.append(cost * factor.abs().sum())
    return torch.stack(terms).sum()


def largest_units(factors: UnitFactors, config: EncoderConfig, budget: float, dimensions: Dimensions) -> Kept:
    """Return the units that stay if the units of the smallest |α|, of all kinds together, are pruned until the encoder
    has at most `budget` parameters.

    The hidden unit and the head of the largest |α| always stay. Of units with equal |α| the last are pruned first, in
    the same share from each dimension.
    """
    groups: list[Tensor] = [factors.hidden, *factors.heads, *factors.columns]
    magnitudes = [group.detach().abs().double().tolist() for group in groups]
    count = len(config.layers)
    # Without a head the output would be the same for all inputs.
    fixed = {_largest(magnitudes, range(1)), _largest(magnitudes, range(1, count + 1))}
    order = sorted(
        (size, 1 - (unit + 1) / len(sizes), group, unit)
        for group, sizes in enumerate(magnitudes)
        if dimensions == "all" or group == 0
        for unit, size in enumerate(sizes)
        if (group, unit) not in fixed
    )

    def left(gone: int) -> list[int]:
        sizes = [len(group) for group in magnitudes]
        for _, _, group, _ in order[:gone]:
            sizes[group] -= 1
        return sizes

    def parameters(gone: int) -> int:
        hidden, *rest = left(gone)
        return encoder_parameters(with_sizes(config, hidden, rest[:count], rest[count:]))

    few, many = 0, len(order)
    while few < many:
        middle = (few + many) // 2
        if parameters(middle) <= budget:
            many = middle
        else:
            few = middle + 1
    dropped = {(group, unit) for _, _, group, unit in order[:few]}
    kept = [
        [unit for unit in range(len(sizes)) if (group, unit) not in dropped]
        for group, sizes in enumerate(magnitudes)
    ]
    return Kept(kept[0], kept[1 : count + 1], kept[count + 1 :])


def _largest(magnitudes: list[list[float]], groups: Iterable[int]) -> tuple[int, int] | None:
    """Return the first (group, unit) of the largest magnitude among `groups`, or None if they have no units."""
    units = [(size, -group, -unit) for group in groups for unit, size in enumerate(magnitudes[group])]
    if not units:
        return None
    _, group, unit = max(units)
    return -group, -unit


def correct_norms(model: Encoder, kept: Sequence[int], batches: Iterable[Batch]) -> None:
    """Correct gain and bias of each normalisation for a mean μ′ and deviation σ′ over the hidden units `kept` alone.

    (u − μ)/σ = g (u − μ′)/σ′ + s with g = σ′/σ and s = (μ′ − μ)/σ. The correction takes the means of g and s over the
    tokens of `batches`, so the output stays the same on average.
    """
    norms = [module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)]
    sums = {id(norm): torch.zeros(2, dtype=torch.double) for norm in norms}
    chosen = torch.tensor(list(kept))
    tokens = 0

    def read(norm: torch.nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(norm, torch.nn.LayerNorm)
        whole = inputs[0][mask].double()  # (b, n, H) -> (tokens, H)
        part = whole[:, chosen.to(whole.device)]  # (tokens, kept)
        old, new = ((x.var(1, correction=0) + norm.eps).sqrt() for x in (whole, part))
        gain, shift = new / old, (part.mean(1) - whole.mean(1)) / old
        sums[id(norm)] += torch.stack([gain.sum(), shift.sum()]).cpu()

    hooks = [norm.register_forward_pre_hook(read) for norm in norms]
    try:
        with torch.no_grad(), model_module.evaluating(model):
            for batch in batches:
                mask = batch.attention_mask.bool()
                model(batch)
                tokens += int(mask.sum())
            for norm in norms:
                gain, shift = (sums[id(norm)] / tokens).tolist()
                norm.bias.add_(norm.weight, alpha=shift)
                norm.weight.mul_(gain)
    finally:
        for hook in hooks:
            hook.remove()


class SchuBERT(Method):
    """schuBERT (Khetan & Karnin 2020), in rounds: with the encoder frozen, learn factors on hidden units, heads and FFN
    columns with an L1 penalty that weighs a unit by its parameters; prune the smallest; fine-tune the rest.
    """

    card = Card(
        id="schubert",
        title="schuBERT (fine-tuning form)",
        family="structured-pruning",
        paper=Paper(
            title="schuBERT: Optimizing Elements of BERT",
            authors="Khetan, Karnin",
            year=2020,
            venue="ACL",
            link="https://aclanthology.org/2020.acl-main.250/",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "The paper learns factors and weights on BERT's pre-training losses and pre-trains again after each "
            "round. Here both are learned on the task, from the fine-tuned encoder, with a budget of minutes, so "
            "expect far worse scores than the paper's. Key and value sizes are not pruned: the paper finds that they "
            "do not change. The penalty's weights are computed from the encoder's shape, which gives the published "
            "ones at BERT-base. The factors stay in the weights of the units that are kept. A normalisation over fewer "
            "hidden units has another mean and deviation; its gain and bias are corrected by means over training data, "
            "which is ours. The pooler's outputs are cut with the hidden units."
        ),
        touches=("embedding", "attention_in", "attention", "attention_out", "ffn", "head"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        claims=(
            Claim(
                "mnli", "unknown", "accuracy", 83.4, "Ganesh et al. 2021, Table 1, 43 million", False, BEST
            ),
            Claim(
                "sst2", "unknown", "accuracy", 90.9, "Ganesh et al. 2021, Table 1, 43 million", False, BEST
            ),
        ),
        notes=(
            "The paper's best encoder of 43 million parameters prunes the hidden size alone (dimensions=hidden). The "
            "paper's tables could not be read; the figures are the survey's."
        ),
    )
    decides = frozenset({"the student"})

    @options
    class Options:
        """`keep`: share of all parameters that stays, including embeddings and head; `dimensions`: all (hidden units,
        heads, FFN columns) or only hidden units; `rounds`: each learns factors, prunes the same number of parameters,
        and fine-tunes (after the last round the stage's training does that); `factor_share`: share of the epochs in
        which all rounds together learn factors; `rounds_share`: share in which all rounds but the last fine-tune;
        `penalty`: weight of the factors' L1 norms in the loss.
        """

        keep: Annotated[float, Field(gt=0, lt=1)] = 0.7
        dimensions: Dimensions = "all"
        rounds: Annotated[int, Field(ge=1, le=100)] = 3
        factor_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
        rounds_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
        penalty: Annotated[float, Field(ge=0, le=1e3)] = 1e-3

    suite = {
        "keep": (0.6, 0.9),
        "dimensions": ("all", "hidden"),
        "rounds": (2, 1),
        "factor_share": (0.25,),
        "rounds_share": (0.25,),
    }

    @property
    def own_share(self) -> float:
        """The share of all rounds' factors, and of fine-tuning after every round but the last."""
        o = self.options
        return float(o.factor_share + (o.rounds_share if o.rounds > 1 else 0.0))

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the pruned shape for dimensions=hidden, else the shape unchanged: the factors decide later.

        Raises SkylineError: OUT_OF_RANGE if `keep` cannot be reached; WRONG_SHAPE if layers share weights, have wide
        exit ramps, or (dimensions=all) are factorized.
        """
        refuse_shared(config, "units")
        refuse_wide_ramps(config)
        o, zeros = self.options, [0] * len(config.layers)
        if o.dimensions == "all":
            refuse_factorized(config, MATRICES, "heads or FFN columns")
        budget = o.keep * encoder_parameters(config)
        sizes = [layer.heads for layer in config.layers], [layer.ffn_size for layer in config.layers]
        attending = [layer.heads > 0 for layer in config.layers]
        one = [int(attends and not any(attending[:i])) for i, attends in enumerate(attending)]
        smallest = with_sizes(config, 1, *((one, zeros) if o.dimensions == "all" else sizes))
        if encoder_parameters(smallest) > budget:
            raise SkylineError(
                f"keep={o.keep} leaves {int(budget):,} parameters, but with one hidden unit there are still "
                f"{encoder_parameters(smallest):,}; raise keep",
                Code.OUT_OF_RANGE,
            )
        if o.dimensions == "all":
            return config
        hidden = config.hidden_size
        while encoder_parameters(with_sizes(config, hidden, *sizes)) > budget:
            hidden -= 1
        return with_sizes(config, hidden, *sizes)

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """Return a pruned copy, after all rounds."""
        o = self.options
        model = deepcopy(teacher)
        whole = encoder_parameters(model.config)
        for number in range(1, o.rounds + 1):
            learning = FactorTraining(o.penalty, inner=o.dimensions == "all")
            learning.prepare(model, context)
            name = f"{number} of {o.rounds}"
            training.train_round(
                model,
                [learning],
                context,
                f"schubert factors {name}",
                share=o.factor_share / o.rounds,
                patience=None,
            )
            learning.finish(model, context)
            budget = whole * (1 - (1 - o.keep) * number / o.rounds)
            model = cut(model, learning.factors, budget, o.dimensions, context)
            if number < o.rounds:
                share = o.rounds_share / (o.rounds - 1)
                training.train_round(model, [], context, f"schubert round {name}", share=share)
        layers = model.config.layers
        context.figures["hidden size"] = model.config.hidden_size
        context.figures["heads kept"] = sum(layer.heads for layer in layers)
        context.figures["FFN columns kept"] = sum(layer.ffn_size for layer in layers)
        return model


def cut(
    model: Encoder, factors: UnitFactors, budget: float, dimensions: Dimensions, context: Context
) -> Encoder:
    """Return a copy of `model`, whose factors are folded in, with at most `budget` parameters."""
    kept = largest_units(factors, model.config, budget, dimensions)
    if not context.shapes_only and len(kept.hidden) < model.config.hidden_size:
        model.to(context.device)
        drawn = context.batches(model, 16, 16, "schubert")
        correct_norms(model, kept.hidden, (batch for batch, _ in drawn))
    if dimensions == "all":
        move_biases(model, kept)
        model = surgery.keep_columns(surgery.keep_heads(model, kept.heads), kept.columns)
    return surgery.keep_hidden(model, kept.hidden)


def move_biases(model: Encoder, kept: Kept) -> None:
    """Add the bias of a block that loses all its units to the normalisation before the block."""
    before = model.embedding.norm
    with torch.no_grad():
        for layer, heads, columns in zip(model.layers, kept.heads, kept.columns, strict=True):
            assert isinstance(layer, encoder_layers.Layer)
            out, ffn = layer.attention_out, layer.ffn
            if not heads and isinstance(out, encoder_layers.AttentionOut):
                before.bias.add_(cast("Tensor", out.dense.bias))
            if not columns and isinstance(ffn, encoder_layers.FeedForward):
                out.norm.bias.add_(cast("Tensor", ffn.out.bias))
            before = ffn.norm


class FactorTraining(Method):
    """Trains the factors alone: adds `penalty` · Σ_d β_d ‖α_d‖₁ to the task loss; all other parameters are frozen."""

    factors: UnitFactors

    def __init__(self, penalty: float, inner: bool = True) -> None:
        super().__init__(None)
        self.penalty, self.inner = penalty, inner

    def prepare(self, student: Encoder, context: Context) -> None:
        """Freeze the student, and attach factors of 1."""
        self.costs = unit_costs(student.config)
        student.requires_grad_(False)
        self.factors = _unit_scales.UnitFactors(student, self.inner)

    def learning_rate(self, name: str) -> float | None:
        """Return `FACTOR_RATE` for the factors, None for other parameters."""
        return FACTOR_RATE if _unit_scales.is_factor(name) else None

    def loss(self, step: Step) -> Tensor:
        """Return the penalty (a scalar)."""
        return self.penalty * l1_penalty(self.factors, self.costs)

    def finish(self, student: Encoder, context: Context) -> None:
        """Fold the factors in, and unfreeze the student."""
        self.factors.fold(student)
        student.requires_grad_(True)
