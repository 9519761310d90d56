"""SQuAD v1.1 (Rajpurkar et al., 2016): its files, its sliding windows of tokens, its answers from logits.

The windows and the search follow BERT's section 4.2 (Devlin et al., 2019): the question is the first segment,
a piece of the context the second; a span's score is the sum of its start and end logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError
from tokenizers import Tokenizer

from harness.common.errors import SkylineError
from harness.tasks import glue, hub, rows
from harness.tasks.base import Example, Span, Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

REPOSITORY = "rajpurkar/squad"
CONFIG = "plain_text"
FILES = {"train": "train-v1.1.json", "dev": "dev-v1.1.json"}
HUB_SPLITS = {"train": "train", "dev": "validation"}
MAX_LENGTH = 384
STRIDE = 128
MAX_QUESTION = 64
MAX_ANSWER = 30
N_BEST = 20


class _Answer(BaseModel):
    text: str
    answer_start: int


class _Question(BaseModel):
    id: str
    question: str
    answers: list[_Answer]


class _Paragraph(BaseModel):
    context: str
    qas: list[_Question]


class _Article(BaseModel):
    paragraphs: list[_Paragraph]


class _File(BaseModel):
    data: list[_Article]


def task(data_dir: Path | None) -> Task:
    """The SQuAD v1.1 task, from the folder where one is given and from the hub otherwise.

    Its examples hold the question as `text` and the context as `pair`. Raises as `glue.task` does.
    """
    files: dict[str, Path] = {}
    if data_dir is None:
        hub.require("squad", REPOSITORY, CONFIG, HUB_SPLITS)
        loader = load_from_hub
    else:
        files = glue.find_files(data_dir, "SQuAD", FILES)
        loader = partial(load_from_folder, files)
    return Task(
        name="squad",
        title="SQuAD",
        kind="span",
        labels=(),
        metrics=("f1", "exact_match"),
        metric="f1",
        max_length=MAX_LENGTH,
        synthetic=False,
        loader=loader,
        source="hub" if data_dir is None else "folder",
        files=tuple(files.values()),
    )


def load_from_folder(files: Mapping[str, Path], split: str) -> tuple[Example, ...]:
    """One split from the official JSON; raises `SkylineError` naming the file and the place in it."""
    path = files[split]
    try:
        content = _File.model_validate_json(rows.read_text(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        where = f", at {place.lstrip('.')}" if place else ""
        raise SkylineError(f"{path}{where}: not SQuAD v1.1's layout ({first['msg']})") from None
    examples = tuple(
        _example(
            question.id,
            question.question,
            paragraph.context,
            [answer.text for answer in question.answers],
            [answer.answer_start for answer in question.answers],
            str(path),
        )
        for article in content.data
        for paragraph in article.paragraphs
        for question in paragraph.qas
    )
    if not examples:
        raise SkylineError(f"{path}: no questions in it")
    return examples


def load_from_hub(split: str) -> tuple[Example, ...]:
    """One split from the hub or its cache, as the same examples that the folder gives."""
    return tuple(
        _example(
            row["id"],
            row["question"],
            row["context"],
            row["answers"]["text"],
            row["answers"]["answer_start"],
            f"{REPOSITORY}, {split}",
        )
        for row in hub.rows("squad", REPOSITORY, CONFIG, HUB_SPLITS[split])
    )


def _example(
    question_id: str, question: str, context: str, texts: Sequence[str], starts: Sequence[int], source: str
) -> Example:
    """An example whose answers are checked against its context."""
    if not texts:
        raise SkylineError(f"{source}, question {question_id}: no answer; SQuAD v1.1 answers every question")
    for text, start in zip(texts, starts, strict=True):
        if start < 0 or not text or context[start : start + len(text)] != text:
            raise SkylineError(
                f"{source}, question {question_id}: the context does not have answer '{text[:40]}' at "
                f"character {start}"
            )
    return Example(question, context, Span(tuple(texts), tuple(starts)), question_id)


@dataclass(frozen=True, eq=False)
class Window:
    """One model input: the question and a piece of the context, L tokens with the special ones, unpadded.

    Attributes:
        example: index of the example that it belongs to.
        input_ids: int32, shape (L,).
        token_type_ids: int32, shape (L,); 0 for the question, 1 for the context.
        offsets: int32, shape (L, 2): first and past-the-last character of each context token in the context;
            -1 for every other token.
        start: the position of the first gold answer's first token; 0 (`[CLS]`) where it is not wholly inside.
        end: likewise its last token.
    """

    example: int
    input_ids: npt.NDArray[np.int32]
    token_type_ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int32]
    start: int
    end: int


@dataclass(frozen=True)
class Candidate:
    """One answer among the n best: its text, its score (start logit + end logit) and its characters."""

    text: str
    score: float
    start: int
    end: int


def windows(
    tokenizer: Tokenizer,
    examples: Sequence[Example],
    max_length: int = MAX_LENGTH,
    stride: int | None = None,
    max_question: int | None = None,
) -> list[Window]:
    """The windows of every example, in order.

    Args:
        tokenizer: is copied, so that its own truncation and padding stay as they are.
        examples: question as `text`, context as `pair`.
        max_length: tokens of a window at most.
        stride: tokens that neighbouring windows of one context share; by default BERT's 128, in short windows
            half of what the question leaves.
        max_question: a longer question is cut to that many tokens; by default BERT's 64, in short windows a
            third.

    Raises `SkylineError` where the longest question would leave a window no room to move on.
    """
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.no_padding()
    plain.no_truncation()
    if max_question is None:
        max_question = min(MAX_QUESTION, max_length // 3)
    room = max_length - max_question - plain.num_special_tokens_to_add(is_pair=True)
    if stride is None:
        stride = min(STRIDE, room // 2)
    if stride < 0 or room <= stride:
        raise SkylineError(
            f"windows of {max_length} tokens cannot share {stride} of them beside a question of up to "
            f"{max_question}; take a larger max_length or a smaller stride"
        )
    questions = [_cut(plain, example.text, max_question) for example in examples]
    plain.enable_truncation(max_length, stride=stride, strategy="only_second")
    pairs = [(question, example.pair or "") for question, example in zip(questions, examples, strict=True)]
    found = []
    for index, (example, encoding) in enumerate(zip(examples, plain.encode_batch(pairs), strict=True)):
        for piece in (encoding, *encoding.overflowing):
            context = np.array([segment == 1 for segment in piece.sequence_ids])
            offsets = np.where(context[:, None], np.array(piece.offsets, dtype=np.int32), -1)
            start, end = _targets(example, offsets)
            found.append(
                Window(
                    example=index,
                    input_ids=np.array(piece.ids, dtype=np.int32),
                    token_type_ids=np.array(piece.type_ids, dtype=np.int32),
                    offsets=offsets,
                    start=start,
                    end=end,
                )
            )
    return found


def _cut(tokenizer: Tokenizer, question: str, tokens: int) -> str:
    """The beginning of a question that has at most so many tokens."""
    offsets = tokenizer.encode(question, add_special_tokens=False).offsets
    return question if len(offsets) <= tokens else question[: offsets[tokens - 1][1]]


def _targets(example: Example, offsets: npt.NDArray[np.int32]) -> tuple[int, int]:
    """First and last token of the first gold answer; (0, 0) where the window does not hold all of it."""
    if not isinstance(example.label, Span):
        return 0, 0
    text, start = example.label.texts[0], example.label.starts[0]
    # White space at an answer's edge belongs to no token.
    end = start + len(text.rstrip())
    start += len(text) - len(text.lstrip())
    inside = np.flatnonzero((offsets[:, 1] > start) & (offsets[:, 0] >= 0) & (offsets[:, 0] < end))
    if not len(inside) or offsets[inside[0], 0] > start or offsets[inside[-1], 1] < end:
        return 0, 0
    return int(inside[0]), int(inside[-1])


def n_best(
    found: Sequence[Window],
    start_logits: Sequence[npt.NDArray[np.floating]],
    end_logits: Sequence[npt.NDArray[np.floating]],
    examples: Sequence[Example],
    n: int = N_BEST,
    max_answer: int = MAX_ANSWER,
) -> list[list[Candidate]]:
    """The best answers of every example over all its windows, best first; [] where there is no context.

    Every span of 1 to `max_answer` tokens of the context is scored, none is pruned beforehand.

    Args:
        found: the windows, as `windows` gives them.
        start_logits, end_logits: one row a window, of its length or longer (padding is ignored).
        examples: those that the windows were made of.
        n: how many answers to keep.
        max_answer: tokens of an answer at most.
    """
    best: list[dict[tuple[int, int], float]] = [{} for _ in examples]
    for window, starts, ends in zip(found, start_logits, end_logits, strict=True):
        inside = np.flatnonzero(window.offsets[:, 0] >= 0)
        if not len(inside):
            continue
        first, size = int(inside[0]), len(inside)
        width = min(max_answer, size)
        begin = _finite(starts[first : first + size])
        end = np.concatenate([_finite(ends[first : first + size]), np.full(width - 1, -np.inf)])
        # scores[i, k]: from context token i to context token i + k.
        scores = (begin[:, None] + np.lib.stride_tricks.sliding_window_view(end, width)).ravel()
        keep = min(n, len(scores))
        limit = np.partition(scores, len(scores) - keep)[len(scores) - keep]
        top = np.flatnonzero((scores >= limit) & np.isfinite(scores))
        for flat in top[np.argsort(-scores[top], kind="stable")][:keep]:
            token, length = divmod(int(flat), width)
            span = (
                int(window.offsets[first + token, 0]),
                int(window.offsets[first + token + length, 1]),
            )
            known = best[window.example]
            known[span] = max(float(scores[flat]), known.get(span, -np.inf))
    return [
        [
            Candidate((example.pair or "")[start:end], score, start, end)
            for (start, end), score in sorted(spans.items(), key=lambda item: (-item[1], item[0]))[:n]
        ]
        for example, spans in zip(examples, best, strict=True)
    ]


def answers(
    found: Sequence[Window],
    start_logits: Sequence[npt.NDArray[np.floating]],
    end_logits: Sequence[npt.NDArray[np.floating]],
    examples: Sequence[Example],
    max_answer: int = MAX_ANSWER,
) -> list[str]:
    """The best answer of every example, as `metrics.compute` takes it; "" where there is none."""
    ranked = n_best(found, start_logits, end_logits, examples, n=1, max_answer=max_answer)
    return [candidates[0].text if candidates else "" for candidates in ranked]


def _finite(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Logits in which whatever is not finite excludes its token."""
    values = np.asarray(logits, dtype=np.float64)
    return np.where(np.isfinite(values), values, -np.inf)
