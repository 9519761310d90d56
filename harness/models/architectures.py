"""Published architectures that a recipe can start from by name: `[mobilebert] > dynamic-int8`.

No recipe derives these from a base model, or only at great cost. Their weights are random and never trained: they serve
to profile what a shape costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from harness.common.errors import unknown_name
from harness.models.config import MATRICES, EncoderConfig, ExitRule, LayerConfig
from harness.models.students.bottleneck_config import BottleneckConfig
from harness.models.students.config import ConvolutionalConfig, Genotype, RecurrentConfig

Architecture = EncoderConfig | BottleneckConfig | ConvolutionalConfig | RecurrentConfig

WIDE_CELL: Genotype = (
    ((0, "conv7"), (1, "conv7")),
    ((1, "max-pool"), (2, "dilated7")),
    ((2, "conv5"), (3, "dilated5")),
)
"""A cell whose kernel widths sum to 31 tokens. The paper does not publish the cells that its searches found."""

DEEBERT_LAYERS = 9
"""Every row exits after this layer of 12. The paper does not give the distribution of exits: here the speed-up is
12 / 9 = 1.33, the published one is 1.28.
"""


def _deebert() -> EncoderConfig:
    """BERT-base with DeeBERT's exit ramps; all rows exit at the same one, whatever its logits are."""
    layers = (LayerConfig(exit="pooler"),) * 11 + (LayerConfig(),)
    rule = ExitRule(kind="stated", threshold=DEEBERT_LAYERS)
    return EncoderConfig(layers=layers, exit_rule=rule)


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        # Chen et al. 2020a: eight cells of 128 channels, word embeddings of size 128. The kernel widths are chosen to
        # meet the mean of the published sizes: 9.5, 8.2 and 6.4 million parameters (MNLI, QQP, SST-2).
        "adabert": ConvolutionalConfig(cells=8, channels=128, embedding_size=128, genotype=WIDE_CELL),
        # Xin et al. 2020, section 3.1.
        "deebert": _deebert(),
        # Mao et al. 2020: word embeddings of half the width. The paper does not give its ranks; these are from
        # Noach & Goldberg 2020.
        "ladabert": EncoderConfig(
            embedding_rank=384, layers=(LayerConfig(ranks=dict.fromkeys(MATRICES, 245)),) * 12
        ),
        # Song et al. 2020; the published size implies that the pooler is not counted.
        "lightpaff": EncoderConfig.bert(3, 512, 8, 2048, pooler=False),
        # Liu et al. 2019a: 90 MB of word embeddings and 11 MB of LSTM with attention.
        "mkd-bilstm": RecurrentConfig(embedding_size=768, hidden=288, pooling="attention"),
        # Sun et al. 2020b, Table 1.
        "mobilebert": BottleneckConfig(),
        # Jiao et al. 2020, section 4.2.
        "tinybert-4": EncoderConfig.bert(4, 312, 12, 1200),
        # Zhao et al. 2019b, the smallest; 512 positions like the other architectures here, 128 in the paper.
        "zhao-48": EncoderConfig.bert(12, 48, 12, 192, vocab_size=4928),
    }
)
"""The configurations by name, each with a head of two classes."""


def architecture(name: str) -> Architecture:
    """Return the architecture called `name`. Raises SkylineError, with the nearest known name, if there is none."""
    if name not in ARCHITECTURES:
        raise unknown_name("architecture", name, ARCHITECTURES)
    return ARCHITECTURES[name]
