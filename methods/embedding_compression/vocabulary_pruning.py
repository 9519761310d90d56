"""vocabulary-pruning: removes tokens that are rare in the training set; texts are split into the remaining tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from harness import Card, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.shape_checks import refuse_hashed_words

with lazy_imports():
    from harness.compression.pruning import vocabulary as pruning_vocabulary
    from harness.models import surgery


if TYPE_CHECKING:
    from harness.compression.comparable import Baseline
    from harness.compression.context import Context
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder


def tokens_wanted(keep: float, vocabulary: int) -> int:
    """Return the number of tokens for `keep`: a share of the vocabulary if below 1, else a number."""
    return round(keep * vocabulary) if keep < 1 else int(keep)


def _share_or_number(keep: float) -> float:
    if keep >= 1 and keep != int(keep):
        raise ValueError("must be a share below 1 or a whole number of tokens")
    return keep


class VocabularyPruning(Method):
    """Keeps the tokens that are most frequent in the training set, with a WordPiece tokenizer of these alone, then
    fine-tunes (after Abdaoui et al. 2020, section 3).

    Special tokens and single characters always stay, so a word whose token is removed is split into several tokens. The
    embedding's rows of removed tokens are deleted.
    """

    card = Card(
        id="vocabulary-pruning",
        title="Vocabulary pruning",
        family="embedding-compression",
        paper=Paper(
            title="Load What You Need: Smaller Versions of Multilingual BERT",
            authors="Abdaoui, Pradel, Sigel",
            year=2020,
            venue="SustaiNLP",
            link="https://arxiv.org/abs/2010.05609",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "The paper drops the tokens of other languages from a multilingual BERT, by their frequency in text of "
            "the languages that stay, before fine-tuning. Here tokens that are rare in one task's training set are "
            "dropped after fine-tuning on it, and the encoder is fine-tuned again with the smaller vocabulary."
        ),
        touches=("embedding",),
        reduces=("disk", "parameters", "memory"),
        notes=(
            "FLOPs at a given length do not change, but the same text has more tokens. Words of the dev split that are "
            "rare in training are split into pieces; the training set does not show how many there are."
        ),
    )
    decides = frozenset({"the student"})

    @options
    class Options:
        """`keep`: tokens to keep, as a share of the vocabulary (below 1) or a number (1 or more), including special
        tokens and single characters.
        """

        keep: Annotated[float, Field(gt=0, allow_inf_nan=False), AfterValidator(_share_or_number)] = 0.25

    suite = {"keep": (0.1, 0.5, 256)}

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape with the smaller vocabulary.

        Raises SkylineError: OUT_OF_RANGE if `keep` keeps none or all tokens; WRONG_SHAPE if word embeddings are hashed.
        """
        refuse_hashed_words(config)
        wanted = tokens_wanted(self.options.keep, config.vocab_size)
        if not 0 < wanted < config.vocab_size:
            raise SkylineError(
                f"keep={self.options.keep:g} is {wanted} of {config.vocab_size} tokens; keep some and drop some",
                Code.OUT_OF_RANGE,
            )
        return config.model_copy(update={"vocab_size": wanted})

    def check_against(self, config: EncoderConfig, baseline: Baseline) -> None:
        """Raise SkylineError if `keep` is smaller than the number of tokens that always stay."""
        wanted = tokens_wanted(self.options.keep, config.vocab_size)
        pruning_vocabulary.require_room(baseline.tokenizer(), wanted, f"keep={self.options.keep:g}")

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """Return a copy of the teacher with the smaller vocabulary."""
        wanted = tokens_wanted(self.options.keep, teacher.config.vocab_size)
        counts = pruning_vocabulary.token_counts(teacher, context)
        kept = pruning_vocabulary.tokens_to_keep(teacher.require_tokenizer(), counts, wanted)
        context.figures["tokens kept"] = len(kept)
        context.figures["share of training tokens that fall into pieces"] = 1 - float(
            counts[kept].sum() / counts.sum()
        )
        return surgery.keep_vocabulary(teacher, kept)
