"""dynamic-int8: weights are quantized once, activations at run time, without training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from harness import Card, Method, Paper, options
from harness.common.lazy import lazy_imports

with lazy_imports():
    import torch

    from harness.models import codecs


if TYPE_CHECKING:
    from harness.compression.context import Context
    from harness.models.encoder.encoder import Encoder


class DynamicInt8(Method):
    """Symmetric int8 for the weights of all linear maps (and for the word embeddings, on disk), scale = max|W| / 127
    (Zafrir et al. 2019).

    The maps execute in int8 and quantize their inputs at run time (`harness.models.int8_linear.Int8Linear`).
    """

    card = Card(
        id="dynamic-int8",
        title="Dynamic int8",
        family="quantization",
        paper=Paper(
            title="Q8BERT: Quantized 8Bit BERT",
            authors="Zafrir, Boudoukh, Izsak, Wasserblat",
            year=2019,
            venue="NeurIPS Workshop on Energy Efficient Machine Learning and Cognitive Computing",
            link="https://arxiv.org/abs/1910.06188",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "This is Q8BERT's post-training comparison (its dynamically quantized models), not its quantization-aware "
            "training. Activations have one scale for each token instead of each tensor, so a sentence's result does "
            "not depend on its batch. Weights have one scale for each row unless per=tensor. The classifier stays "
            "float32."
        ),
        touches=("embedding", "attention_in", "attention_out", "ffn", "head"),
        reduces=("disk", "latency"),
        notes="Q8BERT's figures are for quantization-aware training, so none of them is claimed here.",
    )
    trains = False
    takes_students = True
    must_be_last = True
    decides = frozenset({"how weights are stored"})

    @options
    class Options:
        """`per`: one scale for each matrix (tensor) or row (channel); `embeddings`: store word embeddings in int8 too
        (hashed ones: the buckets in int8, the tokens' weights in float16).
        """

        per: Literal["channel", "tensor"] = "channel"
        embeddings: bool = True

    suite = {"per": ("channel", "tensor")}

    def finish(self, student: Encoder, context: Context) -> None:
        """Choose int8 codecs and kernels. Masks of earlier stages stay, so pruned weights stay out of the file."""
        storage, stage = student.storage, codecs.Int8(self.options.per)
        linears = [
            path
            for path, module in student.named_modules()
            if isinstance(module, torch.nn.Linear) and not path.startswith("head.classifier")
        ]
        # Other matrices (of a recurrent student) are stored in int8 and execute in float32.
        stored = list(dict.fromkeys([*(f"{path}.weight" for path in linears), *student.matrix_names()]))
        if self.options.embeddings:
            stored.append("embedding.word.weight")
        for name in stored:
            storage.codecs[name] = storage.codecs.get(name, codecs.Codec()).with_stage(stage)
        weights = "embedding.word.importance"
        if self.options.embeddings and weights in student.contents():
            # A hashed token has few weights: one scale for each row would take more bytes than it saves.
            storage.codecs[weights] = storage.codecs.get(weights, codecs.Codec()).with_stage(
                codecs.Cast("float16")
            )
        storage.kernels.update({path: "int8" for path in linears})  # noqa: C420 - clearer
