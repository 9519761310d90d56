"""What the cards of the installed methods say."""

from __future__ import annotations

import re

from harness.recipes.discovery import discover

SCORE = re.compile(r"\b\d{2}\.\d+\b")
"""A figure such as 89.1. Scores in points look like it."""
SOURCES = ("paper", "survey", "published", "Published")


def test_a_card_quotes_scores_of_publications_only() -> None:
    quoted = []
    for identity, found in discover().methods.items():
        card = found.method.card
        for sentence in re.split(r"(?<=[.;]) ", f"{card.deviations} {card.notes}"):
            if SCORE.search(sentence):
                quoted.append((identity, sentence))
    assert quoted  # the pattern finds what it is for
    assert [each for each in quoted if not any(word in each[1] for word in SOURCES)] == []
