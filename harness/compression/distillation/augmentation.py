"""Data augmentation: replace words of the training texts, and let the teacher label the new texts (Jiao et al. 2020,
section 3.2).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from harness.common.errors import Code, SkylineError
from harness.common.files import write_atomically
from harness.common.lazy import lazy_imports
from harness.compression.card import options
from harness.compression.method import Method
from harness.models.config import EncoderConfig
from harness.tasks.base import Example, canonical

with lazy_imports():
    import torch

    from harness.compression import context as training_context
    from harness.compression import encoded_rows, evaluation
    from harness.models import batch as models_batch
    from harness.models import model as model_module


if TYPE_CHECKING:
    import torch

    from harness.compression.comparable import Baseline
    from harness.compression.context import Augmented, Context
    from harness.models.encoder.encoder import Encoder
    from harness.models.encoder.mlm_head import MaskedLanguageModelHead
    from harness.models.tokenizer import Tokenizer

PROBABILITY, CANDIDATES = 0.4, 15
"""The probability that a word is replaced, and the number of candidates for it (Jiao et al. 2020, section 4.3)."""
VERSION = 1
"""Raise it when a change gives other texts: cached ones are then made again."""
WORD = re.compile(r"\w+(?:['’]\w+)*")
GRAMMAR = """
a about above after again against all also am an and any are as at be because been before being below between both
but by can cannot could did do does doing down during each few for from further had has have having he her here hers
herself him himself his how i if in into is it its itself just me more most my myself no nor not now of off on once
only or other our ours ourselves out over own same she should so some such than that the their theirs them
themselves then there these they this those through to too under until up upon very was we were what when where
which while who whom whose why will with would you your yours yourself yourselves
"""
STOP_WORDS = frozenset(GRAMMAR.split())
"""Words that carry grammar rather than content. They are never replaced."""

Place = tuple[int, int, list[str]]
"""Start and end of a word in a text, in characters, and the candidates that may replace it."""
CHUNK, ROWS = 1024, 64
"""Words whose neighbours are computed at once, and sequences with a hidden word in a batch."""


@options
class AugmentationOptions:
    """`augment`: the most new texts made of each training example. Duplicates are dropped; the others are added to each
    epoch.
    """

    augment: Annotated[int, Field(ge=0, le=100)] = 0


class Augmenting(Method):
    """A method with the option `augment`. Every distillation method is one."""

    Options = AugmentationOptions

    def check_against(self, config: Any, baseline: Baseline) -> None:
        """Raise SkylineError if texts are to be augmented and cannot be: see `refuse_augmentation` and
        `refuse_texts_without_candidates`.
        """
        if self.options.augment:
            tokenizer = baseline.tokenizer()
            refuse_augmentation(baseline.config, tokenizer)
            assert tokenizer is not None
            refuse_texts_without_candidates(tokenizer, baseline.texts())

    def examples(self, context: Context) -> Sequence[Augmented]:
        """Return the augmented examples that the option asks for."""
        return augment(context, self.options.augment) if self.options.augment else ()


def refuse_augmentation(config: EncoderConfig, tokenizer: Tokenizer | None) -> None:
    """Raise SkylineError (`unsupported`) for spans, whose answers would change, and (`wrong-kind`) if the base model
    has no table of word embeddings or no WordPiece vocabulary with whole words to take candidates from.
    """
    if config.head.kind == "span":
        raise SkylineError(
            "augmentation would change the answers of a task of spans; use augment=0", Code.UNSUPPORTED
        )
    if config.words is not None:
        raise SkylineError(
            "augmentation takes its candidates from word embeddings, but those of codes or hashes have no neighbours; "
            "use augment=0",
            Code.WRONG_KIND,
        )
    if tokenizer is None or len(whole_words(tokenizer)) < 2:
        raise SkylineError(
            "augmentation takes its candidates from the whole words of a WordPiece vocabulary, and the base model has "
            "none; use augment=0",
            Code.WRONG_KIND,
        )


def whole_words(tokenizer: Tokenizer) -> dict[str, int]:
    """Return the tokens of a WordPiece vocabulary that are whole words of at least two letters, with their ids. For
    another kind of vocabulary the result is empty.
    """
    model = json.loads(tokenizer.to_json())["model"]
    if model["type"] != "WordPiece":
        return {}
    return {token: number for token, number in model["vocab"].items() if token.isalpha() and len(token) > 1}


def replaceable(text: str) -> list[re.Match[str]]:
    """Return the words of a text that may be replaced: those of letters only, except stop words."""
    found = WORD.finditer(text)
    return [word for word in found if word.group().isalpha() and word.group().lower() not in STOP_WORDS]


def nearest_words(model: Encoder, words: Sequence[str]) -> dict[str, list[str]]:
    """Return for each of `words` the whole words of the vocabulary that are nearest in `model`'s word embeddings
    (cosine), the nearest first. The embedding of a word in pieces is the mean of its pieces. Words with an unknown
    piece are left out.
    """
    tokenizer = model.require_tokenizer()
    whole = whole_words(tokenizer)
    names, ids = list(whole), torch.tensor(list(whole.values()))
    unknown = tokenizer.fast.token_to_id(json.loads(tokenizer.to_json())["model"]["unk_token"])
    encoded = tokenizer.fast.encode_batch(list(words), add_special_tokens=False)
    pieces = {word: e.ids for word, e in zip(words, encoded, strict=True) if e.ids and unknown not in e.ids}
    found: dict[str, list[str]] = {}
    with torch.no_grad():
        table = model.embedding.word(torch.arange(model.config.vocab_size)[None])[0]  # (V, E)
        if model.embedding.project is not None:
            table = model.embedding.project(table)  # (V, H)
        targets = torch.nn.functional.normalize(table[ids], dim=-1)  # (whole words, H)
        known = list(pieces)
        for start in range(0, len(known), CHUNK):
            chunk = known[start : start + CHUNK]
            own = torch.stack([table[pieces[word]].mean(0) for word in chunk])  # (chunk, H)
            cosines = torch.nn.functional.normalize(own, dim=-1) @ targets.T  # (chunk, whole words)
            best = cosines.topk(min(CANDIDATES + 1, len(names)), dim=-1).indices.tolist()
            for word, row in zip(chunk, best, strict=True):
                others = [names[place] for place in row if [whole[names[place]]] != pieces[word]]
                found[word] = others[:CANDIDATES]
    return found


def likely_words(
    model: Encoder, head: MaskedLanguageModelHead, texts: Sequence[str]
) -> dict[tuple[str, int], list[str]]:
    """Return, by (text, start of the word), the whole words that the masked language model finds most likely in place
    of a word, the most likely first. Only words that are one token are predicted. Empty without a token [MASK].

    Each word needs a forward pass of its text, so this takes as long as a few epochs of training.
    """
    tokenizer = model.require_tokenizer()
    mask_id = tokenizer.fast.token_to_id("[MASK]")
    if mask_id is None:
        return {}
    whole = whole_words(tokenizer)
    names, ids = list(whole), torch.tensor(list(whole.values()))
    rows: list[tuple[str, int, list[int], int]] = []
    for text, encoding in zip(texts, tokenizer.tokens(texts, None, model.config.positions), strict=True):
        # Special tokens have empty offsets.
        tokens = {tuple(span): place for place, span in enumerate(encoding.offsets) if span[1] > span[0]}
        found = [(word.start(), tokens.get(word.span())) for word in replaceable(text)]
        rows += [(text, start, encoding.ids, place) for start, place in found if place is not None]
    rows.sort(key=lambda row: len(row[2]))
    likely: dict[tuple[str, int], list[str]] = {}
    device = model.embedding.word.weight.device
    with torch.no_grad(), model_module.evaluating(model):
        for first in range(0, len(rows), ROWS):
            chunk = rows[first : first + ROWS]
            batch = torch.full((len(chunk), len(chunk[-1][2])), tokenizer.pad_id)  # (b, n)
            present = torch.zeros_like(batch)
            for number, (_, _, tokens_of, place) in enumerate(chunk):
                batch[number, : len(tokens_of)] = torch.tensor(tokens_of)
                batch[number, place] = mask_id
                present[number, : len(tokens_of)] = 1
            output: models_batch.Output = model(
                models_batch.Batch(batch, present, torch.zeros_like(batch)).to(device), hidden_states=True
            )
            assert output.hidden_states is not None
            hidden = output.hidden_states[-1][torch.arange(len(chunk)), [row[3] for row in chunk]]  # (b, H)
            logits = head(hidden, model.embedding.word.weight)[:, ids.to(device)]  # (b, whole words)
            best = logits.topk(min(CANDIDATES + 1, len(names)), dim=-1).indices.tolist()
            for (text, start, tokens_of, place), row in zip(chunk, best, strict=True):
                others = [names[index] for index in row if whole[names[index]] != tokens_of[place]]
                likely[text, start] = others[:CANDIDATES]
    return likely


def augment(context: Context, count: int) -> list[training_context.Augmented]:
    """Return up to `count` new examples for each training example, labelled by the teacher. One seed gives the same
    texts. They are cached with the teacher's logits, if the context has that cache.

    Raises SkylineError as `refuse_augmentation` does, and (`no-data`) if no word has a candidate.
    """
    refuse_augmentation(context.teacher.config, context.teacher.tokenizer)
    examples = context.training_examples()
    path, head = None, context.load_language_model()
    if context.teacher_logits is not None:
        made_of: list[Any] = [
            VERSION,
            PROBABILITY,
            CANDIDATES,
            sorted(STOP_WORDS),
            context.seed,
            count,
            head is None,
        ]
        made_of.append([[example.text, example.pair] for example in examples])
        path = context.teacher_logits.path(canonical(made_of), ".augmented.json")
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            return [training_context.Augmented(source, Example(*rest)) for source, *rest in stored]
        except (OSError, ValueError, TypeError):
            pass
    texts = list(dict.fromkeys(text for example in examples for text in _texts(example)))
    base = context.pretrained().to(context.device)
    likely = {} if head is None else likely_words(base, head.to(context.device), texts)
    others = {
        word.group() for text in texts for word in replaceable(text) if (text, word.start()) not in likely
    }
    nearest = nearest_words(base.to("cpu"), sorted(others))

    def places(text: str) -> list[Place]:
        known = [
            (word, likely.get((text, word.start())) or nearest.get(word.group()))
            for word in replaceable(text)
        ]
        return [(*word.span(), candidates) for word, candidates in known if candidates]

    generator = context.generator("augmentation")
    made = [
        training_context.Augmented(source, other)
        for source, example in enumerate(examples)
        for other in variants(example, count, places, generator)
    ]
    if not made:
        raise SkylineError(
            f"no word of the training set of {context.task.name} has a candidate in the base model's vocabulary; "
            "use augment=0",
            Code.NO_DATA,
        )
    made = _labelled(made, context)
    if path is not None:
        rows = [[each.source, each.example.text, each.example.pair, each.example.label] for each in made]
        write_atomically(path, json.dumps(rows, ensure_ascii=False))
    return made


def variants(
    example: Example, count: int, places: Callable[[str], list[Place]], generator: torch.Generator
) -> Iterable[Example]:
    """Yield up to `count` examples with words replaced. `places` returns the places of a text. In a pair, one text is
    drawn and changed, and the other stays. Duplicates are left out. `generator` is on the processor.
    """
    texts = _texts(example)
    known = [places(text) for text in texts]
    sides = [side for side, found in enumerate(known) if found]
    if not sides:
        return
    drawn = torch.randint(0, len(sides), (count,), generator=generator).tolist()
    seen = {(example.text, example.pair)}
    for place, side in enumerate(sides):
        for text in replaced(texts[side], known[side], drawn.count(place), generator):
            other = replace(example, pair=text) if side else replace(example, text=text)
            if (other.text, other.pair) not in seen:
                seen.add((other.text, other.pair))
                yield other


def replaced(text: str, places: Sequence[Place], count: int, generator: torch.Generator) -> Iterable[str]:
    """Yield `count` texts. In each, every place is replaced with probability 0.4 by one of its candidates."""
    changed = (torch.rand(count, len(places), generator=generator) < PROBABILITY).tolist()  # (count, places)
    picks = torch.rand(count, len(places), generator=generator).tolist()
    for row, pick in zip(changed, picks, strict=True):
        parts, end = list[str](), 0
        for (start, stop, others), change, share in zip(places, row, pick, strict=True):
            if change:
                parts += [text[end:start], others[int(share * len(others))]]
                end = stop
        yield "".join([*parts, text[end:]])


def _texts(example: Example) -> list[str]:
    return [example.text] if example.pair is None else [example.text, example.pair]


def _labelled(made: Sequence[Augmented], context: Context) -> list[Augmented]:
    """Return the same texts with the teacher's predictions as labels: classes or scores."""
    task, teacher = context.task, context.teacher.to(context.device)
    length = teacher.length_for(task)
    source = f"the augmented training set of {task.name}"
    rows = encoded_rows.encode_examples([each.example for each in made], teacher, task.kind, length, source)
    if context.teacher_logits is None:
        logits = torch.stack(evaluation.predict_logits(teacher, rows, context.device))  # (N, outputs)
    else:
        logits = context.teacher_logits.of(teacher, rows, context.device)
    labels = logits[:, 0].tolist() if task.kind == "regression" else logits.argmax(dim=1).tolist()
    return [
        replace(each, example=replace(each.example, label=label, id=""))
        for each, label in zip(made, labels, strict=True)
    ]


def refuse_texts_without_candidates(tokenizer: Tokenizer, texts: Iterable[str]) -> None:
    """Raise SkylineError (`no-data`) if no word of the texts can be replaced: each is a stop word, or has pieces that
    the WordPiece vocabulary does not contain, as in another language. An empty list of texts is accepted.
    """
    texts = list(texts)
    unknown = json.loads(tokenizer.to_json())["model"]["unk_token"]
    for text in texts:
        for word in replaceable(text):
            pieces = tokenizer.fast.encode(word.group(), add_special_tokens=False).tokens
            if pieces and unknown not in pieces:
                return
    if texts:
        raise SkylineError(
            "no word of the training texts has a candidate in the base model's vocabulary; use augment=0",
            Code.NO_DATA,
        )
