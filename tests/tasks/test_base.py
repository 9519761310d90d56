from __future__ import annotations

import gc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.common.errors import Code
from harness.tasks.base import Example, Span, TrainingView
from tests.support.one_line_errors import refused
from tests.support.task_files import memory_task

TRAIN = tuple(Example(f"train {n}", None, n % 2, str(n)) for n in range(10))
DEV = tuple(Example(f"dev {n}", None, n % 2, str(n)) for n in range(4))


def test_a_split_is_read_once_and_only_when_asked_for() -> None:
    calls: list[str] = []
    task = memory_task("classification", TRAIN, DEV, ("no", "yes"))
    inner = task.loader

    def counting(split: str) -> tuple[Example, ...]:
        calls.append(split)
        return inner(split)

    object.__setattr__(task, "loader", counting)
    assert calls == []
    assert task.dev() == DEV
    assert calls == ["dev"]
    assert task.train() == TRAIN
    assert task.train() is task.train()
    task.fingerprint()
    assert calls == ["dev", "train"]


def test_output_size_is_the_number_of_logits() -> None:
    assert memory_task("classification", TRAIN, DEV, ("a", "b", "c"), ("accuracy",)).output_size == 3
    assert memory_task("regression", TRAIN, DEV).output_size == 1
    assert memory_task("span", TRAIN, DEV).output_size == 2


def test_unknown_split_suggests_the_nearest() -> None:
    with refused(Code.UNKNOWN_NAME, "memory", "'trian'", "'train'"):
        memory_task("regression", TRAIN, DEV).split("trian")


def test_an_empty_split_is_an_error() -> None:
    task = memory_task("classification", (), DEV, ("no", "yes"))
    with refused(Code.NO_DATA, "memory", "train"):
        task.train()


def test_a_primary_metric_outside_the_metrics_is_refused() -> None:
    with pytest.raises(ValueError, match="primary metric"):
        memory_task("regression", TRAIN, DEV, metrics=("accuracy",))


def test_fingerprint_depends_on_content_only() -> None:
    base = memory_task("classification", TRAIN, DEV, ("no", "yes")).fingerprint()
    renamed = tuple(Example(e.text, e.pair, e.label, "other id") for e in TRAIN)
    assert memory_task("classification", renamed, DEV, ("no", "yes")).fingerprint() == base
    changed = {
        memory_task("classification", TRAIN[::-1], DEV, ("no", "yes")).fingerprint(),
        memory_task("classification", TRAIN, DEV[:-1], ("no", "yes")).fingerprint(),
        memory_task("classification", TRAIN, DEV, ("yes", "no")).fingerprint(),
        memory_task("classification", (*TRAIN, DEV[0]), DEV[1:], ("no", "yes")).fingerprint(),
        memory_task("classification", (Example("x", "", 0), *TRAIN[1:]), DEV, ("no", "yes")).fingerprint(),
        memory_task("classification", (Example("x", None, 0), *TRAIN[1:]), DEV, ("no", "yes")).fingerprint(),
    }
    assert len(changed) == 6
    assert base not in changed


def test_fingerprint_depends_on_length_and_metrics() -> None:
    task = memory_task("classification", TRAIN, DEV, ("no", "yes"))
    others = (
        replace(task, max_length=task.max_length + 1),
        replace(task, metrics=task.metrics[::-1]),
        replace(task, metrics=task.metrics[:1]),
        replace(task, metric=task.metrics[1]),
    )
    assert len({task.fingerprint(), *(other.fingerprint() for other in others)}) == 5
    assert replace(task, name="other", title="Other", source="hub").fingerprint() == task.fingerprint()


def test_a_default_length_is_lowered_and_a_given_one_refused() -> None:
    default = memory_task("classification", TRAIN, DEV, ("no", "yes"))
    given = replace(default, fixed_length=True)
    for task in (default, default.training_view(), given, given.training_view()):
        assert [task.length_within(positions) for positions in (32, 33, 512)] == [32, 32, 32]
    assert default.length_within(31) == default.training_view().length_within(31) == 31
    view = given.training_view()
    for fixed in (given, view, view.with_examples(TRAIN[:3])):
        with refused(Code.TOO_LONG, "memory", "max_length 32", "31 positions"):
            fixed.length_within(31)


def test_a_view_of_other_examples_differs_in_them_only() -> None:
    view = replace(
        memory_task("classification", TRAIN, DEV, ("no", "yes")), fixed_length=True
    ).training_view()
    other = view.with_examples(TRAIN[:3])
    assert other.examples == TRAIN[:3]
    assert view.examples == TRAIN
    same = set(TrainingView.__slots__) - {"examples"}
    assert {name: getattr(other, name) for name in same} == {name: getattr(view, name) for name in same}


def test_fingerprint_takes_spans_and_scores() -> None:
    one = memory_task("span", [Example("q", "a b", Span(("a",), (0,)))], DEV).fingerprint()
    two = memory_task("span", [Example("q", "a b", Span(("b",), (2,)))], DEV).fingerprint()
    assert one != two
    assert len(one) == 64


def reachable_from(root: object) -> set[int]:
    """Return the ids of all objects that can be reached from `root`, without modules, types and functions."""
    seen: set[int] = set()
    queue = [root]
    while queue:
        item = queue.pop()
        if id(item) in seen or isinstance(item, type) or type(item).__name__ in {"module", "function"}:
            continue
        seen.add(id(item))
        queue.extend(gc.get_referents(item))
    return seen


def test_nothing_leads_from_a_training_view_to_the_dev_split() -> None:
    task = memory_task("classification", TRAIN, DEV, ("no", "yes"))
    view = task.training_view()
    task.dev()
    assert not hasattr(view, "__dict__")
    found = reachable_from(view)
    assert all(id(example) in found for example in task.train())
    assert all(id(example) not in found for example in task.dev())
    assert id(task) not in found
    # The walk finds the dev split if there is a way to it.
    assert all(id(example) in reachable_from(task) for example in task.dev())
    assert (view.name, view.kind, view.labels, view.output_size, view.max_length) == (
        "memory", "classification", ("no", "yes"), 2, 32,
    )  # fmt: skip


@given(
    size=st.integers(2, 60),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
    at_most=st.integers(1, 80),
)
def test_a_holdout_partitions_the_training_examples(
    size: int, fraction: float, seed: int, at_most: int
) -> None:
    examples = [Example(str(n), None, 0) for n in range(size)]
    view = TrainingView("t", "classification", ("a", "b"), ("accuracy",), "accuracy", 8, examples)
    kept, held = view.holdout(fraction, seed, at_most)
    assert 1 <= len(held) == min(max(1, round(fraction * size)), at_most, size - 1)
    assert sorted([*kept, *held], key=lambda e: int(e.text)) == examples
    assert list(kept) == sorted(kept, key=lambda e: int(e.text))
    assert view.holdout(fraction, seed, at_most) == (kept, held)


def test_a_holdout_depends_on_the_seed() -> None:
    view = memory_task("classification", TRAIN, DEV, ("no", "yes")).training_view()
    assert len({view.holdout(0.3, seed, 100)[1] for seed in range(20)}) > 10


@pytest.mark.parametrize(("fraction", "at_most"), [(0.0, 5), (1.0, 5), (-0.5, 5), (0.5, 0)])
def test_a_holdout_that_cannot_be_is_refused(fraction: float, at_most: int) -> None:
    view = memory_task("classification", TRAIN, DEV, ("no", "yes")).training_view()
    with refused(Code.OUT_OF_RANGE, str(fraction if at_most else at_most)):
        view.holdout(fraction, 0, at_most)


def test_one_example_cannot_be_held_out() -> None:
    view = memory_task("classification", TRAIN[:1], DEV, ("no", "yes")).training_view()
    with refused(Code.NO_DATA, "memory", "of 1"):
        view.holdout(0.5, 0, 10)
