"""`toy-sentiment`: does a sentence judge its subject negatively (0) or positively (1)?

The rules:

- A negated clause says the opposite of its adjective ("was not dull", "nobody would call it charming").
- With "but", the clause after it decides; with "although", the main clause decides.
- A comparison judges the thing that is named first: "the film was better than the book" praises the film,
  "compared with the film, the book was better" does not.
- An opinion or expectation of another person counts as it is, or reversed if the speaker's remark contradicts it.
- Hedges and circumstances change nothing.
"""

from __future__ import annotations

from harness.tasks.toy_grammar import Choices, Construction, Texts, sentence

LABELS = ("negative", "positive")
MAX_LENGTH = 32
NEGATIONS = 0.35
"""Probability that a clause is negated."""
BORNE_OUT = 0.6
"""Probability that the speaker's remark confirms an opinion."""

GOOD = (
    "good", "great", "brilliant", "charming", "delightful", "wonderful", "moving", "clever", "funny", "fresh",
    "gripping", "elegant", "superb", "lovely", "touching", "thrilling", "excellent", "smart", "beautiful",
    "vivid", "warm", "inspired", "graceful", "memorable",
)  # fmt: skip
BAD = (
    "bad", "poor", "terrible", "dull", "boring", "awful", "clumsy", "tedious", "bland", "stale", "weak",
    "dreadful", "lifeless", "shallow", "silly", "ugly", "messy", "hollow", "sloppy", "horrible", "cheap",
    "pathetic", "mediocre", "annoying",
)  # fmt: skip
ADJECTIVES = (BAD, GOOD)

THINGS = ("film", "play", "show", "novel", "book", "album", "concert", "series", "opera", "game")
ASPECTS = ("plot", "acting", "dialogue", "ending", "music", "script", "opening", "cast", "middle", "style")
PEOPLE = ("sister", "brother", "friend", "neighbour", "teacher", "cousin", "boss", "uncle")
DEGREES = ("", "", "very ", "quite ", "truly ", "really ", "rather ")
HEDGES = ("", "", "", "to be fair, ", "I think ", "it seems to me that ", "perhaps ", "in my view, ")
CIRCUMSTANCES = (
    "",
    "",
    "",
    "on Monday, ",
    "that evening, ",
    "after a long day, ",
    "this time, ",
    "in the rain, ",
)

PLAIN = (
    "the {thing} was {degree}{word}",
    "I found the {thing} {degree}{word}",
    "the {thing} is {degree}{word}",
)
NEGATED = (
    "the {thing} was not {word}",
    "the {thing} was never {word}",
    "I did not find the {thing} {word}",
    "nobody would call the {thing} {word}",
    "the {thing} was far from {word}",
    "the {thing} was anything but {word}",
)
MEASURES = ("compared with", "next to", "measured against")


def clause(choices: Choices, polarity: int, thing: str) -> str:
    """Make a clause about a thing. Negation is so frequent that the adjective alone says little."""
    negated = choices.chance(NEGATIONS)
    word = choices.one(ADJECTIVES[1 - polarity if negated else polarity])
    form = choices.one(NEGATED if negated else PLAIN)
    return form.format(thing=thing, word=word, degree=choices.one(DEGREES))


def single(choices: Choices, label: int) -> Texts:
    """One clause after a circumstance or a hedge."""
    lead = choices.one(CIRCUMSTANCES if choices.chance() else HEDGES)
    return sentence(lead + clause(choices, label, choices.one(THINGS + ASPECTS))), None


def contrast(choices: Choices, label: int) -> Texts:
    """Two clauses of opposite polarity; one of them decides."""
    first, second = choices.some(ASPECTS, 2)
    decides, yields = clause(choices, label, first), clause(choices, 1 - label, second)
    form = choices.one(
        ("{yields}, but {decides}", "although {yields}, {decides}", "{decides}, although {yields}")
    )
    return sentence(form.format(decides=decides, yields=yields)), None


def agreement(choices: Choices, label: int) -> Texts:
    """Two clauses of the same polarity."""
    first, second = choices.some(ASPECTS, 2)
    return sentence(f"{clause(choices, label, first)}, and {clause(choices, label, second)}"), None


def comparison(choices: Choices, label: int) -> Texts:
    """A comparison of two things. The label judges the first one, which is the subject or the measure."""
    first, second = choices.some(THINGS, 2)
    subject = choices.chance()
    better = label if subject else 1 - label
    if choices.chance(0.25):
        compared = ("worse", "better")[better]
    else:
        more = choices.chance()
        compared = ("more " if more else "less ") + choices.one(ADJECTIVES[better if more else 1 - better])
    if subject:
        return sentence(f"the {first} was {compared} than the {second}"), None
    return sentence(f"{choices.one(MEASURES)} the {first}, the {second} was {compared}"), None


def opinion(choices: Choices, label: int) -> Texts:
    """An opinion or expectation of another person, and a remark that confirms or contradicts it."""
    held = choices.chance(BORNE_OUT)
    person, thing = choices.one(PEOPLE), choices.one(THINGS + ASPECTS)
    word = choices.one(ADJECTIVES[label if held else 1 - label])
    form, borne_out, refuted = choices.one(
        (
            ("my {person} called the {thing} {word}, and ", "I agree", "I disagree"),
            ("my {person} found the {thing} {word}, and ", "rightly so", "wrongly so"),
            ("my {person} expected the {thing} to be {word}, and ", "it was", "it was not"),
            ("my {person} says the {thing} was {word}, which is ", "true", "false"),
        )
    )
    return sentence(
        form.format(person=person, thing=thing, word=word) + (borne_out if held else refuted)
    ), None


CONSTRUCTIONS: tuple[tuple[Construction, int], ...] = (
    (single, 5),
    (contrast, 6),
    (agreement, 2),
    (comparison, 4),
    (opinion, 3),
)
