"""part-pruning: after training, the smallest weights are pruned, with a sparsity for each part of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from harness import Card, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.config import EncoderConfig
from harness.models.students.config import BagConfig

with lazy_imports():
    from harness.compression.pruning import masks as pruning_masks


if TYPE_CHECKING:
    from harness.compression.context import Context
    from harness.models.model import Model


class PartPruning(Method):
    """Local magnitude pruning after training, with a sparsity for each part: the smallest |w| of every matrix become
    zero once, without training afterwards (the thesis behind pocketML/lil_bobby, Table 7.5).
    """

    card = Card(
        id="part-pruning",
        title="Magnitude pruning by part",
        family="unstructured-pruning",
        paper=Paper(
            title="Distilling RoBERTa into LSTM, RNN and feed-forward students (thesis behind pocketML/lil_bobby)",
            authors="the authors of pocketML/lil_bobby",
            year=2021,
            venue="thesis",
            link="https://github.com/pocketML/lil_bobby",
        ),
        scope="task-agnostic",
        fidelity="faithful",
        deviations=(
            "The last map, onto the classes, is not pruned, as in every method here; it has a few hundred weights. "
            "Biases are not pruned either."
        ),
        touches=("embedding", "attention_in", "attention_out", "ffn", "head"),
        reduces=("disk",),
        notes=(
            "The defaults are the thesis's for a BiLSTM on hashed embeddings: half of the cells, an eighth of the "
            "classifier. Its other settings: body=0.1 for Elman cells, embedding=0.3 for characters and 0.4 for byte "
            "pairs. The classifier of a feed-forward student is its head, so it has no body to prune. An encoder has "
            "no hidden layer in its head; its body is the same matrices that magnitude prunes, here without training "
            "to recover."
        ),
    )
    trains = False
    takes_students = True
    decides = frozenset({"which weights are zero"})
    inert_when_tiny = {"head": "An encoder's head has no hidden layer; a student's has one."}

    @options
    class Options:
        """Share of zeros in each matrix of the `body` (recurrent cells, convolutions, an encoder's layers), of the
        `head` (its hidden layer), and of the word `embedding`.
        """

        body: Annotated[float, Field(ge=0, lt=1)] = 0.5
        head: Annotated[float, Field(ge=0, lt=1)] = 0.125
        embedding: Annotated[float, Field(ge=0, lt=1)] = 0.0

        def __post_init__(self) -> None:
            """Raise ValueError if all three are 0."""
            if self.body == self.head == self.embedding == 0:
                raise ValueError("nothing is to be pruned; give body, head or embedding a sparsity above 0")

    suite = {"body": (0.5, 0.1)}

    def final_shape_from(self, config: Any) -> Any:
        """Return the shape unchanged.

        Raises SkylineError (WRONG_SHAPE) if the model has none of the parts that have a sparsity above 0.
        """
        if isinstance(config, EncoderConfig):
            has = {"embedding"} | ({"body"} if any(layer.present() for layer in config.layers) else set())
        else:
            has = {"embedding", "head"} | (set() if isinstance(config, BagConfig) else {"body"})
        if not any(getattr(self.options, part) for part in has):
            raise SkylineError(
                f"no matrix would be pruned; give a sparsity to a part that the model has: {' or '.join(sorted(has))}",
                Code.WRONG_SHAPE,
            )
        return config

    def finish(self, student: Model, context: Context) -> None:
        """Zero the smallest weights of each matrix, and store the others with a bitmask."""
        sparsities: dict[str, float] = {}
        for name in pruning_masks.prunable(student, embeddings=True):
            part = name.partition(".")[0]
            sparsities[name] = getattr(self.options, part if part in ("head", "embedding") else "body")
        masks = pruning_masks.Masks(student, [name for name, sparsity in sparsities.items() if sparsity > 0])
        for name, magnitude in masks.magnitudes().items():
            masks.replace(pruning_masks.keep_largest({name: magnitude}, sparsities[name], "matrix"))
        masks.store(student)
        context.figures["sparsity"] = masks.sparsity()
