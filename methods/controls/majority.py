"""majority: one answer for every row, the most frequent label; the control for every score."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from harness import Card, Method, Paper, options
from harness.common.errors import Code, SkylineError
from harness.common.lazy import lazy_imports

with lazy_imports():
    import torch

    from harness.models import surgery


if TYPE_CHECKING:
    from harness.compression.context import Context
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder


class Majority(Method):
    """Answers every row alike: the most frequent class of the training set, or the mean of its scores."""

    card = Card(
        id="majority",
        title="Majority class (control)",
        family="controls",
        paper=Paper(
            title="Very Simple Classification Rules Perform Well on Most Commonly Used Datasets",
            authors="Holte",
            year=1993,
            venue="Machine Learning",
            link="https://doi.org/10.1023/A:1022631118932",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "The paper's rule reads one attribute; this one reads none. One layer of the encoder is left, so that the "
            "artifact is one that every runtime runs."
        ),
        touches=("embedding", "attention_in", "attention", "attention_out", "ffn", "head"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        notes="This is a control, not a proposal. A method that scores no better has learned nothing.",
    )
    trains = False
    must_be_last = True

    @options
    class Options:
        """None."""

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape of one layer. Raises SkylineError (`wrong-shape`) for a head of spans."""
        if config.head.kind not in ("classification", "regression"):
            raise SkylineError(
                f"a {config.head.kind} head has no most frequent label; use a task of classes or scores",
                Code.WRONG_SHAPE,
            )
        return config.with_layers(config.layers[:1])

    def finish(self, student: Encoder, context: Context) -> Encoder:
        """Keep the first layer, and let the classifier return the logarithms of the labels' shares."""
        labels = torch.tensor([cast("float", example.label) for example in context.training_examples()])
        model = surgery.keep_layers(student, [0])
        classifier = model.head.classifier
        assert classifier is not None
        classifier.weight.zero_()
        if context.task.kind == "regression":
            classifier.bias.fill_(float(labels.mean()))
        else:
            counts = torch.bincount(labels.long(), minlength=len(classifier.bias))  # (classes,)
            classifier.bias.copy_((counts.clamp_min(1) / len(labels)).log())
        return model
