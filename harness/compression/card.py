"""The card of a method, its options, and the figures that its paper published. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar, cast, dataclass_transform, get_args

from pydantic.dataclasses import dataclass as validated_dataclass

from harness.models.config import COMPONENTS
from harness.records.schema import COSTS, Cost

FAMILIES = (
    "baseline",
    "quantization",
    "unstructured-pruning",
    "structured-pruning",
    "distillation",
    "matrix-decomposition",
    "attention-decomposition",
    "early-exit",
    "word-vector-elimination",
    "parameter-sharing",
    "embedding-compression",
    "weight-squeezing",
)
Need = Literal["teacher_logits", "hidden_states", "attentions"]
Scope = Literal["task-specific", "task-agnostic"]
Fidelity = Literal["faithful", "variant", "architecture"]

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def options(cls: type[T]) -> type[T]:
    """Make a class of annotated fields a method's Options: a frozen dataclass that validates and forbids
    unknown names.
    """
    made: Any = validated_dataclass(frozen=True, config={"extra": "forbid"})(cls)
    return cast(type[T], made)


@dataclass(frozen=True)
class Paper:
    """Where a method was published."""

    title: str
    authors: str
    year: int
    venue: str
    link: str


@dataclass(frozen=True)
class Claim:
    """One published figure. `where` says where in the paper it stands; `sure` whether it was read there.

    It holds for recipes whose options have the values of `options` (defaults count; empty: for any), on the base
    model `model`.
    """

    task: str
    split: Literal["dev", "test", "unknown"]
    metric: str
    value: float
    where: str
    sure: bool = True
    options: Mapping[str, str | float | bool] = field(default_factory=dict, hash=False)
    model: str = "bert-base"


@dataclass(frozen=True)
class Card:
    """What a method is, readable without torch. `reduces` names the costs that it claims to reduce (see
    `records.COSTS`).
    """

    id: str
    title: str
    family: str
    paper: Paper
    scope: Scope
    fidelity: Fidelity
    deviations: str
    touches: tuple[str, ...]
    reduces: tuple[Cost, ...]
    claims: tuple[Claim, ...] = ()
    input_dependent: bool = False
    notes: str = ""
    version: int = 1
    """Raise it when a change makes the method give other results: records made before then count as stale."""

    def problems(self) -> list[str]:
        """What is missing or wrong in this card, in words; empty where it is complete."""
        found = [f"'{name}' is empty" for name in ("id", "title") if not getattr(self, name).strip()]
        found += [
            f"paper.{f.name} is empty" for f in fields(self.paper) if not str(getattr(self.paper, f.name))
        ]
        if self.family not in FAMILIES:
            found.append(f"family '{self.family}' is none of {', '.join(FAMILIES)}")
        if self.scope not in get_args(Scope):
            found.append(f"scope is '{self.scope}', none of {', '.join(get_args(Scope))}")
        if self.fidelity not in get_args(Fidelity):
            found.append(f"fidelity is '{self.fidelity}', none of {', '.join(get_args(Fidelity))}")
        if not 1950 <= self.paper.year <= 2100:
            found.append(f"paper.year is {self.paper.year}")
        found += [f"touches unknown component '{c}'" for c in self.touches if c not in COMPONENTS]
        found += [f"reduces unknown cost '{c}'" for c in self.reduces if c not in COSTS]
        if not self.touches:
            found.append("'touches' is empty: name the components that it changes")
        if self.fidelity != "faithful" and not self.deviations.strip():
            found.append(f"fidelity is '{self.fidelity}' but 'deviations' does not say how it differs")
        return found

    def to_dict(self) -> dict[str, Any]:
        """The card as plain JSON values."""
        return asdict(self)
