"""identity-prior: a penalty makes residual mappings small, and the smallest are removed."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as Dict
from copy import deepcopy
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from harness import Card, Claim, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.config import MATRICES
from harness.models.parameter_counts import head_parameters, layer_parameters
from harness.models.shape_checks import refuse_factorized, refuse_shared

with lazy_imports():
    import torch

    from harness.compression import training
    from harness.models import surgery
    from methods.structured_pruning import _residual_norms, _spectral_scale


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Context, Step
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder
    from methods.structured_pruning._residual_norms import Mapping, ResidualMappings
    from methods.structured_pruning._spectral_scale import SpectralNormalisation

Rank = Literal["norm", "energy"]
SCALE_RATE = 1e-2
"""Learning rate of the scales. At a fine-tuning rate they hardly change from 1 in a few hundred steps."""


def parameter_shares(mappings: Iterable[Mapping], config: EncoderConfig) -> list[float]:
    """Return the parameters of each residual mapping as a share of its layer's."""
    shares = []
    for mapping in mappings:
        layer = config.layers[mapping.layer]
        whole = layer_parameters(config, layer)
        if mapping.kind == "head":
            own = head_parameters(config, layer)
        else:
            field = "ffn_size" if mapping.kind == "ffn" else "heads"
            own = whole - layer_parameters(config, layer.model_copy(update={field: 0}))
        shares.append(own / whole)
    return shares


class _Cut:
    """The heads and FFNs that are left, and the number of parameters still to remove (`room`)."""

    def __init__(self, config: EncoderConfig, share: float) -> None:
        self.layers = config.layers
        self.config = config
        self.heads = [list(range(layer.heads)) for layer in self.layers]
        self.ffn = [layer.ffn_size > 0 for layer in self.layers]
        self.room = share * sum(self._left(i, len(heads), True) for i, heads in enumerate(self.heads))

    def _left(self, index: int, heads: int, ffn: bool) -> int:
        layer = self.layers[index]
        size = layer.ffn_size if ffn else 0
        return layer_parameters(self.config, layer.model_copy(update={"heads": heads, "ffn_size": size}))

    def size(self, mapping: Mapping) -> int:
        """Return the parameters that removing a mapping saves now, with its block's bias for the last head."""
        index, count = mapping.layer, len(self.heads[mapping.layer])
        now = self._left(index, count, self.ffn[index])
        if mapping.kind == "ffn":
            return now - self._left(index, count, False)
        left = count - 1 if mapping.kind == "head" else 0
        return now - self._left(index, left, self.ffn[index])

    def taken(self, mapping: Mapping) -> bool:
        """Return whether the mapping is removed."""
        if mapping.kind == "ffn":
            return not self.ffn[mapping.layer]
        heads = self.heads[mapping.layer]
        return mapping.head not in heads if mapping.kind == "head" else not heads

    def fits(self, mapping: Mapping) -> bool:
        """Return whether the mapping may be removed: it fits into `room`, and the encoder keeps at least one head."""
        going = {"ffn": 0, "head": 1, "attention": len(self.heads[mapping.layer])}[mapping.kind]
        return self.size(mapping) <= self.room and (not going or going < sum(map(len, self.heads)))

    def take(self, mapping: Mapping) -> None:
        """Remove the mapping."""
        self.room -= self.size(mapping)
        if mapping.kind == "ffn":
            self.ffn[mapping.layer] = False
        elif mapping.kind == "head":
            self.heads[mapping.layer].remove(mapping.head)
        else:
            self.heads[mapping.layer].clear()

    def give_back(self, head: Mapping) -> None:
        """Restore a head, unless `room` would then be above 0."""
        heads = self.heads[head.layer]
        heads.append(head.head)
        heads.sort()
        size = self.size(head)
        if self.room + size > 0:
            heads.remove(head.head)
        else:
            self.room += size


def smallest_mappings(
    norms: Dict[Mapping, float], config: EncoderConfig, share: float, rank: Rank = "energy"
) -> tuple[list[list[int]], list[bool]]:
    """Return the heads that stay in each layer, and whether its FFN stays, without the smallest residual mappings.

    Mappings are removed in the order of their function norm n (`norm`: one threshold for all, as published), or of n²
    for each parameter (`energy`: loss of the residual stream per saved parameter), as long as they fit into `share` of
    the layers' parameters. An attention block takes its remaining heads with it. Then the next FFN is removed too and
    the largest heads are restored, if that comes nearer to `share`. The encoder's last head always stays: without it
    the output would be the same for all inputs.
    """
    state = _Cut(config, share)
    sizes = list(norms.values())
    if rank == "energy":
        sizes = [size**2 / state.size(mapping) for mapping, size in norms.items()]
    ranked = [mapping for _, mapping in sorted(zip(sizes, norms, strict=True), key=lambda pair: pair[0])]
    for mapping in ranked:
        if not state.taken(mapping) and state.fits(mapping):
            state.take(mapping)
    rest = [mapping for mapping in ranked if mapping.kind == "ffn" and not state.taken(mapping)]
    if rest:
        other = deepcopy(state)
        other.take(rest[0])
        for mapping in reversed(ranked):
            if mapping.kind == "head" and other.taken(mapping):
                other.give_back(mapping)
        if abs(other.room) < state.room:
            state = other
    return state.heads, state.ffn


class IdentityPrior(Method):
    """Spectral-normalised identity prior, SNIP (Lin et al. 2020): fine-tune with spectrally normalised matrices and an
    L1 penalty on the output of each residual mapping, remove the mappings of the smallest function norm, fine-tune
    again.
    """

    card = Card(
        id="identity-prior",
        title="Spectral-normalised identity prior",
        family="structured-pruning",
        paper=Paper(
            title="Pruning Redundant Mappings in Transformer Models via Spectral-Normalized Identity Prior",
            authors="Lin, Liu, Yang, Hua, Roth",
            year=2020,
            venue="Findings of EMNLP",
            link="https://arxiv.org/abs/2010.01791",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "A reconstruction: no code is published, and only the paper's abstract and a summary of it could be read. "
            "The penalty divides each mapping's L1 norm by its input's, so that its weight means the same in every "
            "encoder, and weighs it by the mapping's share of its layer's parameters. Instead of a threshold, the "
            "share of the layers' parameters to remove is given. Mappings of different sizes are compared by their "
            "squared norm for each parameter, because by the norm alone (rank=norm) single heads are removed before "
            "FFN blocks. The encoder's last head always stays. The learned scale of a matrix begins at its spectral "
            "norm and has a separate learning rate."
        ),
        touches=("attention_in", "attention", "attention_out", "ffn"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        claims=(
            Claim(
                "sst2",
                "unknown",
                "accuracy",
                91.8,
                "Ganesh et al. 2021, Table 1, 50 %",
                False,
                {"share": 0.5},
            ),
            Claim(
                "qqp", "unknown", "accuracy", 88.9, "Ganesh et al. 2021, Table 1, 50 %", False, {"share": 0.5}
            ),
        ),
        notes=(
            "A layer without heads or FFN keeps the normalisation that followed them. The norms are computed on "
            "training examples. The paper's tables could not be read; the figures are the survey's."
        ),
    )
    decides = frozenset({"the student"})

    @options
    class Options:
        """`share` of the layers' parameters to remove; `penalty`: weight of the sum of relative function norms in the
        loss, for `penalty_share` of the epochs before pruning; `spectral`: normalise matrices spectrally meanwhile;
        `rank`: order of removal (see `smallest_mappings`); `batches` of 16 training examples for the norms.
        """

        share: Annotated[float, Field(gt=0, lt=1)] = 0.5
        penalty: Annotated[float, Field(ge=0, le=1e3)] = 0.2
        penalty_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
        spectral: bool = True
        rank: Rank = "energy"
        batches: Annotated[int, Field(ge=1)] = 32

    suite = {
        "share": (0.5, 0.25),
        "penalty_share": (0.75, 0.25),
        "spectral": (True, False),
        "rank": ("energy", "norm"),
        "batches": (2,),
    }

    @property
    def own_share(self) -> float:
        """The share of the training before pruning."""
        return float(self.options.penalty_share)

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape unchanged: the norms decide later what is removed.

        Raises SkylineError: WRONG_SHAPE if layers share weights or are factorized; OUT_OF_RANGE if `share` is smaller
        than every residual mapping.
        """
        refuse_shared(config, "residual mappings")
        refuse_factorized(config, MATRICES, "residual mappings")
        whole = sum(layer_parameters(config, layer) for layer in config.layers)
        sizes = [head_parameters(config, layer) for layer in config.layers if layer.heads]
        sizes += [
            (2 * config.hidden_size + 1) * layer.ffn_size + config.hidden_size
            for layer in config.layers
            if layer.ffn_size
        ]
        if not sizes or min(sizes) > self.options.share * whole:
            least = f"the smallest residual mapping has {min(sizes):,}" if sizes else "none is left to remove"
            raise SkylineError(
                f"share={self.options.share} of the layers is {int(self.options.share * whole):,} parameters, but "
                f"{least}; {'raise share' if sizes else 'leave this method out'}",
                Code.OUT_OF_RANGE,
            )
        return config

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """Fine-tune a copy with the penalty, measure the function norms, and remove the smallest mappings."""
        o = self.options
        model = deepcopy(teacher)
        if not context.shapes_only:
            prior = IdentityPenalty(o.penalty, o.spectral)
            prior.prepare(model, context)
            training.train_round(
                model, [prior], context, "identity-prior penalty", share=self.own_share, patience=None
            )
            prior.finish(model, context)
        model.to(context.device)
        drawn = context.batches(model, 16, o.batches, "identity-prior")
        norms = _residual_norms.function_norms(model, (batch for batch, _ in drawn))
        heads, ffn = smallest_mappings(norms, model.config, o.share, o.rank)
        context.figures["heads kept"] = sum(map(len, heads))
        context.figures["FFN blocks kept"] = sum(ffn)
        sizes = [layer.ffn_size for layer in model.config.layers]
        columns = [range(size if stays else 0) for size, stays in zip(sizes, ffn, strict=True)]
        return surgery.keep_columns(surgery.keep_heads(model, heads), columns)


class IdentityPenalty(Method):
    """The training before pruning: adds `penalty` · Σ w E‖F(x)‖₁ / E‖x‖₁ over the residual mappings to the task loss. w
    is the mapping's share of its layer's parameters.
    """

    mappings: ResidualMappings
    normalised: SpectralNormalisation | None
    weights: Tensor

    def __init__(self, penalty: float, spectral: bool) -> None:
        super().__init__(None)
        self.penalty, self.spectral = penalty, spectral

    def prepare(self, student: Encoder, context: Context) -> None:
        """Attach the normalisation of the layers' matrices, and hooks that read the mappings."""
        generator = context.generator("identity-prior spectral")
        names = student.matrix_names()
        self.normalised = (
            _spectral_scale.SpectralNormalisation(student, names, generator) if self.spectral else None
        )
        self.mappings = _residual_norms.ResidualMappings(student)
        self.weights = torch.tensor(parameter_shares(self.mappings.mappings, student.config))

    def learning_rate(self, name: str) -> float | None:
        """Return `SCALE_RATE` for the learned scales, None for other parameters."""
        return SCALE_RATE if _spectral_scale.is_scale(name) else None

    def loss(self, step: Step) -> Tensor:
        """Return the penalty on this batch (a scalar)."""
        added, given = self.mappings.norms(step.batch.attention_mask)  # both (mappings,)
        penalty: Tensor = self.penalty * (self.weights.to(added) * added / given.clamp_min(1e-12)).sum()
        return penalty

    def step(self, student: Encoder, progress: float) -> None:
        """Do one power iteration for each matrix."""
        if self.normalised is not None:
            self.normalised.iterate()

    def finish(self, student: Encoder, context: Context) -> None:
        """Remove the hooks, and replace the matrices by their normalised values."""
        self.mappings.close()
        if self.normalised is not None:
            self.normalised.bake(student)
