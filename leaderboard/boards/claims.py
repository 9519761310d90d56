"""Which of the figures that a method's paper published belong to a recipe: same options, same base model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from harness.recipes.discovery import discover
from leaderboard.boards.names import Cards, Part, claimed_column, recipe_parts, task_title


def installed_cards() -> dict[str, dict[str, Any]]:
    """The installed methods' cards as plain values, by id, each with its options' `defaults`."""
    cards = {}
    for identity, found in discover().methods.items():
        options = fields(found.method.Options)
        defaults = {option.name: option.default for option in options if option.default is not MISSING}
        cards[identity] = {**found.method.card.to_dict(), "defaults": defaults}
    return cards


def claims_of(recipe: str, model: str, cards: Cards) -> list[Mapping[str, Any]]:
    """The claims that hold for a recipe of one method on a base model: the card's first of each task.

    A claim holds where the recipe's options, or else their `defaults` in the card, have all of the claim's values.
    """
    parts = recipe_parts(recipe)
    if len(parts) > 1:
        return []
    options = _options(parts[0], cards)
    found: dict[str, Mapping[str, Any]] = {}
    for claim in cards.get(parts[0].method, {}).get("claims", ()):
        wanted = {name: _written(value) for name, value in claim.get("options", {}).items()}
        if claim.get("model", "bert-base") == model and wanted.items() <= options.items():
            found.setdefault(str(claim["task"]), claim)
    return list(found.values())


def claimed_scores(recipe: str, model: str, cards: Cards) -> tuple[dict[str, float], list[str]]:
    """The scores that the method's paper published for a recipe on a base model, by column, and a note on each."""
    variant = cards.get(recipe.partition(":")[0], {}).get("fidelity") == "variant"
    scores, notes = {}, []
    for claim in claims_of(recipe, model, cards):
        task = claimed_column(str(claim["task"]), str(claim.get("metric", "")))
        scores[task] = float(claim["value"])
        split = claim.get("split", "unknown")
        on = "on a split that is not known" if split == "unknown" else f"on {split}"
        doubt = "" if claim.get("sure", True) else ", remembered of the paper, not read in it"
        where = f" ({claim['where']}{doubt})" if claim.get("where") else ""
        suffix = "; this method is a variant of the paper's" if variant else ""
        notes.append(f"as published: {task_title(task)} {scores[task]:g} {on}{where}{suffix}")
    return scores, notes


def _options(part: Part, cards: Cards) -> dict[str, str]:
    defaults = cards.get(part.method, {}).get("defaults", {})
    pairs = (text.partition("=") for text in part.options.split(",") if "=" in text)
    given = {name.strip().replace("-", "_"): value.strip() for name, _, value in pairs}
    return {name: _written(value) for name, value in {**defaults, **given}.items()}


def _written(value: object) -> str:
    """A value as text, the same for the value and for what a recipe writes for it: 0.80 is 0.8, 6.0 is 6."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    try:
        return f"{float(text):.12g}"
    except ValueError:
        return text
