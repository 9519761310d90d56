"""Attention: which tokens attend to which, and how. Only Linformer's projections own weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.batch import AttentionMap, Batch
from harness.models.config import (
    AttentionKind,
    EncoderConfig,
    LayerConfig,
    LinformerAttention,
    LocalAttention,
    SegmentAttention,
    SpanAttention,
    TopKAttention,
)


@dataclass(frozen=True)
class Tokens:
    """The tokens of a batch that a layer still has: which are no padding, and their segments, both (b, n)."""

    present: Tensor
    segments: Tensor

    @classmethod
    def of(cls, batch: Batch) -> Tokens:
        """All tokens of a batch."""
        return cls(batch.attention_mask.bool(), batch.token_type_ids)

    def mask(self, kind: AttentionKind | None) -> Tensor:
        """(b, 1, 1, n), or (b, 1, n, n) where it depends on the query: true where a token may be attended to."""
        present = self.present[:, None, None, :]
        if isinstance(kind, SegmentAttention):
            same = self.segments[:, None, :, None] == self.segments[:, None, None, :]
            # Padding attends to whatever there is: a row of scores that are all masked has no softmax.
            return present & (same | ~self.present[:, None, :, None])
        return present

    def rows(self, chosen: Tensor) -> Tokens:
        """Those of some rows, by a mask (b,) or indices."""
        return Tokens(self.present[chosen], self.segments[chosen])

    def places(self, chosen: Tensor) -> Tokens:
        """Those at some places of each row (b, kept)."""
        return Tokens(self.present.gather(1, chosen), self.segments.gather(1, chosen))


class Attention(nn.Module):
    """Scaled dot-product attention over the tokens that a mask leaves."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, maps: bool = False
    ) -> tuple[Tensor, AttentionMap | None]:
        """Return the context (b, n, h·d) and, where `maps` asks for it, the attention map.

        `mask`, (b, 1, 1, n) or (b, 1, n, n), is true where a token may be attended to.
        """
        if maps:
            context, attention = self.written_out(query, key, value, mask)
            return joined(context), attention
        return joined(self.fused(query, key, value, mask)), None

    def fused(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """The context (b, h, n, d) by torch's own kernel."""
        dropout = self.dropout if self.training else 0.0
        context: Tensor = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return context

    def written_out(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor
    ) -> tuple[Tensor, AttentionMap]:
        """The context (b, h, n, d) and the map that leads to it."""
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        probabilities = torch.softmax(self.chosen(scores.masked_fill(~mask, float("-inf"))), dim=-1)
        dropped = F.dropout(probabilities, self.dropout, self.training)
        return dropped @ value, AttentionMap(scores, probabilities)

    def chosen(self, scores: Tensor) -> Tensor:
        """The scores (b, h, n, m) that take part; −inf for the others, as masked ones have already."""
        return scores


def joined(context: Tensor) -> Tensor:
    """The heads' contexts (b, h, n, d) side by side: (b, n, h·d)."""
    return context.transpose(1, 2).flatten(2)


class LargestScores(Attention):
    """Explicit sparse attention: of each query's scores only those that are not below its k-th largest count (Zhao et
    al. 2019, section 2, eq. 5-6). All of them are computed, so it saves no work.
    """

    def __init__(self, dropout: float, k: int) -> None:
        super().__init__(dropout)
        self.k = k

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, maps: bool = False
    ) -> tuple[Tensor, AttentionMap | None]:
        """As in full attention."""
        context, attention = self.written_out(query, key, value, mask)
        return joined(context), attention if maps else None

    def chosen(self, scores: Tensor) -> Tensor:
        """Those from the k-th largest on, and what is equal to it."""
        last = scores.detach().topk(min(self.k, scores.shape[-1]), dim=-1).values[..., -1:]
        return scores.masked_fill(scores < last, float("-inf"))


class WindowAttention(Attention):
    """Attention to the tokens at most `window` places away and to the first one, which attends to all.

    Where that is less work, the queries go in blocks of w = window tokens, each against the 3 w tokens around it
    (Beltagy et al. 2020, section 3.1, with blocks of half the length), so a sequence takes about (3 w + 1) n scores.
    """

    def __init__(self, dropout: float, window: int) -> None:
        super().__init__(dropout)
        self.window = window

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, maps: bool = False
    ) -> tuple[Tensor, AttentionMap | None]:
        """As in full attention, for a mask (b, 1, 1, n)."""
        tokens = int(query.shape[2])
        if maps or window_scores(tokens, self.window) >= tokens * tokens:
            return super().forward(query, key, value, mask & self.band(tokens, mask.device), maps)
        return joined(self._by_blocks(query, key, value, mask)), None

    def band(self, tokens: int, device: torch.device) -> Tensor:
        """(n, n): whether the query at i may attend to the key at j."""
        places = torch.arange(tokens, device=device)
        near = (places[:, None] - places).abs() <= self.window
        return near | (places == 0) | (places == 0)[:, None]

    def _by_blocks(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        tokens, w = int(query.shape[2]), self.window
        blocks = -(-tokens // w)

        def with_first(x: Tensor) -> Tensor:
            first = x[:, None, :, :1].expand(-1, blocks, -1, -1, -1)
            return torch.cat([first, around(x, w)], dim=3).flatten(0, 1)

        # The first token comes once, in front; within the windows it is left out.
        present = mask.transpose(-1, -2) & (torch.arange(tokens, device=mask.device) > 0)[:, None]
        inside = torch.arange(3 * w, device=mask.device) - torch.arange(w, device=mask.device)[:, None]
        near = around(present, w).transpose(-1, -2) & ((inside >= 0) & (inside <= 2 * w))
        first = mask[:, None, :, :, :1].expand(-1, blocks, -1, w, -1)
        allowed = torch.cat([first, near], dim=-1).flatten(0, 1)
        context = self.fused(in_blocks(query, w), with_first(key), with_first(value), allowed)
        context = out_of_blocks(context, blocks, tokens)
        return torch.cat([self.fused(query[:, :, :1], key, value, mask), context[:, :, 1:]], dim=2)


def in_blocks(x: Tensor, width: int) -> Tensor:
    """(b, c, n, d) → (b · blocks, c, width, d): blocks of `width` places, the last one filled up with zeros."""
    filled = F.pad(x, (0, 0, 0, -int(x.shape[2]) % width))
    apart = filled.reshape(-1, x.shape[1], int(filled.shape[2]) // width, width, x.shape[3])
    return apart.transpose(1, 2).flatten(0, 1)


def out_of_blocks(x: Tensor, blocks: int, tokens: int) -> Tensor:
    """(b · blocks, c, width, d) → (b, c, tokens, d): what `in_blocks` did, undone."""
    apart = x.reshape(-1, blocks, *x.shape[1:])
    return apart.transpose(1, 2).flatten(2, 3)[:, :, :tokens]


def around(x: Tensor, width: int) -> Tensor:
    """(b, c, n, d) → (b, blocks, c, 3 · width, d): each block of `width` places between its neighbours; zeros beyond
    the ends.
    """
    padded = F.pad(x, (0, 0, width, width + -int(x.shape[2]) % width))
    return padded.unfold(2, 3 * width, width).permute(0, 2, 1, 4, 3)


def window_scores(tokens: int, window: int) -> int:
    """How many scores a head computes for a sequence in blocks: those of ⌈n / w⌉ blocks of w queries with 3 w keys and
    the first one each, and the first query's with all.
    """
    return -(-tokens // window) * window * (3 * window + 1) + tokens


class SoftWindows(Attention):
    """Attention through a soft window of each head's own (Sukhbaatar et al. 2019, section 2.2): probabilities times
    m(x) = clamp((R + z − x) / R, 0, 1) of the distance x, renormalised, with the head's span z and the ramp R. That is
    the softmax of scores to which log m is added.

    A token always attends to itself, padding too, which so has something to attend to. Heads whose window is short for
    the sequence are computed in blocks, w queries against the 3 w tokens around them, all others in full.
    """

    def __init__(self, dropout: float, kind: SpanAttention) -> None:
        super().__init__(dropout)
        self.kind = kind
        self.spans: nn.Parameter | None = None

    def learn(self) -> None:
        """Make the spans (h,), in tokens, a parameter, until `settle`. Meanwhile every score is computed."""
        self.spans = nn.Parameter(torch.tensor(self.kind.spans))

    def settle(self) -> None:
        """Keep the spans as they are now."""
        if self.spans is not None:
            learned = self.spans.detach().clamp_min(0.0).tolist()
            self.kind = self.kind.model_copy(update={"spans": tuple(learned)})
            self.spans = None

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, maps: bool = False
    ) -> tuple[Tensor, AttentionMap | None]:
        """As in full attention, for a mask (b, 1, 1, n)."""
        tokens = int(query.shape[2])
        if maps or self.spans is not None:
            own = distances(tokens, mask.device) == 0
            context, attention = self.written_out(query, key, value, mask | own)
            return joined(context), attention if maps else None
        near, far = self.split(tokens)
        contexts = []
        for heads, compute in ((near, self._by_blocks), (far, self._in_full)):
            if heads:
                chosen = (heads_of(x, heads) for x in (query, key, value))
                contexts.append(compute(heads, mask, *chosen))
        order = [*near, *far]
        places = sorted(range(len(order)), key=order.__getitem__)
        return joined(heads_of(torch.cat(contexts, dim=1), places)), None

    def split(self, tokens: int) -> tuple[list[int], list[int]]:
        """The heads that are less work in blocks, for a sequence of so many tokens, and the others."""
        near = [
            head
            for head, window in enumerate(self.kind.windows)
            if block_scores(tokens, window) < tokens * tokens
        ]
        return near, [head for head in range(len(self.kind.spans)) if head not in near]

    def chosen(self, scores: Tensor) -> Tensor:
        """The scores (b, h, n, n) and the logarithms of the windows."""
        return scores + self._logarithms(distances(int(scores.shape[-1]), scores.device))

    def _logarithms(self, distance: Tensor, heads: Sequence[int] | None = None) -> Tensor:
        if self.spans is not None:
            return window_logarithms(self.spans, self.kind.ramp, distance)
        kept = self.kind.spans if heads is None else [self.kind.spans[head] for head in heads]
        return window_logarithms(torch.tensor(kept, device=distance.device), self.kind.ramp, distance)

    def _in_full(
        self, heads: Sequence[int], mask: Tensor, query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        distance = distances(int(query.shape[2]), mask.device)
        scores = torch.where(mask | (distance == 0), self._logarithms(distance, heads), float("-inf"))
        return self.fused(query, key, value, scores.to(query.dtype))

    def _by_blocks(
        self, heads: Sequence[int], mask: Tensor, query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        tokens, w = int(query.shape[2]), max(1, *(self.kind.windows[head] for head in heads))
        places = torch.arange(3 * w, device=mask.device) - w
        distance = (places - torch.arange(w, device=mask.device)[:, None]).abs()
        present = around(mask.transpose(-1, -2), w).transpose(-1, -2).flatten(0, 1)
        scores = torch.where(present | (distance == 0), self._logarithms(distance, heads), float("-inf"))
        near_key, near_value = (around(x, w).flatten(0, 1) for x in (key, value))
        context = self.fused(in_blocks(query, w), near_key, near_value, scores.to(query.dtype))
        return out_of_blocks(context, -(-tokens // w), tokens)


def window_logarithms(spans: Tensor, ramp: int, distance: Tensor) -> Tensor:
    """log m of heads with these spans (h,) at each distance (n, m): (h, n, m), −inf where m is 0."""
    weights = ((ramp + spans[:, None, None] - distance) / ramp).clamp(0.0, 1.0)
    # The gradient of log 0 would be no number.
    gone = weights == 0
    return weights.masked_fill(gone, 1.0).log().masked_fill(gone, float("-inf"))


def distances(tokens: int, device: torch.device) -> Tensor:
    """(n, n): how many places lie between two tokens."""
    places = torch.arange(tokens, device=device)
    return (places[:, None] - places).abs()


def heads_of(x: Tensor, heads: Sequence[int]) -> Tensor:
    """Some heads of (b, h, n, d), in that order."""
    if list(heads) == list(range(int(x.shape[1]))):
        return x
    return x.index_select(1, torch.tensor(heads, device=x.device))


def block_scores(tokens: int, window: int) -> int:
    """How many scores a head computes for a sequence in blocks of `window` queries (at least 1) with three times as
    many keys.
    """
    width = max(1, window)
    return -(-tokens // width) * width * 3 * width


class PlaceAttention(Attention):
    """Attention to the places that keys and values were projected to (see `Places`)."""

    def __init__(self, dropout: float, kind: LinformerAttention) -> None:
        super().__init__(dropout)
        self.kind = kind

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, maps: bool = False
    ) -> tuple[Tensor, AttentionMap | None]:
        """As in full attention, for a mask (b, 1, 1, n) and keys and values of the places (b, h, places, d)."""
        places = torch.arange(key.shape[2], device=mask.device)
        starts = places * self.kind.length // self.kind.projected
        return super().forward(query, key, value, mask.index_select(-1, starts), maps)


class Places(nn.Module):
    """Linformer's projections of the sequence, E of keys and F of values (Wang et al. 2020, section 4, eq. 7), before
    those of the hidden size: E (X W) = (E X) W, and far fewer rows are multiplied by W.
    """

    def __init__(self, kind: LinformerAttention) -> None:
        super().__init__()
        self.kind = kind
        self.keys = nn.Parameter(self.pooling())
        self.values = None if kind.shared_kv else nn.Parameter(self.pooling())

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What keys and values are made from, each (b, places, H), of states (b, n, H) and the mask (b, 1, 1, n)."""
        x = x.masked_fill(~mask[:, 0, 0, :, None], 0.0)  # once mixed, padding could not be left out any more
        tokens = int(x.shape[1])
        used = self.kind.places(tokens)
        keys = self.keys[:used, :tokens] @ x
        return keys, keys if self.values is None else self.values[:used, :tokens] @ x

    def pooling(self) -> Tensor:
        """(places, tokens) that takes the mean of each place's block."""
        kind = self.kind
        ends = [kind.start(place) for place in range(1, kind.projected)] + [kind.length]
        weights = torch.zeros(kind.projected, kind.length)
        for place, end in enumerate(ends):
            start = kind.start(place)
            weights[place, start:end] = 1 / (end - start)
        return weights


def make_attention(config: EncoderConfig, layer: LayerConfig) -> Attention:
    """The attention of a layer that has heads."""
    kind, dropout = layer.attention, config.attention_dropout
    if isinstance(kind, LocalAttention):
        return WindowAttention(dropout, kind.window)
    if isinstance(kind, TopKAttention):
        return LargestScores(dropout, kind.k)
    if isinstance(kind, SpanAttention):
        return SoftWindows(dropout, kind)
    if isinstance(kind, LinformerAttention):
        return PlaceAttention(dropout, kind)
    return Attention(dropout)
