"""The kinds of attention: full, top-k, local, soft windows, within segments, Linformer. Only Linformer's has weights.

Shapes: b sequences, n tokens, h heads of size d, m keys, w the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.attention_kinds import (
    AttentionKind,
    LinformerAttention,
    LocalAttention,
    SegmentAttention,
    SpanAttention,
    TopKAttention,
)
from harness.models.batch import AttentionMap, Batch
from harness.models.config import EncoderConfig, LayerConfig


@dataclass(frozen=True)
class Tokens:
    """The tokens that remain at a layer, both (b, n): `present` is false at padding, `segments` are their segments."""

    present: Tensor
    segments: Tensor

    @classmethod
    def of(cls, batch: Batch) -> Tokens:
        """Return all tokens of a batch."""
        return cls(batch.attention_mask.bool(), batch.token_type_ids)

    def mask(self, kind: AttentionKind | None) -> Tensor:
        """Return the attention mask, true where a key may be attended to: (b, 1, 1, n), or (b, 1, n, n) if it depends
        on the query.
        """
        present = self.present[:, None, None, :]  # (b, 1, 1, n)
        if isinstance(kind, SegmentAttention):
            same = self.segments[:, None, :, None] == self.segments[:, None, None, :]  # (b, 1, n, n)
            # Padding attends to every token: if all scores of a query were masked, its softmax would be NaN.
            return present & (same | ~self.present[:, None, :, None])
        return present

    def rows(self, chosen: Tensor) -> Tokens:
        """Return the tokens of some rows, chosen by a mask (b,) or by indices."""
        return Tokens(self.present[chosen], self.segments[chosen])

    def places(self, chosen: Tensor) -> Tokens:
        """Return the tokens at the positions `chosen` (b, kept) of each row."""
        return Tokens(self.present.gather(1, chosen), self.segments.gather(1, chosen))


class Attention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017, equation 1) to the tokens that a mask allows."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, maps: bool = False
    ) -> tuple[Tensor, AttentionMap | None]:
        """Map queries, keys and values (b, h, n, d) to the context (b, n, h·d), and the attention map if `maps`.

        `mask`, (b, 1, 1, n) or (b, 1, n, n), is true where a key may be attended to.
        """
        if maps:
            context, attention = self.with_map(query, key, value, mask)  # (b, h, n, d)
            return merge_heads(context), attention
        return merge_heads(self.fused(query, key, value, mask)), None

    def fused(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """Compute the context (b, h, n, d) by torch's fused kernel. A mask of floats is added to the scores."""
        dropout = self.dropout if self.training else 0.0
        context: Tensor = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return context

    def with_map(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor
    ) -> tuple[Tensor, AttentionMap]:
        """Compute the context (b, h, n, d) step by step, with the attention map."""
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5  # (b, h, n, m)
        probabilities = torch.softmax(self.adjust(scores.masked_fill(~mask, float("-inf"))), dim=-1)
        dropped = F.dropout(probabilities, self.dropout, self.training)
        return dropped @ value, AttentionMap(scores, probabilities)

    def adjust(self, scores: Tensor) -> Tensor:
        """Change masked scores (b, h, n, m) before the softmax; a score that takes no part becomes −inf."""
        return scores


def merge_heads(context: Tensor) -> Tensor:
    """Concatenate the heads' contexts: (b, h, n, d) → (b, n, h·d)."""
    return context.transpose(1, 2).flatten(2)


class ExplicitSparseAttention(Attention):
    """Explicit sparse attention (Zhao et al. 2019, section 2, equations 5-6): only a query's scores that are at least
    its k-th largest take part. All scores are computed, so it saves no work.
    """

    def __init__(self, dropout: float, k: int) -> None:
        super().__init__(dropout)
        self.k = k

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, maps: bool = False
    ) -> tuple[Tensor, AttentionMap | None]:
        """Compute attention as `Attention.forward` does."""
        context, attention = self.with_map(query, key, value, mask)
        return merge_heads(context), attention if maps else None

    def adjust(self, scores: Tensor) -> Tensor:
        """Set scores (b, h, n, m) below the query's k-th largest to −inf."""
        last = scores.detach().topk(min(self.k, scores.shape[-1]), dim=-1).values[..., -1:]  # (b, h, n, 1)
        return scores.masked_fill(scores < last, float("-inf"))


class WindowAttention(Attention):
    """Attention to the tokens at most `window` positions away and to the first one, which attends to all.

    If it is less work, queries are computed in blocks of w = `window` tokens, each with the 3 w keys around it (Beltagy
    et al. 2020, section 3.1, with blocks of half the length). A sequence then takes about (3 w + 1) n scores.
    """

    def __init__(self, dropout: float, window: int) -> None:
        super().__init__(dropout)
        self.window = window

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, maps: bool = False
    ) -> tuple[Tensor, AttentionMap | None]:
        """Compute attention as `Attention.forward` does, for a mask (b, 1, 1, n)."""
        tokens = int(query.shape[2])
        if maps or window_scores(tokens, self.window) >= tokens * tokens:
            return super().forward(query, key, value, mask & self.band(tokens, mask.device), maps)
        return merge_heads(self._by_blocks(query, key, value, mask)), None

    def band(self, tokens: int, device: torch.device) -> Tensor:
        """Return the mask (n, n) that is true where the query at i may attend to the key at j."""
        places = torch.arange(tokens, device=device)
        near = (places[:, None] - places).abs() <= self.window
        return near | (places == 0) | (places == 0)[:, None]

    def _by_blocks(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        tokens, w = int(query.shape[2]), self.window
        blocks = -(-tokens // w)

        def with_first(x: Tensor) -> Tensor:
            first = x[:, None, :, :1].expand(-1, blocks, -1, -1, -1)  # (b, blocks, h, 1, d)
            return torch.cat([first, with_neighbours(x, w)], dim=3).flatten(
                0, 1
            )  # (b · blocks, h, 1 + 3 w, d)

        # The first token stands once in front of the keys; within the windows it is masked.
        later = (torch.arange(tokens, device=mask.device) > 0)[:, None]  # (n, 1)
        present = with_neighbours(mask.transpose(-1, -2) & later, w).transpose(
            -1, -2
        )  # (b, blocks, 1, 1, 3 w)
        offset = torch.arange(3 * w, device=mask.device) - torch.arange(w, device=mask.device)[:, None]
        near = present & ((offset >= 0) & (offset <= 2 * w))  # (b, blocks, 1, w, 3 w)
        first = mask[:, None, :, :, :1].expand(-1, blocks, -1, w, -1)  # (b, blocks, 1, w, 1)
        allowed = torch.cat([first, near], dim=-1).flatten(0, 1)  # (b · blocks, 1, w, 1 + 3 w)
        context = self.fused(split_blocks(query, w), with_first(key), with_first(value), allowed)
        context = merge_blocks(context, blocks, tokens)  # (b, h, n, d)
        return torch.cat([self.fused(query[:, :, :1], key, value, mask), context[:, :, 1:]], dim=2)


def split_blocks(x: Tensor, width: int) -> Tensor:
    """Split (b, c, n, d) into blocks of `width` tokens: (b · blocks, c, width, d). Zeros fill up the last block."""
    filled = F.pad(x, (0, 0, 0, -int(x.shape[2]) % width))
    blocks = int(filled.shape[2]) // width
    apart = filled.reshape(-1, x.shape[1], blocks, width, x.shape[3])  # (b, c, blocks, width, d)
    return apart.transpose(1, 2).flatten(0, 1)


def merge_blocks(x: Tensor, blocks: int, tokens: int) -> Tensor:
    """Undo `split_blocks`: (b · blocks, c, width, d) → (b, c, tokens, d)."""
    apart = x.reshape(-1, blocks, *x.shape[1:])  # (b, blocks, c, width, d)
    return apart.transpose(1, 2).flatten(2, 3)[:, :, :tokens]


def with_neighbours(x: Tensor, width: int) -> Tensor:
    """Split (b, c, n, d) into blocks of `width` tokens, each with the blocks before and after it. The result is
    (b, blocks, c, 3 · width, d), with zeros beyond the ends.
    """
    padded = F.pad(x, (0, 0, width, width + -int(x.shape[2]) % width))  # (b, c, (blocks + 2) · width, d)
    return padded.unfold(2, 3 * width, width).permute(0, 2, 1, 4, 3)


def window_scores(tokens: int, window: int) -> int:
    """Count the scores that a head of `WindowAttention` computes in blocks: ⌈n / w⌉ blocks of w queries with 3 w + 1
    keys each, and n scores of the first query.
    """
    return -(-tokens // window) * window * (3 * window + 1) + tokens


class SoftWindows(Attention):
    """Attention through one soft window per head (Sukhbaatar et al. 2019, section 2.2).

    Probabilities are multiplied by m(x) = clamp((R + z − x) / R, 0, 1) and normalised again, with the distance x, the
    head's span z and the ramp R. This is the softmax of the scores plus log m.

    Every token attends to itself, even padding, so no softmax is empty. A head whose window is short for the sequence
    is computed in blocks, w queries with the 3 w keys around them; the other heads are computed in full.
    """

    def __init__(self, dropout: float, kind: SpanAttention) -> None:
        super().__init__(dropout)
        self.kind = kind
        self.spans: nn.Parameter | None = None

    def learn(self) -> None:
        """Make the spans (h,), in tokens, a trainable parameter until `settle`. Until then all scores are computed."""
        self.spans = nn.Parameter(torch.tensor(self.kind.spans))

    def settle(self) -> None:
        """Fix the spans at their learned values; negative ones become 0."""
        if self.spans is not None:
            learned = self.spans.detach().clamp_min(0.0).tolist()
            self.kind = self.kind.model_copy(update={"spans": tuple(learned)})
            self.spans = None

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, maps: bool = False
    ) -> tuple[Tensor, AttentionMap | None]:
        """Compute attention as `Attention.forward` does, for a mask (b, 1, 1, n)."""
        tokens = int(query.shape[2])
        if maps or self.spans is not None:
            own = distances(tokens, mask.device) == 0
            context, attention = self.with_map(query, key, value, mask | own)
            return merge_heads(context), attention if maps else None
        near, far = self.split(tokens)
        contexts = []  # of the near heads, then of the far ones
        for heads, compute in ((near, self._by_blocks), (far, self._in_full)):
            if heads:
                chosen = (select_heads(x, heads) for x in (query, key, value))
                contexts.append(compute(heads, mask, *chosen))
        order = [*near, *far]
        places = sorted(range(len(order)), key=order.__getitem__)
        return merge_heads(select_heads(torch.cat(contexts, dim=1), places)), None

    def split(self, tokens: int) -> tuple[list[int], list[int]]:
        """Return the heads that take less work in blocks for a sequence of `tokens` tokens, and the other heads."""
        near = [
            head
            for head, window in enumerate(self.kind.windows)
            if block_scores(tokens, window) < tokens * tokens
        ]
        return near, [head for head in range(len(self.kind.spans)) if head not in near]

    def adjust(self, scores: Tensor) -> Tensor:
        """Add the logarithms of the windows to the scores (b, h, n, n)."""
        return scores + self._logarithms(distances(int(scores.shape[-1]), scores.device))

    def _logarithms(self, distance: Tensor, heads: Sequence[int] | None = None) -> Tensor:
        if self.spans is not None:
            return window_logarithms(self.spans, self.kind.ramp, distance)
        kept = self.kind.spans if heads is None else [self.kind.spans[head] for head in heads]
        return window_logarithms(torch.tensor(kept, device=distance.device), self.kind.ramp, distance)

    def _in_full(
        self, heads: Sequence[int], mask: Tensor, query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        distance = distances(int(query.shape[2]), mask.device)  # (n, n)
        logarithms = self._logarithms(distance, heads)  # (h, n, n)
        added = torch.where(mask | (distance == 0), logarithms, float("-inf"))  # (b, h, n, n)
        return self.fused(query, key, value, added.to(query.dtype))

    def _by_blocks(
        self, heads: Sequence[int], mask: Tensor, query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        tokens, w = int(query.shape[2]), max(1, *(self.kind.windows[head] for head in heads))
        places = torch.arange(3 * w, device=mask.device) - w
        distance = (places - torch.arange(w, device=mask.device)[:, None]).abs()  # (w, 3 w)
        present = (
            with_neighbours(mask.transpose(-1, -2), w).transpose(-1, -2).flatten(0, 1)
        )  # (b · blocks, 1, 1, 3 w)
        logarithms = self._logarithms(distance, heads)  # (h, w, 3 w)
        added = torch.where(present | (distance == 0), logarithms, float("-inf"))  # (b · blocks, h, w, 3 w)
        near_key, near_value = (
            with_neighbours(x, w).flatten(0, 1) for x in (key, value)
        )  # (b · blocks, h, 3 w, d)
        context = self.fused(split_blocks(query, w), near_key, near_value, added.to(query.dtype))
        return merge_blocks(context, -(-tokens // w), tokens)


def window_logarithms(spans: Tensor, ramp: int, distance: Tensor) -> Tensor:
    """Return log m (h, n, m) of heads with `spans` (h,) at each `distance` (n, m); it is −inf where m is 0."""
    weights = ((ramp + spans[:, None, None] - distance) / ramp).clamp(0.0, 1.0)
    # The gradient of log 0 would be NaN.
    gone = weights == 0
    return weights.masked_fill(gone, 1.0).log().masked_fill(gone, float("-inf"))


def distances(tokens: int, device: torch.device) -> Tensor:
    """Return |i − j| for every two of `tokens` positions: (n, n)."""
    places = torch.arange(tokens, device=device)
    return (places[:, None] - places).abs()


def select_heads(x: Tensor, heads: Sequence[int]) -> Tensor:
    """Select heads of (b, h, n, d), in the given order."""
    if list(heads) == list(range(int(x.shape[1]))):
        return x
    return x.index_select(1, torch.tensor(heads, device=x.device))


def block_scores(tokens: int, window: int) -> int:
    """Count the scores that a head of `SoftWindows` computes in blocks of w = max(1, window) queries with 3 w keys."""
    width = max(1, window)
    return -(-tokens // width) * width * 3 * width


class ProjectedAttention(Attention):
    """Linformer's attention: n queries to keys and values that `Places` has projected to fewer places."""

    def __init__(self, dropout: float, kind: LinformerAttention) -> None:
        super().__init__(dropout)
        self.kind = kind

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, maps: bool = False
    ) -> tuple[Tensor, AttentionMap | None]:
        """Compute attention to keys and values (b, h, places, d). The mask (b, 1, 1, n) is the mask of the tokens."""
        places = torch.arange(key.shape[2], device=mask.device)
        starts = places * self.kind.length // self.kind.projected  # (places,): the first token of each
        return super().forward(query, key, value, mask.index_select(-1, starts), maps)


class Places(nn.Module):
    """Linformer's projections along the sequence, E for keys and F for values (Wang et al. 2020, section 4, eq. 7).

    They are applied before the maps of keys and values: E (X W) = (E X) W, and W is multiplied with far fewer rows.
    """

    def __init__(self, kind: LinformerAttention) -> None:
        super().__init__()
        self.kind = kind
        self.keys = nn.Parameter(self.pooling())
        self.values = None if kind.shared_kv else nn.Parameter(self.pooling())

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Project states (b, n, H) to the inputs of the key map and of the value map, each (b, places, H). `mask` is
        (b, 1, 1, n).
        """
        x = x.masked_fill(~mask[:, 0, 0, :, None], 0.0)  # after the projection, padding could not be masked
        tokens = int(x.shape[1])
        used = self.kind.places(tokens)
        keys = self.keys[:used, :tokens] @ x  # (places, n) @ (b, n, H) → (b, places, H)
        return keys, keys if self.values is None else self.values[:used, :tokens] @ x

    def pooling(self) -> Tensor:
        """Return the initial projection (places, tokens): each place is the mean of its block of tokens."""
        kind = self.kind
        ends = [kind.start(place) for place in range(1, kind.projected)] + [kind.length]
        weights = torch.zeros(kind.projected, kind.length)
        for place, end in enumerate(ends):
            start = kind.start(place)
            weights[place, start:end] = 1 / (end - start)
        return weights


def make_attention(config: EncoderConfig, layer: LayerConfig) -> Attention:
    """Make the attention of a layer with heads. Attention within segments is full attention with another mask."""
    kind, dropout = layer.attention, config.attention_dropout
    if isinstance(kind, LocalAttention):
        return WindowAttention(dropout, kind.window)
    if isinstance(kind, TopKAttention):
        return ExplicitSparseAttention(dropout, kind.k)
    if isinstance(kind, SpanAttention):
        return SoftWindows(dropout, kind)
    if isinstance(kind, LinformerAttention):
        return ProjectedAttention(dropout, kind)
    return Attention(dropout)
