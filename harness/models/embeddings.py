"""Word embeddings other than a table: sums of code-book entries, and sums of hashed buckets.

Both hold their vectors in `weight`, as a table does, so methods that quantize or prune word embeddings find them under
the same name. Shapes: vocabulary V, hidden size H, M code books of K entries, k hashes into B buckets.
"""

from __future__ import annotations

import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.config import CodedWords, HashedWords

PRIME = 2**31 - 1
"""The modulus of the hash functions. Products of two numbers below it fit in 63 bits."""


class CodedEmbedding(nn.Module):
    """e_w = Σ_m C_m[code_{w,m}] over M code books of K entries (Shu & Nakayama 2018, equation 2).

    `weight` (M · K, H) holds the books one after the other. `codes` (V, M), uint8 below K, is a buffer: it is stored
    and counted like a parameter, but not trained.
    """

    codes: Tensor

    def __init__(self, vocab_size: int, hidden: int, words: CodedWords) -> None:
        super().__init__()
        self.books, self.entries = words.books, words.entries
        self.weight = nn.Parameter(torch.zeros(words.books * words.entries, hidden))
        self.register_buffer("codes", torch.zeros(vocab_size, words.books, dtype=torch.uint8))

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids (b, n) to embeddings (b, n, H)."""
        first = torch.arange(self.books, device=ids.device) * self.entries
        rows = (self.codes[ids].long() + first).flatten(0, 1)  # (b · n, M)
        return F.embedding_bag(rows, self.weight, mode="sum").view(*ids.shape, self.weight.shape[1])

    def initialize(self, deviation: float, generator: torch.Generator) -> None:
        """Draw random codes and entries such that an embedding has the standard deviation `deviation`."""
        self.weight.data.normal_(0.0, deviation * self.books**-0.5, generator=generator)
        self.codes.data.random_(0, self.entries, generator=generator)


class HashedEmbedding(nn.Module):
    """e_w = Σ_i p_{w,i} · B[h_i(w)] over k hashes into one pool of B buckets (Svenstrup et al. 2017, section 3).

    `weight` (B, H) is the pool; `importance` (V, k) holds each token's weights p. With `words.rows` the weights are
    hashed too: `importance` is (rows, k) and p_{w,i} = importance[g_i(w), i]. Hashes are computed, not stored.
    """

    def __init__(self, vocab_size: int, hidden: int, words: HashedWords) -> None:
        super().__init__()
        self.buckets = words.buckets
        self.hashes = [hash_constants(index) for index in range(words.hashes)]
        self.weight = nn.Parameter(torch.zeros(words.buckets, hidden))
        self.rows = words.rows
        # At most 16 hash functions choose buckets, so those from 16 on are different ones.
        self.row_hashes = [hash_constants(16 + index) for index in range(words.hashes)]
        self.importance = nn.Parameter(torch.zeros(words.rows or vocab_size, words.hashes))

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids (b, n) to embeddings (b, n, H)."""
        places = self.places(ids).flatten(0, 1)  # (b · n, k)
        importance = self.weights_of(ids).flatten(0, 1)  # (b · n, k)
        summed = F.embedding_bag(places, self.weight, mode="sum", per_sample_weights=importance)
        return summed.view(*ids.shape, self.weight.shape[1])

    def places(self, ids: Tensor) -> Tensor:
        """Return the buckets (…, k) of ids (…): h_i(w) = ((a_i · w + b_i) mod (2³¹ − 1)) mod B, a universal family of
        hash functions (Carter & Wegman 1979).
        """
        return _hashed(ids, self.hashes, self.buckets)

    def weights_of(self, ids: Tensor) -> Tensor:
        """Return the weights p (…, k) of ids (…)."""
        if self.rows is None:
            return F.embedding(ids, self.importance)
        hashes = torch.arange(len(self.row_hashes), device=ids.device)
        return self.importance[_hashed(ids, self.row_hashes, self.rows), hashes]

    def initialize(self, deviation: float, generator: torch.Generator) -> None:
        """Draw random buckets with the standard deviation `deviation`; every weight is 1 / √k."""
        self.weight.data.normal_(0.0, deviation, generator=generator)
        self.importance.data.fill_(len(self.hashes) ** -0.5)


def _hashed(ids: Tensor, hashes: list[tuple[int, int]], count: int) -> Tensor:
    """Hash ids (…) to numbers below `count`, one for each function: (…, k)."""
    return torch.stack([(ids * a + b) % PRIME % count for a, b in hashes], dim=-1)


def hash_constants(index: int) -> tuple[int, int]:
    """Return a (not 0) and b of hash function `index`, both below 2³¹ − 1. Artifacts depend on them."""
    digest = hashlib.sha256(f"word hash {index}".encode()).digest()
    a, b = (int.from_bytes(digest[start : start + 8], "little") for start in (0, 8))
    return 1 + a % (PRIME - 1), b % PRIME


def word_embedding(
    vocab_size: int, size: int, words: CodedWords | HashedWords | None = None
) -> nn.Embedding | CodedEmbedding | HashedEmbedding:
    """Make the module that maps ids (b, n) to embeddings (b, n, size): a table unless `words` is given."""
    if isinstance(words, CodedWords):
        return CodedEmbedding(vocab_size, size, words)
    if isinstance(words, HashedWords):
        return HashedEmbedding(vocab_size, size, words)
    return nn.Embedding(vocab_size, size)
