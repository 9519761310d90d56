"""The base class of methods that distil a teacher's logits into a student that is not a Transformer: its tokenizer, its
word embeddings and the loss; and the published figures of the thesis that compares such students.

Importing it loads no torch, as with every method.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from harness.common.errors import Code, SkylineError
from harness.common.lazy import lazy_imports
from harness.compression.card import Claim, options
from harness.compression.distillation.augmentation import AugmentationOptions, Augmenting
from harness.models.config import EncoderConfig, HashedWords

with lazy_imports():
    from harness.compression.distillation import losses
    from harness.models import factory
    from harness.models.students import student as students_student
    from harness.models.students import tokenizers
    from harness.models.students import words as students_words


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.comparable import Baseline
    from harness.compression.context import Context, Step
    from harness.models.students.config import StudentConfig
    from harness.models.tokenizer import Tokenizer

Embedding = Literal["bpe", "wordpiece", "char", "hash"]
VOCABULARIES: Mapping[str, int] = {"bpe": 5000, "char": 35, "hash": 5000}
"""Vocabulary sizes if the option is 0. They are the thesis's; 35 characters include two special tokens."""
FEWEST = 2 + 1 + 26
"""The smallest vocabulary: two special tokens, the blank and the Latin letters."""
HASHES = 3
ROWS_PER_BUCKET = 10
"""Rows of hash weights per bucket of hashed embeddings, derived from the thesis's parameter counts."""
STRETCH = 5
"""Characters per word piece, with its blank: texts of characters are cut at five times the task's length."""


@options
class StudentOptions(AugmentationOptions):
    """`embedding`: the tokens that are embedded: byte pairs (`bpe`), the base's word pieces, characters, or hashed word
    pieces. `dimension`: the size of their vectors. `vocabulary`: the number of byte pairs or characters, or of rows of
    hash weights (0: 5000, 35, 5000). `start=teacher`: initialize word pieces with the teacher's embeddings, projected.
    `classifier`: units of the layer before the classifier. `alpha`: the weight of the labels in the loss, 1 − alpha
    that of the teacher. `temperature`: of the softmax on both logits (0: raw logits). `rate`: the peak learning rate.
    """

    embedding: Embedding = "bpe"
    dimension: Annotated[int, Field(ge=1, le=4096)] = 100
    vocabulary: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    start: Literal["random", "teacher"] = "random"
    classifier: Annotated[int, Field(ge=1, le=65536)] = 200
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    rate: Annotated[float, Field(gt=0, le=1)] = 1e-3

    def __post_init__(self) -> None:
        """Raise ValueError if `vocabulary` or `start` do not fit `embedding`."""
        if self.embedding == "wordpiece" and self.vocabulary:
            raise ValueError(
                "embedding=wordpiece has the base's vocabulary; leave out vocabulary, or use embedding=bpe"
            )
        if self.embedding != "wordpiece" and self.start == "teacher":
            raise ValueError(f"start=teacher needs the teacher's tokens, not embedding={self.embedding}")
        if self.vocabulary and self.vocabulary < (least := fewest(self.embedding)):
            what = "rows" if self.embedding == "hash" else "characters"
            raise ValueError(
                f"vocabulary={self.vocabulary} is less than the {what} that embedding={self.embedding} needs; "
                f"use at least {least}"
            )


def fewest(embedding: Embedding) -> int:
    """Return the smallest vocabulary of a kind of embedding: `FEWEST` tokens, or the rows of one bucket."""
    return ROWS_PER_BUCKET if embedding == "hash" else FEWEST


class StudentDistillation(Augmenting):
    """Distillation into a new student with L = α · task loss + (1 − α) · MSE(student's logits, teacher's logits). The
    student has random weights, except word embeddings with `start=teacher`. A subclass defines `shape`.
    """

    Options = StudentOptions
    replaces_task_loss = True
    needs = frozenset({"teacher_logits"})
    decides = frozenset({"the student"})
    restarts_from_pretrained = True

    @abstractmethod
    def shape(self, common: Mapping[str, Any]) -> StudentConfig:
        """Return the student's configuration. `common` holds the fields that all students have."""

    def final_shape_from(self, config: EncoderConfig) -> StudentConfig:
        """Return the student's shape. Raises SkylineError (`wrong-shape`) for a head that is not of classes or scores,
        and (`out-of-range`) if `start=teacher` and the teacher's embeddings are narrower than the student's.
        """
        o = self.options
        if config.head.kind not in ("classification", "regression"):
            raise SkylineError(
                f"its student has one vector for a text and cannot have a {config.head.kind} head; "
                "use a task of sentences or pairs, or an encoder",
                Code.WRONG_SHAPE,
            )
        if o.start == "teacher" and o.dimension > config.hidden_size:
            raise SkylineError(
                f"dimension={o.dimension} is more than the teacher's word embeddings have, {config.hidden_size}; "
                "use a smaller one, or start=random",
                Code.OUT_OF_RANGE,
            )
        own = o.embedding in ("bpe", "char")
        return self.student_shape(config, self.vocabulary if own else config.vocab_size)

    def check_against(self, config: EncoderConfig, baseline: Baseline) -> None:
        """Raise SkylineError as `Augmenting` does, and (`wrong-kind`) if word pieces are needed and the base has no
        tokenizer.
        """
        super().check_against(config, baseline)
        if self.options.embedding in ("wordpiece", "hash") and baseline.tokenizer() is None:
            raise SkylineError(
                f"embedding={self.options.embedding} takes the word pieces of the base's tokenizer, but it has none; "
                "use a base with a tokenizer, or embedding=bpe",
                Code.WRONG_KIND,
            )

    @property
    def vocabulary(self) -> int:
        """The vocabulary size that the options ask for; 0 for word pieces."""
        return int(self.options.vocabulary or VOCABULARIES.get(self.options.embedding, 0))

    def student_shape(self, teacher: EncoderConfig, vocab_size: int, paired: bool = False) -> StudentConfig:
        """Return the configuration of a student with `vocab_size` tokens, for the teacher's positions and head."""
        o = self.options
        stretch = STRETCH if o.embedding == "char" else 1
        words = None
        if o.embedding == "hash":
            rows = self.vocabulary
            words = HashedWords(buckets=rows // ROWS_PER_BUCKET, hashes=HASHES, rows=rows)
        return self.shape(
            {
                "vocab_size": vocab_size,
                "embedding_size": o.dimension,
                "words": words,
                "positions": stretch * teacher.positions,
                "stretch": stretch,
                "paired": paired,
                "classifier": o.classifier,
                "head": teacher.head,
            }
        )

    def student(self, teacher: Any, context: Context) -> students_student.Student:
        """Return a new student for the context's task, with the tokenizer of its embedding."""
        # The method is the first of a recipe, so the previous model is the baseline too.
        teacher = context.teacher
        tokenizer, examples = self.tokenizer(teacher.tokenizer, context), context.training_examples()
        own = self.options.embedding in ("bpe", "char")
        size = tokenizer.vocab_size if own else teacher.config.vocab_size
        paired = any(example.pair is not None for example in examples)
        config = self.student_shape(teacher.config, size, paired)
        student = factory.make_model(config, tokenizer, teacher.origin).initialize(
            context.generator("student")
        )
        assert isinstance(student, students_student.Student)
        if self.options.start == "teacher":
            words = student.get_parameter("embedding.word.weight")
            words.data.copy_(students_words.projected_words(teacher, self.options.dimension))
        return student

    def tokenizer(self, base: Tokenizer | None, context: Context) -> Tokenizer:
        """Return the base's tokenizer for word pieces, else one trained on the training texts."""
        if self.options.embedding in ("wordpiece", "hash"):
            assert base is not None, "refused before"
            return base
        texts = [
            text
            for example in context.training_examples()
            for text in (example.text, example.pair)
            if text is not None
        ]
        make = (
            tokenizers.byte_pair_tokenizer
            if self.options.embedding == "bpe"
            else tokenizers.character_tokenizer
        )
        return make(texts, self.vocabulary)

    def learning_rate(self, name: str) -> float:
        """Return `rate` for all parameters: the budget's rate is meant for encoders."""
        return float(self.options.rate)

    def loss(self, step: Step) -> Tensor:
        """Return the weighted sum, which replaces the task loss."""
        o = self.options
        soft = losses.squared_logit_error(step, temperature=o.temperature)
        loss: Tensor = o.alpha * step.task_loss + (1 - o.alpha) * soft
        return loss


TEACHER = "with a fine-tuned RoBERTa-large as teacher"
TRAINING = "as the mean of four seeds, with the thesis's optimizer and byte pairs pre-trained on Wikipedia"


def thesis_claims(
    rows: Sequence[tuple[Embedding, int, int, float, float, float, float]],
    shape: Mapping[str, str | float | bool],
) -> tuple[Claim, ...]:
    """Return the claims of the thesis's Table 7.1: accuracies on SST-2. A row holds an embedding, its dimension, the
    option `vocabulary`, and four accuracies: without a teacher; without one but augmented; augmented with half of the
    loss from the teacher; augmented with all of it. `shape` holds the options that all rows share.
    """
    columns = (
        ("no distillation", 1.0, 0),
        ("no distillation, augmented", 1.0, 20),
        ("alpha 0.5, augmented", 0.5, 20),
        ("alpha 0, augmented", 0.0, 20),
    )
    return tuple(
        Claim(
            "sst2",
            "dev",
            "accuracy",
            value,
            f"Table 7.1 of the thesis behind pocketML/lil_bobby, {column}",
            options={
                **shape,
                "embedding": embedding,
                "dimension": dimension,
                "vocabulary": vocabulary,
                "alpha": alpha,
                "augment": augment,
            },
            model="roberta-large",
            # The teacher also labels the augmented texts.
            conditions=f"{TEACHER}, {TRAINING}" if augment or alpha < 1 else TRAINING,
        )
        for embedding, dimension, vocabulary, *values in rows
        for (column, alpha, augment), value in zip(columns, values, strict=True)
    )
