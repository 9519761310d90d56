"""Gradual pruning: what methods share that raise the sparsity of their masks on a schedule while the model
trains.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from harness.method import Method, options

if TYPE_CHECKING:
    from torch import Tensor

    from harness.encoder import Encoder
    from harness.pruning import Masks
    from harness.training import Context

Schedule = Literal["cubic", "linear", "one-shot"]
Scope = Literal["matrix", "global"]
UPDATES = 50
"""Masks are chosen anew so many times over the ramp; between them the chosen weights stay zero."""


def sparsity_at(progress: float, final: float, schedule: Schedule, begin: float, end: float) -> float:
    """The share of weights that is zero at `progress` (0 … 1) of training: 0 until `begin`, `final` from
    `end` on.

    cubic: s = s_f (1 − (1 − u)³) with u = (progress − begin) / (end − begin) (Zhu & Gupta 2017, eq. 1, from
    s_i = 0); linear: s = s_f u (Movva et al. 2022); one-shot: s_f at `begin`.
    """
    if progress >= end or (schedule == "one-shot" and progress >= begin):
        return final
    if progress < begin or schedule == "one-shot":
        return 0.0
    share = (progress - begin) / (end - begin)
    return final * (share if schedule == "linear" else 1 - (1 - share) ** 3)


@options
class RampOptions:
    """The options of every gradual pruning method.

    `sparsity` is the final share of zeros among the pruned matrices, chosen for each matrix or over all
    (`scope`); `schedule` is the shape of the ramp up to it (see `sparsity_at`), `begin` and `end` bound it in
    training progress; `embeddings` prunes the word embeddings too.
    """

    sparsity: Annotated[float, Field(gt=0, lt=1)] = 0.5
    schedule: Schedule = "cubic"
    scope: Scope = "matrix"
    embeddings: bool = False
    begin: Annotated[float, Field(ge=0, lt=1)] = 0.0
    end: Annotated[float, Field(gt=0, le=1)] = 0.6

    def __post_init__(self) -> None:
        """The ramp must go forward."""
        if self.begin >= self.end:
            raise ValueError(f"begin ({self.begin}) must come before end ({self.end})")


class GradualPruning(Method):
    """A method that keeps the weights of the largest score. What a score is, `scores` says."""

    Options = RampOptions
    rewrites = frozenset({"which weights are zero"})
    masks: Masks

    @abstractmethod
    def scores(self) -> Mapping[str, Tensor]:
        """The score of every pruned weight, by the parameter's name, of the parameter's shape."""

    @property
    def settled(self) -> float:
        """The end of the ramp."""
        return float(self.options.end)

    def prepare(self, student: Encoder, context: Context) -> None:
        """Attach masks that keep everything."""
        from harness.pruning import Masks, prunable

        self.masks = Masks(student, prunable(student, self.options.embeddings))
        self._updates = 0

    def step(self, student: Encoder, progress: float) -> None:
        """Raise the sparsity on schedule, and keep dropped weights at zero."""
        from harness.pruning import keep_largest

        o = self.options
        due = int(UPDATES * min(1.0, max(0.0, (progress - o.begin) / (o.end - o.begin))))
        if due > self._updates:
            self._updates = due
            sparsity = sparsity_at(progress, o.sparsity, o.schedule, o.begin, o.end)
            self.masks.replace(keep_largest(self.scores(), sparsity, o.scope))
        self.masks.apply()

    def finish(self, student: Encoder, context: Context) -> None:
        """Bring the sparsity to its final value (in one shot where nothing was trained) and store the rest
        sparsely.
        """
        self.step(student, 1.0)
        self.masks.store(student)
