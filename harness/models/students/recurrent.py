"""The recurrent student: LSTM or Elman cells in one or both directions, and a vector made of their states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.models.students.config import RecurrentConfig


class Recurrent(nn.Module):
    """States of each token, layer by layer; then one vector of each text.

    The direction that reads backwards begins at each text's own last token, so padding is behind the text in both and
    neither its length nor the other rows matter. A text without tokens has the vector 0.
    """

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        make = {"lstm": nn.LSTM, "rnn": nn.RNN}[config.cell]
        size = config.sentence_size
        inputs = [config.embedding_size] + [size] * (config.layer_count - 1)
        directions = inputs if config.bidirectional else []
        self.forwards = nn.ModuleList(make(each, config.hidden, batch_first=True) for each in inputs)
        self.backwards = nn.ModuleList(make(each, config.hidden, batch_first=True) for each in directions)
        self.dropout = nn.Dropout(config.dropout)
        self.pooling, self.size = config.pooling, size
        self.attention = AttentionMean(size) if config.pooling == "attention" else None

    def forward(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Map (b, n, E) and the mask (b, n), whose padding comes last, to (b, S)."""
        if embedded.shape[1] == 0:
            return embedded.new_zeros(len(embedded), self.size)
        # Small sums over many steps: in float32 also where the rest is trained in bfloat16.
        with torch.autocast(embedded.device.type, enabled=False):
            lengths = mask.sum(1)
            states = self.states(embedded.float(), lengths)
            vectors = self.pooled(states, mask.bool(), lengths)
            return vectors.masked_fill((lengths == 0)[:, None], 0.0)

    def states(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """The last layer's states (b, n, S) of embeddings (b, n, E); those of padding mean nothing."""
        states = embedded
        for index, forwards in enumerate(self.forwards):
            if index:
                states = self.dropout(states)
            found, _ = forwards(states)
            if self.backwards:
                reverse = reversal(lengths, states.shape[1])
                backwards, _ = self.backwards[index](_rows(states, reverse))
                found = torch.cat([found, _rows(backwards, reverse)], dim=-1)
            states = found
        return states

    def pooled(self, states: Tensor, present: Tensor, lengths: Tensor) -> Tensor:
        """One vector (b, S) of each text's states (b, n, S) where `present` (b, n)."""
        if self.attention is not None:
            weighed: Tensor = self.attention(states, present)
            return weighed
        if self.pooling == "max":
            return states.masked_fill(~present[..., None], float("-inf")).amax(1)
        last = _rows(states, (lengths - 1).clamp_min(0)[:, None])[:, 0]
        if not self.backwards:
            return last
        half = states.shape[2] // 2
        return torch.cat([last[:, :half], states[:, 0, half:]], dim=-1)


class AttentionMean(nn.Module):
    """Σ α_t h_t with α = softmax(v · tanh(W h_t + b)) over a text's states."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(size, size)
        self.score = nn.Linear(size, 1, bias=False)

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """Map states (b, n, S) to their mean (b, S), weighted over those `present` (b, n)."""
        scores = self.score(torch.tanh(self.hidden(states)))[..., 0]
        scores = scores.masked_fill(~present, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, dim=1)
        mean: Tensor = (weights[:, None] @ states)[:, 0]
        return mean


def reversal(lengths: Tensor, longest: int) -> Tensor:
    """Places (b, longest) that read each row's first `lengths` (b,) tokens backwards, and leave its padding. It undoes
    itself.
    """
    places = torch.arange(longest, device=lengths.device)[None]
    return torch.where(places < lengths[:, None], lengths[:, None] - 1 - places, places)


def _rows(states: Tensor, places: Tensor) -> Tensor:
    """The states (b, m, S) at `places` (b, m) of each row's."""
    return states.gather(1, places[..., None].expand(-1, -1, states.shape[2]))
