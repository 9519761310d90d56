"""q8bert: quantization-aware fine-tuning with eight bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Claim, Method, Paper, options
from harness.common.lazy import lazy_imports

with lazy_imports():
    from harness.compression.quantization import fake_quantization
    from harness.models import codecs


if TYPE_CHECKING:
    from harness.compression.context import Context
    from harness.models.encoder.encoder import Encoder

WORDS = "embedding.word.weight"


class Q8BERT(Method):
    """Quantization-aware training (Zafrir et al. 2019): weights in symmetric int8 with one scale for each matrix,
    inputs of linear maps in int8 with a moving average as range. Gradients pass straight through the rounding.
    """

    card = Card(
        id="q8bert",
        title="Q8BERT",
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
            "Training follows the released code, except that outputs are not requantized and the classifier stays "
            "float32. The artifact's kernels compute one scale for each input token at run time instead of using the "
            "trained range, so a sentence's result does not depend on its batch."
        ),
        touches=("embedding", "attention_in", "attention_out", "ffn", "head"),
        reduces=("disk", "latency"),
        claims=(
            Claim(
                "sst2",
                "dev",
                "accuracy",
                92.24,
                "Table 1, quantization-aware training",
                False,
                {"embeddings": True},
            ),
        ),
        notes="With a decay of 0.9999 the range hardly changes in a short run. It begins with the first batch's range.",
    )
    decides = frozenset({"how weights are stored"})
    must_be_last = True

    @options
    class Options:
        """`ema_decay`: decay of the inputs' range; `embeddings`: quantize word embeddings too."""

        ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9999
        embeddings: bool = True

    suite = {"ema_decay": (0.9999, 0.9), "embeddings": (True, False)}

    def prepare(self, student: Encoder, context: Context) -> None:
        """Attach rounding of weights and inputs to the forward pass."""
        names = [*fake_quantization.linear_weights(student), *([WORDS] if self.options.embeddings else [])]
        self.training = fake_quantization.QuantizedTraining(
            student, dict.fromkeys(names, codecs.Int8("tensor")), self.options.ema_decay
        )

    def finish(self, student: Encoder, context: Context) -> None:
        """Choose int8 codecs and kernels."""
        self.training.end(student)
        storage = student.storage
        for name, stage in self.training.stages.items():
            storage.codecs[name] = storage.codecs.get(name, codecs.Codec()).with_stage(stage)
            if name != WORDS:
                storage.kernels[name.removesuffix(".weight")] = "int8"
