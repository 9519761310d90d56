"""q-bert: two to four bits a weight, one range for each group of rows, more bits for layers with a larger Hessian."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from harness import Card, Claim, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.config import linear_maps
from harness.models.shape_checks import divisors

with lazy_imports():
    from harness.compression.quantization import fake_quantization
    from harness.models import codecs, parametrization
    from methods.quantization import _curvature


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Context
    from harness.models.codecs import Stage
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder

EMA_DECAY = 0.99
"""Decay of the inputs' range. The paper uses a moving average but does not give its decay."""
TOLERANCE = 1e-2
"""Relative change of an eigenvalue at which power iteration stops. Ranking the layers needs no more precision."""
PUBLISHED: tuple[tuple[Mapping[str, str | float | bool], float, float], ...] = (
    ({"bits": "4"}, 83.89, 92.66),
    ({"bits": "3"}, 83.41, 92.54),
    ({"bits": "2"}, 76.56, 84.63),
    ({"bits": "mixed", "high": 4, "low": 2}, 83.51, 92.55),
    ({"bits": "mixed", "high": 3, "low": 2}, 81.75, 92.08),
)
"""Options, accuracy on MNLI and on SST-2."""
AS_PUBLISHED = {"groups": 128, "embedding_bits": 8, "position_bits": 8, "activations": True, "train": True}


def layer_bits(sensitivities: list[float], share: float, high: int, low: int) -> list[int]:
    """Return the bits of each layer: `high` for the round(share · layers) most sensitive layers, `low` for the others.

    Of equally sensitive layers the lower one comes first.
    """
    ranked = sorted(range(len(sensitivities)), key=lambda index: -sensitivities[index])
    chosen = set(ranked[: round(share * len(ranked))])
    return [high if index in chosen else low for index in range(len(ranked))]


class QBERT(Method):
    """Group-wise quantization-aware training (Shen et al. 2020): the rows of each matrix form groups, and each group
    has a uniform grid over its own range. `bits=mixed` ranks the layers by Ω = |mean(λ)| + std(λ), where λ is the top
    eigenvalue of the Hessian of the layer's matrices on several shards of the training data.
    """

    card = Card(
        id="q-bert",
        title="Q-BERT",
        family="quantization",
        paper=Paper(
            title="Q-BERT: Hessian Based Ultra Low Precision Quantization of BERT",
            authors="Shen, Dong, Ye, Ma, Yao, Gholami, Mahoney, Keutzer",
            year=2020,
            venue="AAAI",
            link="https://arxiv.org/abs/1909.05840",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "No code was released, so details are ours: a grid runs from a group's smallest to its largest weight and "
            "contains zero; groups are blocks of neighbouring rows of every matrix (the rows of a head are neighbours "
            "in queries, keys and values); 128 groups a matrix is quoted from memory. In training, inputs of the "
            "linear maps are rounded to symmetric int8 with a moving range. The artifact stores packed codes, decodes "
            "them and executes in float32. Biases, norms, segment embeddings and the classifier stay float32; word and "
            "position embeddings have one range for each row. The Hessian is computed on a few small shards, not on "
            "ten shards of 10 % of the data."
        ),
        touches=("embedding", "attention_in", "attention_out", "ffn", "head"),
        reduces=("disk",),
        claims=tuple(
            Claim(task, "dev", "accuracy", value, "Table 1, remembered", False, {**AS_PUBLISHED, **chosen})
            for chosen, mnli, sst2 in PUBLISHED
            for task, value in (("mnli", mnli), ("sst2", sst2))
        ),
        notes=(
            "groups=1 is quantization with one range for each matrix. A group's scale and zero take 5 bytes, which the "
            "artifact's size includes. train=false rounds without training. The artifact does not quantize activations."
        ),
    )
    decides = frozenset({"how weights are stored"})
    must_be_last = True

    @options
    class Options:
        """`bits` of a weight in the linear maps; `groups` of rows in each matrix; `embedding_bits` and `position_bits`
        of the embedding tables (0: float32). For bits=mixed: a `share` of the layers has `high` bits, the others `low`;
        the Hessian is computed on `shards` of `examples` rows each, in at most `iterations`. `activations`: round
        inputs to int8 in training; `train`: train at all.
        """

        bits: Literal["2", "3", "4", "8", "mixed"] = "4"
        groups: Annotated[int, Field(ge=1)] = 128
        embedding_bits: Annotated[int, Field(ge=0, le=8)] = 8
        position_bits: Annotated[int, Field(ge=0, le=8)] = 8
        high: Annotated[int, Field(ge=3, le=8)] = 4
        low: Annotated[int, Field(ge=2, le=7)] = 2
        share: Annotated[float, Field(ge=0, le=1)] = 0.5
        shards: Annotated[int, Field(ge=1)] = 5
        examples: Annotated[int, Field(ge=1)] = 16
        iterations: Annotated[int, Field(ge=1)] = 10
        activations: bool = True
        train: bool = True

        @model_validator(mode="after")
        def _bits_fit(self) -> QBERT.Options:
            if 1 in (self.embedding_bits, self.position_bits):
                raise ValueError("a table takes 2 to 8 bits, or 0 to stay float32")
            if self.bits == "mixed" and self.low >= self.high:
                raise ValueError(
                    f"low={self.low} is not below high={self.high}; give the sensitive layers more bits"
                )
            return self

    suite = {"groups": (8, 1, 4, 128), "bits": ("4", "3", "2", "mixed"), "train": (True, False)}

    @property
    def trains(self) -> bool:
        """False if the options ask for rounding without training."""
        return bool(self.options.train)

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape unchanged.

        Raises SkylineError (OUT_OF_RANGE) if `groups` does not divide the rows of every matrix.
        """
        rows = {"the pooler": config.hidden_size} if config.pooler else {}
        rows |= {what: outputs for what, _, (outputs, _) in linear_maps(config)}
        for what, count in rows.items():
            if count % self.options.groups:
                common = divisors(gcd(*rows.values()))
                raise SkylineError(
                    f"groups={self.options.groups} does not divide the {count} rows of {what}; "
                    f"use one of {', '.join(map(str, common))}",
                    Code.OUT_OF_RANGE,
                )
        return config

    def prepare(self, student: Encoder, context: Context) -> None:
        """Choose the bits, and attach rounding of weights and inputs to the forward pass."""
        o = self.options
        names = fake_quantization.linear_weights(student)
        bits = (
            self._mixed(student, context, names) if o.bits == "mixed" else dict.fromkeys(names, int(o.bits))
        )
        stages: dict[str, Stage] = {name: codecs.Groups(width, o.groups) for name, width in bits.items()}
        for name, rows in fake_quantization.embedding_tables(student).items():
            widths = {"embedding.position.weight": o.position_bits, "embedding.segment.weight": 0}
            if width := widths.get(name, o.embedding_bits):
                stages[name] = codecs.Int8() if width == 8 else codecs.Groups(width, rows)
        self.training = fake_quantization.QuantizedTraining(
            student, stages, EMA_DECAY if o.activations else None
        )

    def _mixed(self, student: Encoder, context: Context, names: list[str]) -> dict[str, int]:
        """Return the bits of each weight. Weights outside the layers get the high number."""
        o = self.options
        owners = {name: int(name.split(".")[1]) for name in names if name.startswith("layers.")}
        layers = sorted(set(owners.values()))
        blocks = [[name for name, owner in owners.items() if owner == layer] for layer in layers]
        if context.shapes_only:  # the ranking does not matter
            bits = layer_bits([0.0] * len(layers), o.share, o.high, o.low)
        else:
            omegas = self._sensitivities(student, context, blocks)
            bits = layer_bits(omegas, o.share, o.high, o.low)
            for layer, omega, width in zip(layers, omegas, bits, strict=True):
                context.figures[f"sensitivity of layer {layer}"] = omega
                context.figures[f"bits of layer {layer}"] = width
        by_layer = dict(zip(layers, bits, strict=True))
        return {name: by_layer[owners[name]] if name in owners else o.high for name in names}

    def _sensitivities(self, student: Encoder, context: Context, blocks: list[list[str]]) -> list[float]:
        o = self.options
        weights: list[list[Tensor]] = [
            list(parametrization.trained_weights(student, block).values()) for block in blocks
        ]
        found = _curvature.shard_eigenvalues(
            student, context, weights, o.shards, o.examples, o.iterations, TOLERANCE
        )
        return [float(omega) for omega in _curvature.sensitivity(found)]

    def finish(self, student: Encoder, context: Context) -> None:
        """Choose packed codecs."""
        self.training.store(student)
