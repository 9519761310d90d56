"""The rules that decide which rows exit at a ramp."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.models.config import ExitRule


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy −Σ p log p of the softmax of logits (b, classes), in nats: (b,)."""
    found: Tensor = torch.special.entr(torch.softmax(logits.float(), dim=-1)).sum(-1)
    return found


class Judge:
    """Applies an exit rule, ramp after ramp, to the rows that remain. Regression scores need the rule `patience`."""

    def __init__(self, rule: ExitRule) -> None:
        self.rule = rule
        self._last: Tensor | None = None
        self._streak: Tensor | None = None
        self._ramps = 0

    def done(self, logits: Tensor) -> Tensor:
        """Return the mask (b,) of the rows that exit with these logits (b, outputs). Call it once for each ramp."""
        rule = self.rule
        self._ramps += 1
        if rule.kind == "stated":
            return logits[:, 0] * 0 + self._ramps >= rule.threshold
        if rule.kind == "entropy":
            return entropy(logits) < rule.threshold
        if rule.kind == "normalized-entropy":
            return entropy(logits) / math.log(max(2, logits.shape[1])) < rule.threshold
        scores = logits.shape[1] == 1
        guess = logits[:, 0].float() if scores else logits.argmax(1)
        if self._last is None or self._streak is None:
            self._last, self._streak = guess, torch.zeros(len(guess), dtype=torch.long, device=guess.device)
        else:
            same = (guess - self._last).abs() < rule.tolerance if scores else guess == self._last
            self._last, self._streak = guess, torch.where(same, self._streak + 1, 0)
        return self._streak >= rule.threshold

    def keep(self, rows: Tensor) -> None:
        """Keep only the rows of a mask (b,), as the caller does with the batch."""
        if self._last is not None and self._streak is not None:
            self._last, self._streak = self._last[rows], self._streak[rows]
