"""Define a task, its examples, and the view of it that a compression method gets."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

from harness.common.errors import Code, SkylineError, unknown_name

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
    """Accepted answers of a question. `starts` holds the character offset of each answer in the context."""

    texts: tuple[str, ...]
    starts: tuple[int, ...]


Label: TypeAlias = int | float | Span | None


@dataclass(frozen=True)
class Example:
    """One row: a text, an optional second text (for SQuAD, the context of the question), and the gold label.

    The label is a class id (classification), a score (regression), a `Span` (SQuAD) or None (unknown).
    """

    text: str
    pair: str | None
    label: Label
    id: str = ""


HELD_OUT = 1500
"""The most examples of a held-out slice of training data."""

Loader: TypeAlias = Callable[[str], tuple[Example, ...]]
"""Reads one split, by its name in `Task.splits`."""


def output_size(kind: Kind, labels: Sequence[str]) -> int:
    """Return a head's number of logits: one for each class, 1 for a score, 2 for a span (start and end)."""
    return {"classification": len(labels), "regression": 1, "span": 2}[kind]


@dataclass(frozen=True, eq=False)
class Task:
    """A data set with its metrics. Each split loads once, when it is first used.

    Attributes:
        name: the canonical id, such as `sst2`.
        title: the name that boards print, such as `SST-2`.
        kind: what the head predicts.
        labels: the classes in the order of their ids; () for regression and span.
        metrics: all reported metrics.
        metric: the primary metric, shown on boards.
        max_length: tokens, with special tokens, at which training and evaluation cut (see `length_within`).
        synthetic: the examples are generated; boards do not mix such tasks with real ones.
        loader: reads a split.
        dev_splits: the first is the primary dev split; MNLI has a second one, `dev_mismatched`.
        averaged: False if averages leave the task out by custom (WNLI).
        source: kind of source: `folder`, `hub`, `generated` or `file`.
        described: hash of the TOML description of a user's task; None for a built-in task.
        fixed_length: True if the task's description sets `max_length`, False if it is a default.
        files: the user's files that hold the examples; () for the hub and for generated tasks.
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
        """Names of all splits: `train`, then the dev splits."""
        return ("train", *self.dev_splits)

    @property
    def output_size(self) -> int:
        """Number of logits: the number of classes, 1 for regression, 2 for span."""
        return output_size(self.kind, self.labels)

    def split(self, name: str) -> Sequence[Example]:
        """Return the examples of one split.

        Raises SkylineError: `unknown-name` for a name that is not in `splits`, `no-data` for an empty split, and the
        loader's errors for bad data.
        """
        if name not in self.splits:
            raise unknown_name(f"split of {self.name}", name, self.splits)
        if name not in self._cache:
            examples = self.loader(name)
            if not examples:
                raise SkylineError(
                    f"{self.name}: the {name} split is empty; it needs at least one example", Code.NO_DATA
                )
            self._cache[name] = examples
        return self._cache[name]

    def train(self) -> Sequence[Example]:
        """Return the training examples."""
        return self.split("train")

    def dev(self) -> Sequence[Example]:
        """Return the examples of the primary dev split."""
        return self.split(self.dev_splits[0])

    def fingerprint(self) -> str:
        """Return the SHA-256 (hexadecimal) of everything in the task that a score depends on.

        It covers kind, labels, `max_length`, metrics with their order, and the content of every split. It leaves out
        names, ids and the source, so it is the same on every machine.
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
        """Return the number of tokens at which sequences are cut for a model with `positions` positions.

        It is the smaller of `max_length` and `positions`. A `max_length` that the task's description sets must fit,
        however: else SkylineError (`too-long`).
        """
        return _length_within(self, positions)

    def held_out(self) -> Task:
        """Return the task whose dev split is a tenth of the training examples, at most `HELD_OUT`, drawn once for all
        runs. Choices are made on it, never on dev.

        Its training examples are the others, without those that overlap: GLUE's SST-2 lists phrases of its sentences
        as rows of their own, which would give the answers away.
        """
        view = self.training_view()
        left, held = view.holdout(0.1, seed=0, at_most=HELD_OUT)
        parts = {"train": without_overlap(left, held), "dev": tuple(held)}
        return replace(self, loader=parts.__getitem__, dev_splits=("dev",))

    def training_view(self) -> TrainingView:
        """Return the part of this task that a method may see."""
        return TrainingView(
            self.name,
            self.kind,
            self.labels,
            self.metrics,
            self.metric,
            self.max_length,
            tuple(self.train()),
            self.fixed_length,
        )


@dataclass(frozen=True, slots=True, eq=False)
class TrainingView:
    """The training part of a task: the only data that a method sees, also for thresholds and early stopping.

    The fields are those of `Task`. It holds no reference to the task, its loader or its dev split.
    `harness.tasks.metrics.compute` accepts a view as well as a task.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    metric: str
    max_length: int
    examples: Sequence[Example] = field(repr=False)
    fixed_length: bool = False

    @property
    def output_size(self) -> int:
        """Number of logits: the number of classes, 1 for regression, 2 for span."""
        return output_size(self.kind, self.labels)

    def with_examples(self, examples: Sequence[Example]) -> TrainingView:
        """Return a copy of the view with other examples."""
        return replace(self, examples=tuple(examples))

    def length_within(self, positions: int) -> int:
        """Return the number of tokens at which sequences are cut; see `Task.length_within`."""
        return _length_within(self, positions)

    def holdout(
        self, fraction: float, seed: int, at_most: int
    ) -> tuple[Sequence[Example], Sequence[Example]]:
        """Split the training examples at random into (kept for training, held out).

        The held-out part is `fraction` of the examples, but at least one and at most `at_most`. Both parts keep the
        original order. Raises SkylineError: `out-of-range` for a bad `fraction` or `at_most`, `no-data` for fewer than
        two examples.
        """
        total = len(self.examples)
        if not 0.0 < fraction < 1.0:
            raise SkylineError(
                f"the held-out fraction must lie between 0 and 1, not {fraction}", Code.OUT_OF_RANGE
            )
        if at_most < 1:
            raise SkylineError(
                f"the largest held-out part must be at least 1 example, not {at_most}", Code.OUT_OF_RANGE
            )
        if total < 2:
            raise SkylineError(
                f"{self.name}: cannot hold out examples of {total}; at least 2 are needed", Code.NO_DATA
            )
        size = min(max(1, round(fraction * total)), at_most, total - 1)
        rng = random.Random(seed)
        keys = [rng.random() for _ in range(total)]
        held = set(sorted(range(total), key=keys.__getitem__)[:size])
        return (
            tuple(example for index, example in enumerate(self.examples) if index not in held),
            tuple(example for index, example in enumerate(self.examples) if index in held),
        )


def without_overlap(examples: Sequence[Example], held: Sequence[Example]) -> tuple[Example, ...]:
    """Leave out the examples whose text is a run of words of a held-out text, or contains one."""
    texts = {example.text for example in held if example.pair is None}
    inner = {span for text in texts for span in _spans(text)}
    return tuple(
        example
        for example in examples
        if example.text not in inner and not any(span in texts for span in _spans(example.text))
    )


def _spans(text: str) -> Iterator[str]:
    """Yield every run of words of a text."""
    words = text.split(" ")
    for start in range(len(words)):
        for stop in range(start + 1, len(words) + 1):
            yield " ".join(words[start:stop])


def _length_within(task: Task | TrainingView, positions: int) -> int:
    # Who wrote `max_length` into a description wants this length, so a model that is too short is refused. A default is
    # only an upper limit: a shorter model cuts earlier, and its record says where.
    if task.fixed_length and task.max_length > positions:
        raise SkylineError(
            f"task {task.name} has max_length {task.max_length}, but the model has {positions} positions; "
            f"lower max_length to {positions} in its description, or use a model with more positions",
            Code.TOO_LONG,
        )
    return min(task.max_length, positions)


def _plain(label: Label) -> object:
    """Return a label as a JSON value."""
    return [list(label.texts), list(label.starts)] if isinstance(label, Span) else label


def canonical(value: object) -> bytes:
    """Return one line of JSON whose bytes depend only on the value."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), sort_keys=True).encode() + b"\n"
