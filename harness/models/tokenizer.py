"""A model's tokenizer: a fast tokenizer of the `tokenizers` library, stored as tokenizer.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import BertWordPieceTokenizer, Encoding
from tokenizers import Tokenizer as FastTokenizer

from harness.common.errors import Code, SkylineError
from harness.models.batch import Batch


class Tokenizer:
    """Turns texts into batches. Rows are padded to the longest of the batch; the mask is 0 at padding."""

    def __init__(self, fast: FastTokenizer) -> None:
        # A stored tokenizer may have its own truncation and padding; here each call chooses them.
        fast.no_truncation()
        fast.no_padding()
        self.fast = fast
        pad = fast.token_to_id("[PAD]")
        self.pad_id = 0 if pad is None else pad

    @classmethod
    def from_folder(cls, folder: Path) -> Tokenizer:
        """Read tokenizer.json, or BERT's vocab.txt (lower-cased unless tokenizer_config.json says otherwise).

        Raises SkylineError if the folder has neither, or if the file cannot be read.
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
            raise SkylineError(
                f"the tokenizer in {folder} cannot be read ({error}); copy it again", Code.UNREADABLE
            ) from None
        raise SkylineError(
            f"{folder} has no tokenizer.json and no vocab.txt; add the one the model was trained with",
            Code.NOT_FOUND,
        )

    @property
    def vocab_size(self) -> int:
        """The number of tokens, including special ones."""
        return self.fast.get_vocab_size()

    def same_as(self, other: Tokenizer) -> bool:
        """Tell whether both tokenizers are equal."""
        return self is other or self.to_json() == other.to_json()

    def keep(self, kept: Sequence[int]) -> Tokenizer:
        """Return a tokenizer with only the tokens `kept` (ids); their new ids follow this order. A word whose token is
        removed is split into pieces that are left.

        Raises SkylineError if this is not a WordPiece tokenizer, if it does not have an id, or if a special token would
        be removed.
        """
        data = json.loads(self.to_json())
        if data["model"]["type"] != "WordPiece":
            raise SkylineError(
                f"tokens can be removed from a WordPiece tokenizer, not from {data['model']['type']}; "
                "use a BERT with a WordPiece vocabulary",
                Code.WRONG_KIND,
            )
        tokens = {number: token for token, number in self.fast.get_vocab().items()}
        if foreign := [number for number in kept if number not in tokens]:
            raise SkylineError(
                f"the tokenizer has no token {foreign[0]}; keep ids that it has", Code.OUT_OF_RANGE
            )
        numbers = {tokens[old]: new for new, old in enumerate(kept)}
        missing = {data["model"]["unk_token"], *(added["content"] for added in data["added_tokens"])} - set(
            numbers
        )
        if missing:
            raise SkylineError(f"the special token '{min(missing)}' would be lost; keep it", Code.INCOMPLETE)
        data["model"]["vocab"] = {
            token: numbers[token] for token in data["model"]["vocab"] if token in numbers
        }
        for added in data["added_tokens"]:
            added["id"] = numbers[added["content"]]
        _renumber(data["post_processor"], numbers)
        return Tokenizer(FastTokenizer.from_str(json.dumps(data)))

    def tokens(self, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int) -> list[Encoding]:
        """Encode texts without padding, each cut at `max_length` tokens; a pair is cut at its longer text first.

        Raises SkylineError if `texts` or `pairs` is not a list of strings, if their lengths differ, or if the special
        tokens alone exceed `max_length`.
        """
        _require_strings("texts", texts)
        if pairs is not None:
            _require_strings("pairs", pairs)
        if pairs is not None and len(texts) != len(pairs):
            raise SkylineError(
                f"there are {len(texts)} texts but {len(pairs)} pairs; give one to each", Code.INCOMPLETE
            )
        special = self.fast.num_special_tokens_to_add(pairs is not None)
        if max_length < special:
            raise SkylineError(
                f"max_length={max_length} leaves no room for text: special tokens take {special}; allow more",
                Code.OUT_OF_RANGE,
            )
        self.fast.enable_truncation(max_length)
        inputs = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        encodings = self.fast.encode_batch(inputs)
        self.fast.no_truncation()
        return encodings

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int) -> Batch:
        """Encode texts into one padded batch (b, longest row). Raises SkylineError as `tokens` does, or for no text."""
        if isinstance(texts, Sequence) and not texts:
            raise SkylineError("there are no texts to encode; give at least one", Code.NO_DATA)
        return self.pad(self.tokens(texts, pairs, max_length))

    def pad(self, encodings: Sequence[Encoding]) -> Batch:
        """Pad encodings to the longest and stack them into a batch (b, longest row)."""
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
        """Return the content of tokenizer.json."""
        return str(self.fast.to_str())


def _renumber(processor: dict[str, Any] | None, numbers: Mapping[str, int]) -> None:
    """Update the ids of special tokens in a stored post-processor (BERT's, a template, or a sequence), in place."""
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
        raise SkylineError(f"{name} is a list of strings, not one string; put it in a list", Code.WRONG_KIND)
    if not isinstance(given, Sequence):
        raise SkylineError(
            f"{name} is a list of strings, not {type(given).__name__}; give a list", Code.WRONG_KIND
        )
    for place, item in enumerate(given):
        if not isinstance(item, str):
            raise SkylineError(
                f"{name}[{place}] is {type(item).__name__}, no string; give a list of strings",
                Code.WRONG_KIND,
            )
