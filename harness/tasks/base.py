"""What a task is: its description, its examples, and the view of it that a compression method may have."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

from harness.common.errors import SkylineError, unknown_name

Kind: TypeAlias = Literal["classification", "regression", "span"]

METRICS: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        "classification": ("accuracy", "f1", "matthews_correlation"),
        "regression": ("pearson", "spearman"),
        "span": ("f1", "exact_match"),
    }
)
"""The metrics that a task of each kind may report."""


@dataclass(frozen=True)
class Span:
    """The accepted answers of a question: texts, and the character offset in the context of each."""

    texts: tuple[str, ...]
    starts: tuple[int, ...]


Label: TypeAlias = int | float | Span | None


@dataclass(frozen=True)
class Example:
    """One row: a text, the second text of a pair (a SQuAD question's context), and the gold label.

    The label is a class id (classification), a score (regression), a `Span` (SQuAD) or None (unknown).
    """

    text: str
    pair: str | None
    label: Label
    id: str = ""


Loader: TypeAlias = Callable[[str], tuple[Example, ...]]
"""Reads one split, named as in `Task.splits`."""


def output_size(kind: Kind, labels: Sequence[str]) -> int:
    """The number of logits of a head: one per class, 1 for a score, 2 for a span (start and end)."""
    return {"classification": len(labels), "regression": 1, "span": 2}[kind]


@dataclass(frozen=True, eq=False)
class Task:
    """A data set with its metrics. The examples load lazily, each split once.

    Attributes:
        name: the canonical id, such as `sst2`.
        title: the name that boards print, such as `SST-2`.
        kind: what the head predicts.
        labels: the classes in the order of their ids; () for regression and span.
        metrics: every metric that is reported.
        metric: the primary one, shown on boards.
        max_length: tokens, special ones included: where training and evaluation cut (see `length_within`).
        synthetic: generated here; never on a board with real tasks.
        loader: reads a split.
        dev_splits: the first is *the* dev split; MNLI has a second one, `dev_mismatched`.
        averaged: False where the task's own authors or custom leave it out of averages (WNLI).
        source: where the examples come from, without any path: `folder`, `hub`, `generated` or `file`.
        described: the hash of the description that a task of one's own was read from; None for a built-in one.
        files: what the examples are read from; () where that is no folder of the user's.
        fixed_length: whether somebody wrote `max_length` for this task, rather than leaving it at a default.
    """

    name: str
    title: str
    kind: Kind
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    metric: str
    max_length: int
    synthetic: bool
    loader: Loader = field(repr=False)
    dev_splits: tuple[str, ...] = ("dev",)
    averaged: bool = True
    source: str = "file"
    described: str | None = None
    fixed_length: bool = False
    files: tuple[Path, ...] = ()
    _cache: dict[str, tuple[Example, ...]] = field(default_factory=dict, init=False, repr=False)
    _digest: list[str] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.metric not in self.metrics or not set(self.metrics) <= set(METRICS[self.kind]):
            raise ValueError(
                f"{self.name}: primary metric {self.metric!r} of {self.metrics}, kind {self.kind}"
            )

    @property
    def splits(self) -> tuple[str, ...]:
        """The names that `split` takes: `train`, then the dev splits."""
        return ("train", *self.dev_splits)

    @property
    def output_size(self) -> int:
        """The number of logits: the number of classes, 1 for regression, 2 for span."""
        return output_size(self.kind, self.labels)

    def split(self, name: str) -> Sequence[Example]:
        """The examples of one split; raises `SkylineError` for a name not in `splits` and for bad data."""
        if name not in self.splits:
            raise unknown_name(f"split of {self.name}", name, self.splits)
        if name not in self._cache:
            examples = self.loader(name)
            if not examples:
                raise SkylineError(f"{self.name}: the {name} split is empty; it needs at least one example")
            self._cache[name] = examples
        return self._cache[name]

    def train(self) -> Sequence[Example]:
        """The training examples."""
        return self.split("train")

    def dev(self) -> Sequence[Example]:
        """The examples of the primary dev split."""
        return self.split(self.dev_splits[0])

    def fingerprint(self) -> str:
        """sha256 (hexadecimal) over all of a task that a score depends on; the same on any machine.

        That is kind, classes, length, metrics (their order too: the first is the primary one) and the content
        of every split. Names, ids and the way the data were obtained do not enter.
        """
        if not self._digest:
            read = [self.kind, list(self.labels), self.max_length, list(self.metrics), self.metric]
            digest = hashlib.sha256(canonical(read))
            for name in self.splits:
                digest.update(canonical(["split", name]))
                for example in self.split(name):
                    digest.update(canonical([example.text, example.pair, _plain(example.label)]))
            self._digest.append(digest.hexdigest())
        return self._digest[0]

    def length_within(self, positions: int) -> int:
        """Where sequences are cut on a model of so many positions; see `length_within`, the function."""
        return length_within(self, positions)

    def training_view(self) -> TrainingView:
        """What a method may see of this task."""
        return TrainingView(
            self.name,
            self.kind,
            self.labels,
            self.metrics,
            self.metric,
            self.max_length,
            self.train(),
            self.fixed_length,
        )


class TrainingView:
    """The training side of a task: the only data that a method, its thresholds and its early stopping see.

    It holds plain values and the training examples; nothing leads from it to the task, its loader or its dev
    split. `harness.tasks.metrics.compute` takes a view as well as a task.
    """

    __slots__ = (
        "examples",
        "fixed_length",
        "kind",
        "labels",
        "max_length",
        "metric",
        "metrics",
        "name",
        "output_size",
    )

    def __init__(
        self,
        name: str,
        kind: Kind,
        labels: Sequence[str],
        metrics: Sequence[str],
        metric: str,
        max_length: int,
        examples: Iterable[Example],
        fixed_length: bool = False,
    ) -> None:
        self.name = name
        self.kind: Kind = kind
        self.labels = tuple(labels)
        self.metrics = tuple(metrics)
        self.metric = metric
        self.max_length = max_length
        self.output_size = output_size(kind, self.labels)
        self.examples: Sequence[Example] = tuple(examples)
        self.fixed_length = fixed_length

    def with_examples(self, examples: Iterable[Example]) -> TrainingView:
        """The same view of other examples."""
        return TrainingView(
            self.name,
            self.kind,
            self.labels,
            self.metrics,
            self.metric,
            self.max_length,
            examples,
            self.fixed_length,
        )

    def length_within(self, positions: int) -> int:
        """Where sequences are cut on a model of so many positions; see `length_within`, the function."""
        return length_within(self, positions)

    def holdout(
        self, fraction: float, seed: int, at_most: int
    ) -> tuple[Sequence[Example], Sequence[Example]]:
        """Split the training examples at random into (kept for training, held out).

        Held out are `fraction` of them, at least one and at most `at_most`; both keep the original order.
        Raises `SkylineError` where no such split leaves an example on both sides.
        """
        total = len(self.examples)
        if not 0.0 < fraction < 1.0:
            raise SkylineError(f"the held-out fraction must lie between 0 and 1, not {fraction}")
        if at_most < 1:
            raise SkylineError(f"the held-out part must be allowed at least one example, not {at_most}")
        if total < 2:
            raise SkylineError(f"{self.name}: {total} training example cannot be split; 2 are needed")
        size = min(max(1, round(fraction * total)), at_most, total - 1)
        rng = random.Random(seed)
        keys = [rng.random() for _ in range(total)]
        held = set(sorted(range(total), key=keys.__getitem__)[:size])
        return (
            tuple(example for index, example in enumerate(self.examples) if index not in held),
            tuple(example for index, example in enumerate(self.examples) if index in held),
        )


def length_within(task: Task | TrainingView, positions: int) -> int:
    """The tokens at which a task's sequences are cut on a model of so many positions.

    A `max_length` that somebody wrote into a task's description is a decision about that task: where the model
    cannot hold it, that is refused, with a SkylineError that names both numbers. A default (of a built-in task,
    or of a description that does not speak of it) is only an upper limit: a model of fewer positions reads what
    it can, and the record of its cell says at how many tokens the sequences were cut.
    """
    if task.fixed_length and task.max_length > positions:
        raise SkylineError(
            f"task {task.name} has max_length {task.max_length}, but the model has {positions} positions; "
            f"lower max_length to {positions} in its description, or use a model with more positions"
        )
    return min(task.max_length, positions)


def _plain(label: Label) -> object:
    """A label as JSON has it."""
    return [list(label.texts), list(label.starts)] if isinstance(label, Span) else label


def canonical(value: object) -> bytes:
    """One line of JSON whose bytes depend on the value only."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), sort_keys=True).encode() + b"\n"
