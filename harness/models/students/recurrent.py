"""The recurrent student: LSTM or Elman cells in one or both directions, and pooling of their states to a vector.

Shapes: b texts, n tokens, embeddings of size E, states of size S (both directions together).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.models.students.config import RecurrentConfig


class Recurrent(nn.Module):
    """Computes a state of each token, layer by layer, and pools them to one vector per text.

    The backward direction starts at each text's last token. In both directions padding comes after the text, so no
    result depends on it. A text without tokens has the vector 0.
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
        """Map embeddings (b, n, E) and the mask (b, n) to vectors (b, S). Padding must come after the text."""
        if embedded.shape[1] == 0:
            return embedded.new_zeros(len(embedded), self.size)
        # Many small terms are summed over many steps, so this runs in float32 even if training uses bfloat16.
        with torch.autocast(embedded.device.type, enabled=False):
            lengths = mask.sum(1)  # (b,)
            states = self.states(embedded.float(), lengths)
            vectors = self.pooled(states, mask.bool(), lengths)
            return vectors.masked_fill((lengths == 0)[:, None], 0.0)

    def states(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """Map embeddings (b, n, E) of texts of `lengths` (b,) to the last layer's states (b, n, S). States at padding
        have no meaning.
        """
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
        """Pool states (b, n, S) to vectors (b, S). `present` (b, n) is true at tokens, `lengths` is (b,)."""
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
    """The mean Σ α_t h_t over a text's states, with α = softmax(v · tanh(W h_t + b))."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(size, size)
        self.score = nn.Linear(size, 1, bias=False)

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """Map states (b, n, S) to the weighted mean (b, S) of those at tokens (`present` (b, n) is true)."""
        scores = self.score(torch.tanh(self.hidden(states)))[..., 0]  # (b, n)
        scores = scores.masked_fill(~present, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, dim=1)
        mean: Tensor = (weights[:, None] @ states)[:, 0]  # (b, 1, n) @ (b, n, S) → (b, S)
        return mean


def reversal(lengths: Tensor, longest: int) -> Tensor:
    """Return indices (b, longest) that reverse the first `lengths` (b,) tokens of each row and keep its padding in
    place. Applied twice they change nothing.
    """
    places = torch.arange(longest, device=lengths.device)[None]
    return torch.where(places < lengths[:, None], lengths[:, None] - 1 - places, places)


def _rows(states: Tensor, places: Tensor) -> Tensor:
    """Select the states (b, m, S) at the positions `places` (b, m) of each row."""
    return states.gather(1, places[..., None].expand(-1, -1, states.shape[2]))
