"""SQuAD v1.1 (Rajpurkar et al., 2016): read its files, make sliding windows of tokens, find answers in logits.

Windows and search follow BERT (Devlin et al., 2019, section 4.2). The question is the first segment and a part of the
context the second. The score of a span is its start logit + its end logit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError
from tokenizers import Tokenizer

from harness.common.errors import Code, SkylineError
from harness.tasks import glue, hub, rows
from harness.tasks.base import Example, Span, Task

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
    """Make the SQuAD v1.1 task. It reads the folder `data_dir`, or the hub if that is None.

    In its examples, `text` is the question and `pair` the context. Raises SkylineError as `glue.task` does.
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
    """Read one split from the official JSON.

    Raises SkylineError that names the file and the place in it: `unreadable` for another layout, `no-data` for a file
    without questions, `incomplete` for a question without an answer, `damaged` for an answer that its context lacks.
    """
    path = files[split]
    try:
        content = _File.model_validate_json(rows.read_text(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        where = f", at {place.lstrip('.')}" if place else ""
        problem = f"{path}{where}: not the layout of SQuAD v1.1 ({first['msg']}); fetch the file again"
        raise SkylineError(problem, Code.UNREADABLE) from None
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
        raise SkylineError(f"{path}: no questions in it; fetch the file again", Code.NO_DATA)
    return examples


def load_from_hub(split: str) -> tuple[Example, ...]:
    """Read one split from the hub or its cache. Examples and errors are the same as from a folder."""
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
    """Make an example and check its answers against its context."""
    if not texts:
        raise SkylineError(
            f"{source}, question {question_id}: no answer; SQuAD v1.1 answers every question", Code.INCOMPLETE
        )
    for text, start in zip(texts, starts, strict=True):
        if start < 0 or not text or context[start : start + len(text)] != text:
            raise SkylineError(
                f"{source}, question {question_id}: the context does not have answer '{text[:40]}' at "
                f"character {start}",
                Code.DAMAGED,
            )
    return Example(question, context, Span(tuple(texts), tuple(starts)), question_id)


@dataclass(frozen=True, eq=False)
class Window:
    """One model input without padding: the question and a part of the context, L tokens with special tokens.

    Attributes:
        example: index of its example.
        input_ids: int32, shape (L,).
        token_type_ids: int32, shape (L,); 0 for the question, 1 for the context.
        offsets: int32, shape (L, 2): for context tokens, the characters [first, end) in the context; else -1.
        start: index of the first token of the first gold answer; 0 (`[CLS]`) unless the window holds all of it.
        end: index of its last token, or 0 likewise.
    """

    example: int
    input_ids: npt.NDArray[np.int32]
    token_type_ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int32]
    start: int
    end: int


@dataclass(frozen=True)
class Candidate:
    """One predicted answer: characters [start, end) of the context; `score` is start logit + end logit."""

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
    """Make the windows of all examples, in order.

    Args:
        tokenizer: copied, so its truncation and padding settings do not change.
        examples: `text` is the question, `pair` the context.
        max_length: most tokens of a window.
        stride: tokens that neighbouring windows share; by default BERT's 128, in short windows half of the tokens
            that the question leaves.
        max_question: most tokens of a question, which is cut there; by default BERT's 64, in short windows a third.

    Raises SkylineError (`conflict`) if the longest question leaves no more room than `stride`.
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
            f"windows of {max_length} tokens cannot share {stride} of them and hold a question of up to "
            f"{max_question}; use a larger max_length or a smaller stride",
            Code.CONFLICT,
        )
    questions = [_cut(plain, example.text, max_question) for example in examples]
    plain.enable_truncation(max_length, stride=stride, strategy="only_second")
    pairs = [(question, example.pair or "") for question, example in zip(questions, examples, strict=True)]
    found = []
    for index, (example, encoding) in enumerate(zip(examples, plain.encode_batch(pairs), strict=True)):
        for piece in (encoding, *encoding.overflowing):
            context = np.array([segment == 1 for segment in piece.sequence_ids])  # (L,)
            offsets = np.where(context[:, None], np.array(piece.offsets, dtype=np.int32), -1)  # (L, 2)
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
    """Cut a question after `tokens` tokens."""
    offsets = tokenizer.encode(question, add_special_tokens=False).offsets
    return question if len(offsets) <= tokens else question[: offsets[tokens - 1][1]]


def _targets(example: Example, offsets: npt.NDArray[np.int32]) -> tuple[int, int]:
    """Return first and last token of the first gold answer; (0, 0) unless the window holds all of it."""
    if not isinstance(example.label, Span):
        return 0, 0
    text, start = example.label.texts[0], example.label.starts[0]
    # No token covers the white space around an answer.
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
    """Return the n best answers of every example over all its windows, best first; [] for an empty context.

    All spans of 1 to `max_answer` context tokens are scored; there is no pruning.

    Args:
        found: the output of `windows`.
        start_logits, end_logits: one array for each window, shape (L,) or longer; the padding is ignored.
        examples: the input of `windows`.
        n: most answers of one example.
        max_answer: most tokens of an answer.
    """
    best: list[dict[tuple[int, int], float]] = [{} for _ in examples]
    for window, starts, ends in zip(found, start_logits, end_logits, strict=True):
        inside = np.flatnonzero(window.offsets[:, 0] >= 0)
        if not len(inside):
            continue
        first, size = int(inside[0]), len(inside)
        width = min(max_answer, size)
        begin = _finite(starts[first : first + size])  # (size,)
        end = np.concatenate([_finite(ends[first : first + size]), np.full(width - 1, -np.inf)])
        # Before `ravel`, scores[i, k] is the score of context tokens i to i + k: (size, width).
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
    """Return the best answer of every example, as `metrics.compute` expects it; "" if there is none."""
    ranked = n_best(found, start_logits, end_logits, examples, n=1, max_answer=max_answer)
    return [candidates[0].text if candidates else "" for candidates in ranked]


def _finite(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Replace logits that are not finite by -inf, which excludes their tokens."""
    values = np.asarray(logits, dtype=np.float64)
    return np.where(np.isfinite(values), values, -np.inf)
