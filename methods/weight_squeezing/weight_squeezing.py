"""weight-squeezing: the small encoder's weights are a learned map of the teacher's weights."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.config import MATRICES, EncoderConfig
from harness.models.shape_checks import refuse_factorized, refuse_shared, refuse_wide_ramps

with lazy_imports():
    import torch

    from harness.compression.pruning import reconstruction as pruning_reconstruction
    from harness.models import parametrization
    from harness.models.encoder import encoder as encoder_encoder


if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from harness.compression.context import Context
    from harness.compression.pruning.reconstruction import Moments
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder

WORDS, PROJECT = "embedding.word.weight", "embedding.project.weight"
TABLES = ("embedding.position.weight", "embedding.segment.weight")


class Places:
    """The teacher's units at the inputs and outputs of each linear map of a smaller encoder, and the initial L and R.

    L selects outputs. R reconstructs the teacher's inputs from the selected ones.
    """

    def __init__(self, teacher: Encoder, config: EncoderConfig, moments: Mapping[str, Moments]) -> None:
        self.teacher, self.moments = teacher, moments
        self.units = pruning_reconstruction.hidden_units(moments, config.hidden_size)
        self.ends: dict[str, tuple[list[int], list[int]]] = {}
        for index, layer in enumerate(config.layers):
            path = f"layers.{index}"
            if layer.heads:
                rows = self.strongest(f"{path}.attention_out.dense", layer.heads, layer.head_size)
                for name in ("query", "key", "value"):
                    self.ends[f"{path}.attention_in.{name}"] = rows, self.units
                self.ends[f"{path}.attention_out.dense"] = self.units, rows
            if layer.ffn_size:
                columns = self.strongest(f"{path}.ffn.out", layer.ffn_size)
                self.ends[f"{path}.ffn.into"] = columns, self.units
                self.ends[f"{path}.ffn.out"] = self.units, columns
        last = self.units
        if teacher.head.pooler is not None:
            if teacher.head.classifier is not None:
                last = self.strongest("head.classifier", config.hidden_size)
            self.ends["head.pooler"] = last, self.units
        if teacher.head.classifier is not None:
            self.ends["head.classifier"] = list(range(config.head.outputs)), last

    def strongest(self, path: str, count: int, size: int = 1) -> list[int]:
        """Return the inputs of a map in the `count` groups of `size` inputs that contribute most to its output."""
        weight = self.teacher.get_submodule(path).get_parameter("weight")
        groups = pruning_reconstruction.strongest_groups(self.moments[path].covariance, weight, count, size)
        return [group * size + place for group in groups for place in range(size)]

    def maps(self, path: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return the initial L (out, teacher's out), R (teacher's in, in) and bias (out,) of one map."""
        rows, columns = self.ends[path]
        read = self.moments[path.replace(".key", ".query").replace(".value", ".query")]
        right, offset = (found.float() for found in pruning_reconstruction.reconstruction(read, columns))
        module = self.teacher.get_submodule(path)
        weight, bias = (module.get_parameter(name).detach() for name in ("weight", "bias"))
        left = torch.eye(len(weight), device=weight.device)[rows]
        return left, right.to(weight.device), (bias + weight @ offset.to(weight.device))[rows]


class WeightSqueezing(Method):
    """Weight squeezing (Chumachenko et al. 2020): every weight matrix of the student is L W R of the teacher's frozen
    W. L and R are trained on the task, and folded at the end.
    """

    card = Card(
        id="weight-squeezing",
        title="Weight squeezing",
        family="weight-squeezing",
        paper=Paper(
            title="Weight Squeezing: Reparameterization for Knowledge Transfer and Model Compression",
            authors="Chumachenko, Gavrilov, Balagansky, Kalaidin",
            year=2020,
            venue="arXiv",
            link="https://arxiv.org/abs/2010.06993",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "One task instead of all of GLUE together, and any teacher instead of BERT-Medium. The paper's "
            "initialisation of the maps is not known: here L begins as a selection of units (whole heads), and R as "
            "the least-squares reconstruction of the teacher's units from the selected ones on training data. The "
            "gated variant is left out."
        ),
        touches=("embedding", "attention_in", "attention", "attention_out", "ffn", "head"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        notes=(
            "L, R, the map of the embeddings, biases and norms are trained; the depth stays the same. Computing L W R "
            "in each step costs about as much as the small encoder itself. Each weight of the student changes with a "
            "row of L and a column of R at once, so the maps need a smaller rate than weights."
        ),
    )
    decides = frozenset({"the student", "how weights are stored", "which weights are zero"})

    @options
    class Options:
        """`hidden` size of the student, a multiple of the head size (its heads: as many as fit, at most the teacher's);
        `ffn` columns (default: the teacher's, scaled by the ratio of the hidden sizes); `rate`: peak learning rate of
        the maps; `batches` of 32 training examples for the initial maps.
        """

        hidden: Annotated[int, Field(ge=1)] = 192
        ffn: Annotated[int, Field(ge=1)] | None = None
        rate: Annotated[float, Field(gt=0, le=1)] = 3e-5
        batches: Annotated[int, Field(ge=1)] = 16

    suite = {"hidden": (16, 24), "ffn": (64, 32), "batches": (2,)}

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape of the student.

        Raises SkylineError: OUT_OF_RANGE if `hidden` or `ffn` is not smaller than the teacher's, or `hidden` is not a
        multiple of the head size; WRONG_SHAPE if layers share weights, are factorized, have wide exit ramps or neither
        heads nor columns, or if word embeddings are not a table.
        """
        refuse_shared(config, "hidden units")
        refuse_wide_ramps(config)
        refuse_factorized(config, MATRICES, "hidden units")
        if config.words is not None:
            raise SkylineError(
                "word embeddings of codes or hashes cannot be mapped; squeeze first, then replace them",
                Code.WRONG_SHAPE,
            )
        hidden, large = self.options.hidden, config.hidden_size
        if hidden >= large:
            raise SkylineError(
                f"hidden={hidden} is not smaller than the teacher's {large}; use a smaller one",
                Code.OUT_OF_RANGE,
            )
        if not any(layer.heads or layer.ffn_size for layer in config.layers):
            raise SkylineError(
                "no layer has heads or FFN columns; use an encoder that has some", Code.WRONG_SHAPE
            )
        layers = []
        for index, layer in enumerate(config.layers):
            if layer.heads and hidden % layer.head_size:
                raise SkylineError(
                    f"hidden={hidden} does not divide into heads of {layer.head_size} (layer {index}); "
                    f"use a multiple of {layer.head_size}",
                    Code.OUT_OF_RANGE,
                )
            columns = self.options.ffn or max(1, round(layer.ffn_size * hidden / large))
            if layer.ffn_size and columns > layer.ffn_size:
                raise SkylineError(
                    f"ffn={columns} is more than the {layer.ffn_size} columns of layer {index}; "
                    f"use at most {layer.ffn_size}",
                    Code.OUT_OF_RANGE,
                )
            heads = min(layer.heads, hidden // layer.head_size)
            ffn = columns if layer.ffn_size else 0
            layers.append(layer.model_copy(update={"heads": heads, "ffn_size": ffn}))
        rank = config.embedding_rank
        changes = {"hidden_size": hidden, "embedding_rank": rank if rank and rank < hidden else None}
        return EncoderConfig.model_validate({**config.model_dump(), **changes, "layers": layers})

    def learning_rate(self, name: str) -> float | None:
        """Return `rate` for the maps, None for other parameters."""
        return self.options.rate if name == PROJECT or name.endswith((".left", ".right")) else None

    def student(self, teacher: encoder_encoder.Encoder, context: Context) -> encoder_encoder.Encoder:
        """Return a small encoder whose weights are computed by the maps."""
        self.shape = self.final_shape_from(teacher.config)
        # During training the word table is the teacher's (V, rank), and the projection after it is the map.
        rank = teacher.config.embedding_rank or teacher.config.hidden_size
        unfolded = EncoderConfig.model_validate({**self.shape.model_dump(), "embedding_rank": rank})
        model = deepcopy(teacher).to(context.device)
        places = Places(
            model, self.shape, pruning_reconstruction.observe_inputs(model, context, self.options.batches)
        )
        student = encoder_encoder.Encoder(unfolded, teacher.tokenizer, teacher.origin).to(context.device)
        old, new = (dict(encoder.named_parameters()) for encoder in (model, student))
        choice = torch.eye(teacher.config.hidden_size, device=context.device)[
            places.units
        ]  # (hidden, teacher's)
        with torch.no_grad():
            new[WORDS].copy_(old[WORDS])
            new[PROJECT].copy_(choice @ old[PROJECT] if PROJECT in old else choice)
            for name, weight in new.items():
                if ".norm." in name:
                    weight.copy_(old[name][places.units])
            maps: dict[str, tuple[Tensor | None, Tensor]] = dict.fromkeys(TABLES, (None, choice.T))
            for path in places.ends:
                left, right, bias = places.maps(path)
                new[f"{path}.bias"].copy_(bias)
                maps[f"{path}.weight"] = left, right
        new[WORDS].requires_grad_(False)
        squeezed = _squeezed()
        for name, pair in maps.items():
            new[name].requires_grad_(False)  # the parametrization replaces its value
            parametrization.attach(student, name, squeezed(old[name].detach(), *pair))
        self.mapped = list(maps)
        return student

    def finish(self, student: Encoder, context: Context) -> None:
        """Replace each weight by L W R, and remove the maps."""
        for name in self.mapped:
            parametrization.bake(student, name)
        embedding = student.embedding
        if self.shape.embedding_rank is None:
            assert embedding.project is not None
            words = embedding.project(embedding.word.weight).detach()
            embedding.word = torch.nn.Embedding(self.shape.vocab_size, self.shape.hidden_size)
            embedding.word.weight = torch.nn.Parameter(words)
            embedding.project = None
        student.config = self.shape
        student.requires_grad_(True)


def _squeezed() -> type[torch.nn.Module]:
    """Return the class of a mapped weight. It is made in a function because this file is imported without torch."""

    class Squeezed(torch.nn.Module):
        """Computes L W R of a frozen W (out, in) and ignores its input. Without L it computes W R."""

        weight: Tensor

        def __init__(self, weight: Tensor, left: Tensor | None, right: Tensor) -> None:
            super().__init__()
            self.register_buffer("weight", weight.clone())
            self.left = None if left is None else torch.nn.Parameter(left.clone())
            self.right = torch.nn.Parameter(right.clone())

        def forward(self, _: Tensor) -> Tensor:
            """Return the small weight (out, in), the cheaper product first."""
            if self.left is None:
                return self.weight @ self.right
            out, large_out = self.left.shape
            large_in, inputs = self.right.shape
            if large_out * inputs * (large_in + out) <= out * large_in * (large_out + inputs):
                return self.left @ (self.weight @ self.right)
            return (self.left @ self.weight) @ self.right

    return Squeezed
