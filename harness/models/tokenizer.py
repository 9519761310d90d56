"""The tokenizer that a model owns: a fast tokenizer of the `tokenizers` library, stored as tokenizer.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import BertWordPieceTokenizer, Encoding
from tokenizers import Tokenizer as FastTokenizer

from harness.common.errors import SkylineError
from harness.models.batch import Batch


class Tokenizer:
    """Texts to batches. Padding goes to the longest row of the batch; the mask is 0 there."""

    def __init__(self, fast: FastTokenizer) -> None:
        # A stored tokenizer may carry its own truncation and padding; ours are chosen at each call.
        fast.no_truncation()
        fast.no_padding()
        self.fast = fast
        pad = fast.token_to_id("[PAD]")
        self.pad_id = 0 if pad is None else pad

    @classmethod
    def from_folder(cls, folder: Path) -> Tokenizer:
        """Read tokenizer.json, or BERT's vocab.txt (lower-cased unless tokenizer_config.json says otherwise).

        Raises SkylineError where the folder has neither or the file cannot be read.
        """
        stored, vocabulary = folder / "tokenizer.json", folder / "vocab.txt"
        try:
            if stored.is_file():
                return cls(FastTokenizer.from_file(str(stored)))
            if vocabulary.is_file():
                path, config = folder / "tokenizer_config.json", dict[str, Any]()
                if path.is_file():
                    config = json.loads(path.read_text(encoding="utf-8"))
                wordpiece = BertWordPieceTokenizer(
                    str(vocabulary),
                    lowercase=config.get("do_lower_case", True),
                    strip_accents=config.get("strip_accents"),
                    handle_chinese_chars=config.get("tokenize_chinese_chars", True),
                )
                return cls(wordpiece._tokenizer)
        except Exception as error:  # the library raises bare Exception
            raise SkylineError(f"the tokenizer in {folder} cannot be read ({error}); copy it again") from None
        raise SkylineError(
            f"{folder} has no tokenizer.json and no vocab.txt; add the one the model was trained with"
        )

    @property
    def vocab_size(self) -> int:
        """The number of tokens, special ones included."""
        return self.fast.get_vocab_size()

    def same_as(self, other: Tokenizer) -> bool:
        """Whether both make the same tokens of every text."""
        return self is other or self.to_json() == other.to_json()

    def keep(self, kept: Sequence[int]) -> Tokenizer:
        """A tokenizer of the tokens `kept` (ids) alone, numbered anew in that order: what was a token of its own falls
        into pieces that are left.

        Raises SkylineError for one that is no WordPiece tokenizer, an id that it does not have, and where a special
        token would be missing.
        """
        data = json.loads(self.to_json())
        if data["model"]["type"] != "WordPiece":
            raise SkylineError(
                f"tokens can be taken out of a WordPiece tokenizer, not of {data['model']['type']}; "
                "use a BERT with a WordPiece vocabulary"
            )
        tokens = {number: token for token, number in self.fast.get_vocab().items()}
        if foreign := [number for number in kept if number not in tokens]:
            raise SkylineError(f"the tokenizer has no token {foreign[0]}; keep ids that it has")
        numbers = {tokens[old]: new for new, old in enumerate(kept)}
        missing = {data["model"]["unk_token"], *(added["content"] for added in data["added_tokens"])} - set(
            numbers
        )
        if missing:
            raise SkylineError(f"the special token '{min(missing)}' would be lost; keep it")
        data["model"]["vocab"] = {
            token: numbers[token] for token in data["model"]["vocab"] if token in numbers
        }
        for added in data["added_tokens"]:
            added["id"] = numbers[added["content"]]
        _renumber(data["post_processor"], numbers)
        return Tokenizer(FastTokenizer.from_str(json.dumps(data)))

    def tokens(self, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int) -> list[Encoding]:
        """Encode without padding, each cut at `max_length` (of a pair the longer text first).

        Raises SkylineError for what is no list of strings, lists of different lengths, or a `max_length` that
        the special tokens alone exceed.
        """
        _require_strings("texts", texts)
        if pairs is not None:
            _require_strings("pairs", pairs)
        if pairs is not None and len(texts) != len(pairs):
            raise SkylineError(f"there are {len(texts)} texts but {len(pairs)} pairs; give one to each")
        special = self.fast.num_special_tokens_to_add(pairs is not None)
        if max_length < special:
            raise SkylineError(f"{max_length} tokens hold no text: {special} are special ones; allow more")
        self.fast.enable_truncation(max_length)
        inputs = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        encodings = self.fast.encode_batch(inputs)
        self.fast.no_truncation()
        return encodings

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int) -> Batch:
        """Encode into one padded batch (b, longest row)."""
        if isinstance(texts, Sequence) and not texts:
            raise SkylineError("there are no texts to encode; give at least one")
        return self.pad(self.tokens(texts, pairs, max_length))

    def pad(self, encodings: Sequence[Encoding]) -> Batch:
        """Pad encodings to the longest and stack them: three tensors (b, longest row)."""
        shape = (len(encodings), max(len(e.ids) for e in encodings))
        ids = torch.full(shape, self.pad_id, dtype=torch.long)
        mask, segments = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        for row, encoding in enumerate(encodings):
            length = len(encoding.ids)
            ids[row, :length] = torch.tensor(encoding.ids)
            mask[row, :length] = 1
            segments[row, :length] = torch.tensor(encoding.type_ids)
        return Batch(ids, mask, segments)

    def to_json(self) -> str:
        """The content of tokenizer.json."""
        return str(self.fast.to_str())


def _renumber(processor: dict[str, Any] | None, numbers: Mapping[str, int]) -> None:
    """Give the special tokens of a stored post-processor (BERT's, a template, or several) their new ids, in place."""
    processor = processor or {}
    for name in ("cls", "sep"):
        if name in processor:
            processor[name][1] = numbers[processor[name][0]]
    for special in processor.get("special_tokens", {}).values():
        special["ids"] = [numbers[token] for token in special["tokens"]]
    for part in processor.get("processors", []):
        _renumber(part, numbers)


def _require_strings(name: str, given: object) -> None:
    if isinstance(given, str):
        raise SkylineError(f"{name} is a list of strings, not one string; put it in a list")
    if not isinstance(given, Sequence):
        raise SkylineError(f"{name} is a list of strings, not {type(given).__name__}; give a list")
    for place, item in enumerate(given):
        if not isinstance(item, str):
            raise SkylineError(f"{name}[{place}] is {type(item).__name__}, no string; give a list of strings")
