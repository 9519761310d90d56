"""linformer: keys and values are projected from n tokens to fewer places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Claim, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.attention_kinds import LinformerAttention
from harness.models.config import EncoderConfig
from harness.models.shape_checks import refuse_eliminated, refuse_other_attention

with lazy_imports():
    from harness.models import surgery


if TYPE_CHECKING:
    from harness.compression.context import Context
    from harness.models.attention_kinds import LinformerAttention
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder


class Linformer(Method):
    """Low-rank attention (Wang et al. 2020, section 4): softmax(Q (E K)ᵀ / √d) F V. Each layer learns E and F
    (places × tokens), which its heads share. Starts from the fine-tuned weights and is fine-tuned further.
    """

    card = Card(
        id="linformer",
        title="Linformer",
        family="attention-decomposition",
        paper=Paper(
            title="Linformer: Self-Attention with Linear Complexity",
            authors="Wang, Li, Khabsa, Fang, Ma",
            year=2020,
            venue="arXiv",
            link="https://arxiv.org/abs/2006.04768",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "The paper draws E and F at random and pre-trains with them. Here they are added to a fine-tuned encoder, "
            "begin as means over blocks of tokens, and are fine-tuned with it on the task alone, which is weaker than "
            "published. E X is computed before the key and value maps, as in the released code. Padding is zeroed "
            "before E and F. A place whose block begins after the end of the sequence is left out, so short sequences "
            "have fewer places. One projection for all layers is not offered."
        ),
        touches=("attention_in", "attention"),
        reduces=("flops",),
        claims=(
            Claim(
                "sst2",
                "dev",
                "accuracy",
                93.2,
                "remembered, pre-trained with it",
                False,
                {"projected": 256, "length": 512},
                "roberta-base",
            ),
            Claim(
                "qqp",
                "dev",
                "accuracy",
                90.5,
                "remembered, pre-trained with it",
                False,
                {"projected": 256, "length": 512},
                "roberta-base",
            ),
        ),
        notes=(
            "The artifact takes sequences of up to `length` tokens: later positions are removed, and longer inputs are "
            "cut. At n tokens there are projected · n / length places. The key and value maps are applied only to "
            "these places, which saves more at 128 tokens than attention itself. E and F add 2 · projected · length "
            "weights to a layer."
        ),
    )
    decides = frozenset({"the student"})

    @options
    class Options:
        """`length`: tokens of the longest sequence; `projected`: places that such a sequence is projected to;
        `shared_kv`: one projection for keys and values.
        """

        projected: Annotated[int, Field(ge=1)] = 32
        length: Annotated[int, Field(ge=1)] = 128
        shared_kv: bool = False

    suite = {"projected": (16, 32), "length": (64, 128), "shared_kv": (False, True)}

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape with projected attention and `length` positions.

        Raises SkylineError: OUT_OF_RANGE if `projected` is not below `length`; WRONG_SHAPE if attention is restricted
        already, or if word-vectors are eliminated.
        """
        refuse_other_attention(config)
        refuse_eliminated(config, "which needs the attention that each token gets; leave one of them out")
        kind = self._kind(config)
        shorter = EncoderConfig.model_validate({**config.model_dump(), "positions": kind.length})
        return shorter.with_layers(
            tuple(layer.model_copy(update={"attention": kind}) for layer in config.layers)
        )

    def _kind(self, config: EncoderConfig) -> LinformerAttention:
        o = self.options
        length = min(o.length, config.positions)
        if o.projected >= length:
            raise SkylineError(
                f"projected={o.projected} is not below the sequence length of {length} tokens; use a smaller number",
                Code.OUT_OF_RANGE,
            )
        return LinformerAttention(projected=o.projected, length=length, shared_kv=o.shared_kv)

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """Return a copy of the teacher with projections E and F in every layer."""
        kind = self._kind(teacher.config)
        return surgery.set_attention(surgery.keep_positions(teacher, kind.length), kind)
