"""The tokenizers that students own: byte pairs or characters of a task's training texts. Both are plain tokenizer.json
files of the `tokenizers` library.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tokenizers import Regex, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as FastTokenizer

from harness.common.errors import SkylineError
from harness.models.tokenizer import Tokenizer

SPECIAL = ("[PAD]", "[UNK]")
SPACE = "▁"
"""Where a word begins, as in SentencePiece."""
COVERED = 0.999
"""The share of the training texts whose characters byte pairs must have."""


def byte_pair_tokenizer(texts: Sequence[str], size: int) -> Tokenizer:
    """Byte-pair encoding of at most `size` tokens (Sennrich et al. 2016, section 3.2) learned from `texts`, in lower
    case; punctuation stands alone. Raises SkylineError where the texts' characters alone are more.
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
            f"use at least vocabulary={needed + len(SPECIAL) + 1}"
        )
    # A quarter at most goes to rare characters: the rest is for pairs.
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
    """The `size` most frequent characters of `texts`, lower-cased, special tokens and the blank among them."""
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
    """The characters of `texts` but blanks, as the tokenizer's normalizer leaves them, with their numbers: the most
    frequent first, equally frequent ones by code point.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(fast.normalizer.normalize_str(text))
    found = [(character, count) for character, count in counts.items() if not character.isspace()]
    return sorted(found, key=lambda each: (-each[1], each[0]))


def _covering(ranked: Sequence[tuple[str, int]]) -> int:
    """How many of the most frequent characters make up all but a thousandth of the texts."""
    wanted, seen = COVERED * sum(count for _, count in ranked), 0
    for number, (_, count) in enumerate(ranked, 1):
        seen += count
        if seen >= wanted:
            return number
    return 0


def _lower_case() -> normalizers.Normalizer:
    return normalizers.BertNormalizer(lowercase=True)


def _finished(fast: FastTokenizer) -> Tokenizer:
    # A pair's second text is told by its segment alone.
    fast.post_processor = processors.TemplateProcessing(single="$A:0", pair="$A:0 $B:1", special_tokens=[])
    return Tokenizer(fast)
