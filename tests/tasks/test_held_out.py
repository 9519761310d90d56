"""The held-out slice of training data: disjoint, fixed, and without phrases of itself in what is left."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.tasks import load_task
from harness.tasks.base import Example, without_overlap

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=5).map(" ".join)


def test_choices_are_made_on_training_rows() -> None:
    task = load_task("toy-pairs")
    held = task.held_out()
    rows = {(row.text, row.pair) for row in task.train()}
    assert {(row.text, row.pair) for row in (*held.train(), *held.dev())} <= rows
    assert len(held.dev()) == round(0.1 * len(task.train()))
    assert not {row.id for row in held.dev()} & {row.id for row in held.train()}
    assert held.fingerprint() == task.held_out().fingerprint() != task.fingerprint()
    assert held.name == task.name


@given(st.lists(WORDS, max_size=20), st.lists(WORDS, min_size=1, max_size=5))
def test_no_phrase_of_a_held_out_row_is_left(left: list[str], held: list[str]) -> None:
    def padded(text: str) -> str:
        return f" {text} "

    kept = without_overlap(
        [Example(text, None, 0) for text in left], [Example(text, None, 0) for text in held]
    )
    wanted = [
        text
        for text in left
        if not any(padded(text) in padded(other) or padded(other) in padded(text) for other in held)
    ]
    assert [example.text for example in kept] == wanted
