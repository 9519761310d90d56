"""The size columns of Ganesh et al. 2021, Table 1, recomputed from the description in each row's paper.

By the survey's convention a weight of k bits counts k / 32; pruned weights, masks, indices, scales, centroids and exit
ramps count nothing. "Without embeddings" leaves out only the word-embedding matrix, of BERT-base and of the compressed
model. A method that keeps the word embeddings, and the density d of everything else, has the size s + d (1 - s) with
embeddings, where s is the share of the word-embedding matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from harness.models.config import MATRICES, LayerConfig
from harness.models.parameter_counts import Count, count
from leaderboard.survey.shapes import bert

BASE = count(bert(12, 768))
"""The number of BERT-base's parameters, by component."""

EMBEDDING_SHARE = BASE.word_embedding / BASE.total
"""s, the share of the word-embedding matrix in BERT-base."""


@dataclass(frozen=True)
class Recomputed:
    """Both size columns in percent (None: it cannot be computed), and `how` they were computed.

    `sure` is False if the input was remembered and not read in the paper.
    """

    with_embeddings: float | None
    without_embeddings: float | None
    how: str
    sure: bool = True


def with_embeddings(density_pct: float, embedding_density_pct: float = 100.0) -> float:
    """Compute the size in percent of BERT-base from the densities (percent) of the encoder and the word embeddings."""
    return EMBEDDING_SHARE * embedding_density_pct + (1 - EMBEDDING_SHARE) * density_pct


def implied_embedding_density(with_pct: float, without_pct: float) -> float:
    """Compute the density (percent) of the word embeddings at which a row's two size columns agree."""
    return (with_pct - (1 - EMBEDDING_SHARE) * without_pct) / EMBEDDING_SHARE


ENCODER_ONLY = frozenset({4, 5, 6, 7, 12, 13, 23})
"""Rows that do not change BERT-base's word embeddings, so their columns follow the formula."""


def _of(
    parts: Count, how: str, sure: bool = True, words: int | None = None, rest: int | None = None
) -> Recomputed:
    """Compute the sizes of a whole small model; `words` and `rest` replace the two parts of the count."""
    embedding = parts.word_embedding if words is None else words
    other = parts.without_word_embedding if rest is None else rest
    return Recomputed(
        100 * (embedding + other) / BASE.total, 100 * other / BASE.without_word_embedding, how, sure
    )


def _q_bert() -> Recomputed:
    embeddings = BASE.word_embedding + BASE.embedding
    stored = (embeddings * 8 + BASE.layers * 4) / 32
    return Recomputed(
        100 * stored / (embeddings + BASE.layers),
        100 * 4 / 32,
        "4-bit weights, 8-bit embeddings, relative to BERT-base without its pooler",
    )


def _gobo(bits: int, outliers: float, encoder: float, how: str) -> Recomputed:
    density = encoder * 100 * (bits / 32 + outliers * 64 / 32)
    return Recomputed(with_embeddings(density, 100 * 4 / 32), density, how)


def _schubert() -> Recomputed:
    parts = count(
        bert(12, 304, 1, 3072).with_layers((LayerConfig(heads=12, head_size=64, ffn_size=3072),) * 12)
    )
    return _of(parts, "hidden size 304, 12 heads of 64, FFN 3072")


def _lightpaff() -> Recomputed:
    config = bert(3, 512, pooler=False)
    parts = count(config)
    rest = parts.without_word_embedding - config.positions * config.hidden_size
    return _of(parts, "3 layers of 512, positions and pooler left out", sure=False, rest=rest)


def _tinybert() -> Recomputed:
    parts = count(bert(4, 312, 12, 1200))
    fit = 312 * 768 + 768
    return _of(
        parts,
        "4 layers of 312, with the distillation's 312 -> 768 projection",
        rest=parts.without_word_embedding + fit,
    )


def _noach() -> Recomputed:
    layer = LayerConfig(ranks=dict.fromkeys(MATRICES, 245))
    return _of(
        count(bert(12, 768).with_layers((layer,) * 12)),
        "every matrix of the encoder at rank 245",
        sure=False,
    )


def _albert_parts() -> tuple[int, int]:
    """Count ALBERT-base's word embeddings (30,000 of width 128), and the rest: other embeddings, one layer, pooler."""
    width, hidden = 128, 768
    layer = BASE.layers // 12
    rest = (512 + 2) * width + 2 * width + width * hidden + hidden + layer + BASE.pooler
    return 30000 * width, rest


def _albert() -> Recomputed:
    words, rest = _albert_parts()
    return _of(BASE, "one shared layer, 30,000 words at width 128", words=words, rest=rest)


def _edgebert() -> Recomputed:
    words, rest = _albert_parts()
    stored_words, stored_rest = words * 0.6 * 8 / 32, rest * 0.4 * 8 / 32
    mask = 100 * (words + rest) / 32 / BASE.total
    return Recomputed(
        100 * (stored_words + stored_rest) / BASE.total,
        100 * stored_rest / BASE.without_word_embedding,
        "ALBERT in 8 bits, 40 % of the encoder and 60 % of the embeddings kept; its bitmask is not counted "
        f"(+{mask:.2f} pp)",
        sure=False,
    )


def _zhao() -> Recomputed:
    config = bert(12, 48, 12, vocab_size=4928, positions=128)
    parts = count(config)
    ratio = ZHAO_PUBLISHED / (parts.total + _zhao_heads())
    return _of(
        parts,
        f"the described model, 12 layers of 48 with 4,928 words, has {parts.total:,} parameters; the published "
        f"{ZHAO_PUBLISHED:,} are {ratio:.2f} times its parameters with pre-training heads, as if an optimizer's two "
        "slots were counted",
    )


def _zhao_heads() -> int:
    """Count the heads that the published count includes: MLM (tied decoder, bias) and next sentence."""
    hidden, vocabulary = 48, 4928
    return (hidden * hidden + hidden) + 2 * hidden + vocabulary + (2 * hidden + 2)


def _deebert() -> Recomputed:
    ramps = 11 * (BASE.pooler + 2 * 768 + 2)
    return Recomputed(
        100 * (BASE.total + ramps) / BASE.total,
        100 * (BASE.without_word_embedding + ramps) / BASE.without_word_embedding,
        f"each of 11 exit ramps has a pooler: {ramps:,} parameters that the survey does not count",
    )


ZHAO_PUBLISHED = 1_775_910
MOBILEBERT_PUBLISHED = 25_300_000
_MOBILEBERT_WORDS = 30522 * 128
_ADABERT_PARAMS = (9.5e6, 8.2e6, 6.4e6)
_ADABERT_WORDS = 30522 * 128


def _small_model(params: float, words: int, bits: int, how: str, sure: bool = True) -> Recomputed:
    return Recomputed(
        100 * params * bits / 32 / BASE.total,
        100 * (params - words) * bits / 32 / BASE.without_word_embedding,
        how,
        sure,
    )


RECOMPUTED: Mapping[int, Recomputed] = MappingProxyType(
    {
        2: _q_bert(),
        3: _gobo(3, 0.001, 1.0, "3-bit weights, 4-bit embeddings, 0.1 % outliers of 64 bits"),
        8: _schubert(),
        9: _lightpaff(),
        10: Recomputed(
            100 * 101 / 417.6, 100 * 11 / 328.2, "the survey's text: 101 and 11 MiB of 417.6 and 328.2 MiB"
        ),
        11: _small_model(
            sum(_ADABERT_PARAMS) / len(_ADABERT_PARAMS),
            _ADABERT_WORDS,
            32,
            "the mean of 9.5, 8.2 and 6.4 M parameters (MNLI, QQP, SST-2), words at width 128",
            sure=False,
        ),
        14: _small_model(
            MOBILEBERT_PUBLISHED, _MOBILEBERT_WORDS, 32, "the published 25.3 M parameters, words at width 128"
        ),
        15: _tinybert(),
        16: _zhao(),
        17: _noach(),
        18: Recomputed(100.0, 100.0, "no weight is removed or added"),
        19: _deebert(),
        20: Recomputed(100.0, 100.0, "no weight is removed or added"),
        21: _albert(),
        22: Recomputed(
            with_embeddings(37.3, 50.0),
            None,
            "the printed 37.3 % and word embeddings of half the size",
            sure=False,
        ),
        24: _gobo(4, 0.0, 0.5, "half the layers, 4-bit weights and embeddings"),
        25: _small_model(
            MOBILEBERT_PUBLISHED,
            _MOBILEBERT_WORDS,
            8,
            "the published 25.3 M parameters in 8 bits, words at width 128",
        ),
        26: _edgebert(),
    }
)
"""The recomputed sizes by row of the table, for the rows that are not `ENCODER_ONLY`."""
