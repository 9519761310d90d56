"""Recipes as boards name them: their parts, titles, families and the costs that their cards claim."""

from __future__ import annotations

from leaderboard.boards.names import claimed_costs, recipe_family, recipe_parts, recipe_title
from tests.support.board_records import CARDS


def test_recipes_are_read_as_written() -> None:
    parts = recipe_parts("kd-logits:layers=3,weight=1e+5 + magnitude > dynamic-int8")
    assert [(p.method, p.options, p.joint) for p in parts] == [
        ("kd-logits", "layers=3,weight=1e+5", ""),
        ("magnitude", "", "+"),
        ("dynamic-int8", "", ">"),
    ]
    assert recipe_title("baseline", {}) == "Baseline"
    assert recipe_title("new:a=1,b=2", {}) == "new (a=1, b=2)"
    assert recipe_family("baseline", {}) == "baseline"
    assert recipe_family("magnitude:sparsity=0.4", CARDS) == "unstructured-pruning"
    assert recipe_family("unknown", CARDS) == "other"
    assert claimed_costs("kd-logits > magnitude", CARDS) == {
        *("disk", "flops", "latency", "memory", "parameters")
    }
