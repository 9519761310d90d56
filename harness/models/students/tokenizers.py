"""The tokenizers of students: byte pairs or characters, learned from a task's training texts.

Both are stored as the `tokenizers` library's own tokenizer.json.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tokenizers import Regex, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as FastTokenizer

from harness.common.errors import Code, SkylineError
from harness.models.tokenizer import Tokenizer

SPECIAL = ("[PAD]", "[UNK]")
SPACE = "▁"
"""Marks the beginning of a word, as in SentencePiece."""
COVERED = 0.999
"""The share of the training texts' characters that a byte-pair vocabulary must contain."""


def byte_pair_tokenizer(texts: Sequence[str], size: int) -> Tokenizer:
    """Learn a byte-pair encoding of at most `size` tokens from `texts` (Sennrich et al. 2016, section 3.2).

    Texts are lower-cased; punctuation is split off. Raises SkylineError if `size` has no room for the texts'
    characters.
    """
    fast = FastTokenizer(models.BPE(unk_token=SPECIAL[1], fuse_unk=True))
    fast.normalizer = _lower_case()
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always"), pre_tokenizers.Punctuation()]
    )
    ranked = characters(fast, texts)
    needed, room = _covering(ranked), size - len(SPECIAL) - 1
    if needed > room:
        raise SkylineError(
            f"vocabulary={size} has no room for the {needed} characters that the training texts are made of; "
            f"use at least vocabulary={needed + len(SPECIAL) + 1}",
            Code.OUT_OF_RANGE,
        )
    # Rare characters get at most a quarter of the vocabulary; the rest is for pairs.
    alphabet = [SPACE, *(character for character, _ in ranked[: max(needed, size // 4)])]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    fast.train_from_iterator(texts, trainer)
    return _finished(fast)


def character_tokenizer(texts: Sequence[str], size: int) -> Tokenizer:
    """Make a tokenizer of the most frequent characters of `texts`, lower-cased: `size` tokens at most, including
    special tokens and the blank.
    """
    blanks = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    normalizer = normalizers.Sequence([_lower_case(), *blanks])
    fast = FastTokenizer(models.WordLevel({}, unk_token=SPECIAL[1]))
    fast.normalizer = normalizer
    kept = [character for character, _ in characters(fast, texts)][: size - len(SPECIAL) - 1]
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, " ", *kept])}
    fast.model = models.WordLevel(vocabulary, unk_token=SPECIAL[1])
    fast.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return _finished(fast)


def characters(fast: FastTokenizer, texts: Sequence[str]) -> list[tuple[str, int]]:
    """Count the characters of `texts`, without blanks, after the tokenizer's normalizer: the most frequent first,
    equally frequent ones by code point.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(fast.normalizer.normalize_str(text))
    found = [(character, count) for character, count in counts.items() if not character.isspace()]
    return sorted(found, key=lambda each: (-each[1], each[0]))


def _covering(ranked: Sequence[tuple[str, int]]) -> int:
    """Return the number of most frequent characters that make up the share `COVERED` of the texts."""
    wanted, seen = COVERED * sum(count for _, count in ranked), 0
    for number, (_, count) in enumerate(ranked, 1):
        seen += count
        if seen >= wanted:
            return number
    return 0


def _lower_case() -> normalizers.Normalizer:
    return normalizers.BertNormalizer(lowercase=True)


def _finished(fast: FastTokenizer) -> Tokenizer:
    # No separator: only the segment ids mark a pair's second text.
    fast.post_processor = processors.TemplateProcessing(single="$A:0", pair="$A:0 $B:1", special_tokens=[])
    return Tokenizer(fast)
