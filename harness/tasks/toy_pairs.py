"""`toy-pairs`: does the first sentence entail the second (0) or not (1)?

Each construction makes both classes from the same words. The classes differ in how the words of the two sentences
relate: in word order, quantifiers, negation, and who does what to whom.
"""

from __future__ import annotations

from harness.tasks.toy_grammar import Choices, Construction, Texts, sentence

LABELS = ("entailment", "not_entailment")
MAX_LENGTH = 48

NAMES = (
    "Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Julia", "Kevin", "Laura", "Martin",
    "Nina", "Oliver", "Paula", "Robert", "Sarah", "Thomas", "Victor", "Wendy",
)  # fmt: skip
ROLES = (
    "doctor", "pilot", "nurse", "farmer", "singer", "lawyer", "soldier", "teacher", "driver", "painter",
    "cook", "judge", "guard", "actor", "writer", "sailor",
)  # fmt: skip
SCALES = (
    ("taller", "shorter"), ("older", "younger"), ("faster", "slower"), ("richer", "poorer"),
    ("stronger", "weaker"), ("louder", "quieter"), ("happier", "sadder"), ("heavier", "lighter"),
)  # fmt: skip
EVENTS = ("arrived", "left", "spoke", "finished", "woke up", "called", "paid", "sang")
DEEDS = (
    "helped", "followed", "thanked", "watched", "painted", "visited", "called", "warned", "met", "praised",
    "ignored", "hired",
)  # fmt: skip
ITEMS = (
    "lamp", "chair", "clock", "carpet", "mirror", "table", "guitar", "camera", "ring", "hat", "coat", "knife",
)  # fmt: skip
KINDS = (
    ("dog", "animal"), ("horse", "animal"), ("cat", "animal"), ("rose", "flower"), ("tulip", "flower"),
    ("apple", "fruit"), ("banana", "fruit"), ("hammer", "tool"), ("saw", "tool"), ("violin", "instrument"),
    ("piano", "instrument"), ("car", "vehicle"), ("truck", "vehicle"),
)  # fmt: skip
VERBS = (("found", "find"), ("drew", "draw"), ("wanted", "want"), ("mentioned", "mention"))
GROUPS = (
    "children", "guests", "students", "players", "workers", "tourists", "singers", "visitors", "nurses",
    "pilots", "farmers", "dancers",
)  # fmt: skip
STATES = (
    "slept", "laughed", "waited", "danced", "cried", "smiled", "cheered", "complained", "sang", "left",
    "stayed", "listened",
)  # fmt: skip
TASKS = (
    ("open the door", "opened the door"), ("repair the car", "repaired the car"),
    ("win the race", "won the race"), ("find the key", "found the key"),
    ("catch the train", "caught the train"), ("sell the house", "sold the house"),
    ("solve the riddle", "solved the riddle"), ("finish the book", "finished the book"),
    ("climb the wall", "climbed the wall"), ("pass the test", "passed the test"),
    ("cross the river", "crossed the river"), ("fix the roof", "fixed the roof"),
    ("reach the village", "reached the village"), ("stop the bus", "stopped the bus"),
)  # fmt: skip


def comparison(choices: Choices, label: int) -> Texts:
    """Compare two people ("taller", "before"), then say it from the other side: with the opposite word, or wrongly."""
    one, two, three = choices.some(NAMES, 3)
    if choices.chance():
        pair = choices.one(SCALES)
        verb, words = "is", (f"{pair[0]} than", f"{pair[1]} than")
    else:
        verb, words = choices.one(EVENTS), ("before", "after")
    word = int(choices.chance())
    said, other = 1 - word, one
    if label == 1:
        if choices.chance(0.75):
            said = word
        else:
            other = three
    return sentence(f"{one} {verb} {words[word]} {two}"), sentence(f"{two} {verb} {words[said]} {other}")


def voice(choices: Choices, label: int) -> Texts:
    """Say who did what to whom in active and in passive voice; class 1 changes the deed or a person."""
    one, two, three = choices.some(ROLES, 3)
    deed, other_deed = choices.some(DEEDS, 2)
    told = (one, deed, two)
    if label == 1:
        told = choices.one(((one, other_deed, two), (three, deed, two), (one, deed, three)))
    return _in_both_voices(choices, (one, deed, two), told)


def roles(choices: Choices, label: int) -> Texts:
    """As `voice`, but class 1 exchanges the two people. It is the hardest construction and has a small weight."""
    one, two = choices.some(ROLES, 2)
    deed = choices.one(DEEDS)
    return _in_both_voices(choices, (one, deed, two), (two, deed, one) if label == 1 else (one, deed, two))


def _in_both_voices(choices: Choices, first: tuple[str, str, str], second: tuple[str, str, str]) -> Texts:
    """Say two deeds (who, did, whom), one in active and one in passive voice."""
    active, passive = "the {0} {1} the {2}", "the {2} was {1} by the {0}"
    forms = (active, passive) if choices.chance() else (passive, active)
    return sentence(forms[0].format(*first)), sentence(forms[1].format(*second))


def coordination(choices: Choices, label: int) -> Texts:
    """Combine things by "and" or "or"."""
    name = choices.one(NAMES)
    one, two, three = (f"a {item}" for item in choices.some(ITEMS, 3))
    single = choices.one((one, two))
    premise, entailed, not_entailed = choices.one(
        (
            (f"{one} and {two}", single, three),
            (f"{one} or {two}", f"{two} or {one}", single),
            (
                one,
                choices.one((f"{one} or {two}", f"{two} or {one}")),
                choices.one((f"{two} or {three}", two)),
            ),
            (
                f"{one} and {two}",
                f"{two} and {one}",
                choices.one((f"{one} and {three}", f"{three} and {two}")),
            ),
        )
    )
    hypothesis = not_entailed if label == 1 else entailed
    return sentence(f"{name} bought {premise}"), sentence(f"{name} bought {hypothesis}")


def quantity(choices: Choices, label: int) -> Texts:
    """Quantify over a group that is not empty: all, none, some, not all."""
    group, state = choices.one(GROUPS), choices.one(STATES)
    everybody = choices.chance()
    premise = f"all of the {group} {state}" if everybody else f"none of the {group} {state}"
    said = everybody if label == 0 else not everybody
    hypothesis = f"some of the {group} {state}" if said else f"not all of the {group} {state}"
    return sentence(premise), sentence(hypothesis)


def implication(choices: Choices, label: int) -> Texts:
    """Imply by "managed to" that something happened, and by "failed to" that it did not."""
    name, (infinitive, past) = choices.one(NAMES), choices.one(TASKS)
    managed = choices.chance()
    premise = f"{name} {'managed' if managed else 'failed'} to {infinitive}"
    said = managed if label == 0 else not managed
    hypothesis = f"{name} {past}" if said else f"{name} did not {infinitive}"
    return sentence(premise), sentence(hypothesis)


def generality(choices: Choices, label: int) -> Texts:
    """Exchange a noun and its hypernym. A plain clause entails the hypernym; a negated clause entails the hyponym."""
    name, (kind, genus) = choices.one(NAMES), choices.one(KINDS)
    negated = choices.chance()
    upwards = (not negated) if label == 0 else negated
    past, infinitive = choices.one(VERBS)
    verb = f"did not {infinitive}" if negated else past
    narrow, wide = (f"{name} {verb} {_article(noun)}" for noun in (kind, genus))
    return (sentence(narrow), sentence(wide)) if upwards else (sentence(wide), sentence(narrow))


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


CONSTRUCTIONS: tuple[tuple[Construction, int], ...] = (
    (comparison, 4),
    (voice, 4),
    (roles, 1),
    (coordination, 5),
    (quantity, 1),
    (implication, 2),
    (generality, 3),
)
