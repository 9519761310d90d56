"""Architectures of published models that no recipe makes of a base model, or only by much work, by name: drawn at
random, never trained, for profiles of what a shape costs. A recipe starts from one by its name in brackets:
`[mobilebert] > dynamic-int8`.
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
"""A cell whose kernels sum to 31 tokens. The cells that searches found are not published."""

DEEBERT_LAYERS = 9
"""Of 12: where each row leaves. The published distribution is not known; 12 / 9 = 1.33, published is 1.28."""


def _deebert() -> EncoderConfig:
    """BERT-base whose rows all leave at one of DeeBERT's ramps, whatever they say."""
    layers = (LayerConfig(exit="pooler"),) * 11 + (LayerConfig(),)
    rule = ExitRule(kind="stated", threshold=DEEBERT_LAYERS)
    return EncoderConfig(layers=layers, exit_rule=rule)


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        # Chen et al. 2020a: eight cells of 128 channels, words of 128; the mean of 9.5, 8.2 and 6.4 million
        # parameters (MNLI, QQP, SST-2) gives the kernels.
        "adabert": ConvolutionalConfig(cells=8, channels=128, embedding_size=128, genotype=WIDE_CELL),
        # Xin et al. 2020, section 3.1.
        "deebert": _deebert(),
        # Mao et al. 2020: words at half their width; the ranks are those of Noach & Goldberg, the paper's not known.
        "ladabert": EncoderConfig(
            embedding_rank=384, layers=(LayerConfig(ranks=dict.fromkeys(MATRICES, 245)),) * 12
        ),
        # Song et al. 2020, as its size implies: no pooler is counted.
        "lightpaff": EncoderConfig.bert(3, 512, 8, 2048, pooler=False),
        # Liu et al. 2019a: words of 90 MB, 11 MB of LSTM with attention.
        "mkd-bilstm": RecurrentConfig(embedding_size=768, hidden=288, pooling="attention"),
        # Sun et al. 2020b, Table 1.
        "mobilebert": BottleneckConfig(),
        # Jiao et al. 2020, section 4.2.
        "tinybert-4": EncoderConfig.bert(4, 312, 12, 1200),
        # Zhao et al. 2019b, the smallest; with as many positions as the others, where the paper has 128.
        "zhao-48": EncoderConfig.bert(12, 48, 12, 192, vocab_size=4928),
    }
)
"""By name, with two classes."""


def architecture(name: str) -> Architecture:
    """The architecture of that name. Raises SkylineError (with the nearest name) where there is none."""
    if name not in ARCHITECTURES:
        raise unknown_name("architecture", name, ARCHITECTURES)
    return ARCHITECTURES[name]
