"""Match the scores that a method's paper published with a recipe: same options, same base model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from harness.recipes.discovery import discover
from leaderboard.boards.names import Cards, Part, claimed_column, recipe_parts, task_title


def installed_cards() -> dict[str, dict[str, Any]]:
    """Read the installed methods' cards as plain values, by id, each with the `defaults` of its options."""
    cards = {}
    for identity, found in discover().methods.items():
        options = fields(found.method.Options)
        defaults = {option.name: option.default for option in options if option.default is not MISSING}
        cards[identity] = {**found.method.card.to_dict(), "defaults": defaults}
    return cards


def claims_of(recipe: str, model: str, cards: Cards) -> list[Mapping[str, Any]]:
    """List the claims that belong to a recipe of one method on a base model: for each task, the card's first.

    A claim belongs to it if the recipe's options (or their defaults in the card) have all values that the claim names.
    Claims without conditions come before those with conditions.
    """
    parts = recipe_parts(recipe)
    if len(parts) > 1:
        return []
    options = _options(parts[0], cards)
    found: dict[str, Mapping[str, Any]] = {}
    claims = cards.get(parts[0].method, {}).get("claims", ())
    for claim in sorted(claims, key=lambda claim: bool(claim.get("conditions"))):
        wanted = {name: _written(value) for name, value in claim.get("options", {}).items()}
        if claim.get("model", "bert-base") == model and wanted.items() <= options.items():
            found.setdefault(str(claim["task"]), claim)
    return list(found.values())


def obstacles(claim: Mapping[str, Any], card: Mapping[str, Any]) -> list[str]:
    """List the reasons, beside the split, why a score of a recipe cannot be compared with a claim of its card."""
    found = [f"published {conditions}" for conditions in [claim.get("conditions", "")] if conditions]
    if card.get("fidelity") == "variant":
        found.append("this method is a variant of the paper's")
    return found


def claimed_scores(recipe: str, model: str, cards: Cards) -> tuple[dict[str, float], list[str]]:
    """Return the published scores (points) of a recipe on a base model, by column, and a note on each.

    The note says if a score of ours could not be compared with it, and why.
    """
    card = cards.get(recipe.partition(":")[0], {})
    scores, notes = {}, []
    for claim in claims_of(recipe, model, cards):
        task = claimed_column(str(claim["task"]), str(claim.get("metric", "")))
        scores[task] = float(claim["value"])
        split = claim.get("split", "unknown")
        on = "on an unknown split" if split == "unknown" else f"on {split}"
        doubt = "" if claim.get("sure", True) else ", remembered, not read in the paper"
        where = f" ({claim['where']}{doubt})" if claim.get("where") else ""
        reasons = "; ".join(obstacles(claim, card))
        suffix = f"; not comparable: {reasons}" if reasons else ""
        notes.append(f"as published: {task_title(task)} {scores[task]:g} {on}{where}{suffix}")
    return scores, notes


def _options(part: Part, cards: Cards) -> dict[str, str]:
    defaults = cards.get(part.method, {}).get("defaults", {})
    pairs = (text.partition("=") for text in part.options.split(",") if "=" in text)
    given = {name.strip().replace("-", "_"): value.strip() for name, _, value in pairs}
    return {name: _written(value) for name, value in {**defaults, **given}.items()}


def _written(value: object) -> str:
    """Write a value as text, so that equal values give equal texts: 0.80 gives 0.8, and 6.0 gives 6."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    try:
        return f"{float(text):.12g}"
    except ValueError:
        return text
