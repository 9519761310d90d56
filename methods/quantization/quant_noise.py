"""quant-noise: fine-tune with the noise of the quantization that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from harness import Card, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.config import linear_maps

with lazy_imports():
    import torch

    from harness.compression import training
    from harness.compression.quantization import fake_quantization
    from harness.models import codecs as models_codecs
    from harness.models import parametrization
    from methods.quantization import _quantization_noise


if TYPE_CHECKING:
    from harness.compression.context import Context
    from harness.models.codecs import Stage
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder

WORDS = "embedding.word.weight"
PHASES = ("ffn", "embedding", "attention")
"""The order in which product quantization takes the matrices."""


class QuantNoise(Method):
    """Quant-Noise (Fan et al. 2021): each forward pass in training quantizes, or zeroes, another random part of the
    weights. Then all weights are quantized: to int8 or int4, or by product quantization, group by group (iPQ).
    """

    card = Card(
        id="quant-noise",
        title="Quant-Noise",
        family="quantization",
        paper=Paper(
            title="Training with Quantization Noise for Extreme Model Compression",
            authors="Fan, Stock, Graham, Grave, Gribonval, Jégou, Joulin",
            year=2021,
            venue="ICLR",
            link="https://arxiv.org/abs/2004.07320",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "The noise acts in fine-tuning only; the paper pre-trains with it too. Here the noise never changes the "
            "stored weights; the released code writes it into the weights and leaves it there. Product quantization: a "
            "table is fitted to at most 65,536 blocks of its matrix. After each of the three groups, tables and the "
            "matrices that are still float are tuned for a part of `tuning_share` of the epochs instead of days, "
            "without noise and without the other methods of the stage. Pooler, classifier, biases and the other small "
            "parameters are float16. "
            "int8 and int4: ranges follow the weights of each matrix or row in every step. int8 rounds inputs with one "
            "scale for each token, as the artifact's kernels do. int4 does not round inputs, and is decoded to float32 "
            "when loaded."
        ),
        touches=("embedding", "attention_in", "attention_out", "ffn", "head"),
        reduces=("disk",),
        notes=(
            "The paper's figures are for RoBERTa, pre-trained with noise (its abstract: 82.5 on MNLI in 14 MB, with "
            "layers shared and pruned), so none is claimed here. int8 also executes in int8. Product quantization "
            "replaces every weight, zeros too: pruning must be an earlier stage, and its zeros are lost."
        ),
    )
    decides = frozenset({"how weights are stored", "which weights are zero"})
    must_be_last = True

    @options
    class Options:
        """`quantizer`; `noise`: share of blocks (product, default 0.2) or weights (int8 and int4, default 0.5) that
        each forward pass hits; 0 is quantization after training, 1 (int8, int4) ordinary quantization-aware training.

        Product: `block`: weights that share a code in feed-forward matrices and word embeddings (half of it in
        attention); `entries` of a table; `tuning_share`: share of the epochs in which tables are tuned, in equal parts
        after each group; `table_learning_rate`: peak rate of the tables. int8, int4: one scale `per` row (channel) or
        matrix (tensor).
        """

        quantizer: Literal["product", "int8", "int4"] = "product"
        noise: Annotated[float, Field(ge=0, le=1)] | None = None
        block: Annotated[int, Field(ge=2, le=32, multiple_of=2)] = 8
        entries: Annotated[int, Field(ge=2, le=256)] = 256
        tuning_share: Annotated[float, Field(ge=0, lt=1)] = 0.5
        table_learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
        per: Literal["channel", "tensor"] = "channel"

        def __post_init__(self) -> None:
            """Raise ValueError if block noise would zero every weight."""
            if self.quantizer == "product" and self.noise == 1:
                raise ValueError("noise=1 leaves nothing of a block-noised matrix; use less than 1")

    suite = {
        "quantizer": ("product", "int8", "int4"),
        "entries": (16, 32),
        "block": (8, 4),
        "noise": (0.2, 0),
    }

    @property
    def own_share(self) -> float:
        """The share of tuning the tables; 0 without tables."""
        return float(self.options.tuning_share) if self.options.quantizer == "product" else 0.0

    @property
    def _share(self) -> float:
        """Share of blocks or weights that the noise hits."""
        o = self.options
        return float(o.noise if o.noise is not None else 0.2 if o.quantizer == "product" else 0.5)

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape unchanged.

        Raises SkylineError (OUT_OF_RANGE) if `block` does not divide the columns of every matrix.
        """
        if self.options.quantizer != "product":
            return config
        for what, kind, width in row_widths(config):
            block = self._block(kind)
            if width % block:
                raise SkylineError(
                    f"blocks of {block} weights do not divide the {width} columns of {what}; use another block",
                    Code.OUT_OF_RANGE,
                )
        return config

    def prepare(self, student: Encoder, context: Context) -> None:
        """Attach the noise."""
        draws, o = _quantization_noise.Draws(context.generator(self.card.id)), self.options
        self.hooks = []
        if o.quantizer == "product":
            self.groups = group_weights(student)
            for kind, names in self.groups.items():
                for name in names:
                    parametrization.attach(
                        student, name, _quantization_noise.BlockNoise(self._block(kind), self._share, draws)
                    )
            return
        self.stages = {
            name: self._scalar(student, name) for name in [*fake_quantization.linear_weights(student), WORDS]
        }
        for name, stage in self.stages.items():
            parametrization.attach(
                student, name, _quantization_noise.RoundingNoise(stage, self._share, draws)
            )
            module = student.get_submodule(name.removesuffix(".weight"))
            if o.quantizer == "int8" and isinstance(module, torch.nn.Linear):
                self.hooks.append(
                    module.register_forward_pre_hook(_quantization_noise.InputNoise(self._share, draws).hook)
                )

    def learning_rate(self, name: str) -> float | None:
        """Return `table_learning_rate` for the tables, None for other parameters."""
        is_table = ".parametrizations." in name and name.endswith(".table")
        return self.options.table_learning_rate if is_table else None

    def finish(self, student: Encoder, context: Context) -> None:
        """Quantize all weights that had noise."""
        if self.options.quantizer == "product":
            self._finish_product(student, context)
        else:
            self._finish_scalar(student)

    def _finish_scalar(self, student: Encoder) -> None:
        for hook in self.hooks:
            hook.remove()
        storage = student.storage
        for name, stage in self.stages.items():
            parametrization.bake(student, name)
            mask = storage.codecs.get(name, models_codecs.Codec()).find("bitmask")
            codec = models_codecs.Codec((stage,) if mask is None else (stage, mask))
            storage.codecs[name] = (
                codec.with_stage(models_codecs.Pack(4)) if self.options.quantizer == "int4" else codec
            )
            if self.options.quantizer == "int8" and name != WORDS:
                storage.kernels[name.removesuffix(".weight")] = "int8"

    def _finish_product(self, student: Encoder, context: Context) -> None:
        for name in (names := [name for group in self.groups.values() for name in group]):
            parametrization.bake(student, name)
        if not context.shapes_only:
            for place, kind in enumerate(PHASES, 1):
                self._quantize(student, kind, place, context)
            for name in names:
                parametrization.bake(student, name)
        codecs = student.storage.codecs
        for name, _ in student.named_parameters():
            codecs[name] = models_codecs.Codec((models_codecs.Cast("float16"),))
        for kind, names in self.groups.items():
            stage = self._product(kind)
            packed = models_codecs.Codec(
                (stage,) if stage.width == 8 else (stage, models_codecs.Pack(stage.width))
            )
            codecs.update(dict.fromkeys(names, packed))

    def _quantize(self, student: Encoder, kind: str, place: int, context: Context) -> None:
        """Fit the tables of one group, then tune them and all weights that are still float."""
        errors = []
        for name, weight in parametrization.trained_weights(student, self.groups[kind]).items():
            table = _quantization_noise.TrainedTable(self._product(kind), weight)
            parametrization.attach(student, name, table)
            errors.append(table.relative_error)
        context.figures[f"{kind}_quantization_error"] = sum(errors) / max(1, len(errors))
        if self.own_share and errors:
            share = self.own_share / sum(map(bool, self.groups.values()))
            stage = f"{self.card.id} phase {place} of {len(PHASES)}: {kind}"
            with torch.enable_grad():
                training.train_round(student, [self], context, stage, share=share)
            student.to("cpu").eval()

    def _block(self, kind: str) -> int:
        return int(self.options.block) // (2 if kind == "attention" else 1)

    def _product(self, kind: str) -> models_codecs.Product:
        return models_codecs.Product(self._block(kind), self.options.entries)

    def _scalar(self, student: Encoder, name: str) -> Stage:
        if self.options.quantizer == "int8":
            return models_codecs.Int8(self.options.per)
        rows = student.get_parameter(name).shape[0]
        return models_codecs.Groups(4, rows if self.options.per == "channel" else 1)


def group_weights(student: Encoder) -> dict[str, list[str]]:
    """Return the names of the matrices that product quantization replaces, by phase.

    ffn: feed-forward matrices; embedding: word embeddings; attention: attention matrices and the word embeddings'
    projection. Each factor of a low-rank matrix counts as a matrix.
    """
    groups: dict[str, list[str]] = {kind: [] for kind in PHASES}
    for name, matrix in student.matrix_names().items():
        groups["ffn" if matrix.startswith("ffn") else "attention"].append(name)
    groups["embedding"].append(WORDS)
    if student.embedding.project is not None:
        groups["attention"].append("embedding.project.weight")
    return groups


def row_widths(config: EncoderConfig) -> list[tuple[str, str, int]]:
    """Return (description, phase, columns) of the matrices that `group_weights` finds in an encoder of this shape."""
    found = [("the word embeddings", "embedding", config.embedding_rank or config.hidden_size)]
    if config.embedding_rank is not None:
        found.append(("the word embeddings' projection", "attention", config.embedding_rank))
    for what, matrix, (_, inputs) in linear_maps(config):
        found.append((what, "ffn" if matrix.startswith("ffn") else "attention", inputs))
    return found
