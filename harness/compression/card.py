"""The card of a method, its options, and the figures that its paper published. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar, cast, dataclass_transform, get_args

from pydantic.dataclasses import dataclass as validated_dataclass

from harness.models.config import COMPONENTS
from harness.records.costs import COSTS, Cost

FAMILIES = (
    "baseline",
    "controls",
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
    """Where a method was published. Every field must be filled in; `authors` are surnames, `venue` is short (ACL)."""

    title: str
    authors: str
    year: int
    venue: str
    link: str


@dataclass(frozen=True)
class Claim:
    """One figure that the method's paper published.

    It belongs to recipes whose options have the values of `options`, defaults included; without `options` to any.
    """

    task: str
    """The task's id, for example sst2."""
    split: Literal["dev", "test", "unknown"]
    metric: str
    """A metric of the task: accuracy, f1, matthews, …"""
    value: float
    """In points, 0 to 100."""
    where: str
    """The table and row of the paper, or another source."""
    sure: bool = True
    """Whether the figure was read in that source. False for one that is remembered or cited by others."""
    options: Mapping[str, str | float | bool] = field(default_factory=dict, hash=False)
    model: str = "bert-base"
    """The base model that the paper compressed."""
    conditions: str = ""
    """What `options` cannot say of the published training, such as its teacher, data or epochs, as the end of a
    sentence that begins with "published". A score of ours cannot be compared with a claim that has conditions.
    """


@dataclass(frozen=True)
class Card:
    """What a method is. `skyline methods` and the boards read it without running the method, and without torch.

    A card must have every field without a default. Conformance checks all of them (see `problems`), and checks on a
    small artifact that each cost in `reduces` is smaller than the baseline's.
    """

    id: str
    """In kebab case, the file's name with dashes (`my_pruning.py`: `my-pruning`). Recipes name the method so."""
    title: str
    family: str
    """One of `FAMILIES`; the folder that the file stands in."""
    paper: Paper
    scope: Scope
    """task-agnostic if one compressed encoder serves every task, else task-specific."""
    fidelity: Fidelity
    """faithful: as published. variant: with the differences that `deviations` names. architecture: only the shape of
    the model is the paper's, not its training.
    """
    deviations: str
    """How it differs from the paper, in sentences. May be empty only for a faithful one."""
    touches: tuple[str, ...]
    """The components that it changes, of `harness.models.config.COMPONENTS`. At least one."""
    reduces: tuple[Cost, ...]
    """The costs that it claims to reduce, of `harness.records.costs.COSTS`."""
    claims: tuple[Claim, ...] = ()
    input_dependent: bool = False
    """Whether the cost of a row depends on what the row says (early exit)."""
    notes: str = ""
    """What a reader of its results must know, in sentences."""
    version: int = 1
    """Raise it when a change makes the method give other results: records made before then count as stale."""

    def problems(self) -> list[str]:
        """Return the faults of this card in words; empty if it is complete."""
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
