"""mobilebert: a deep and thin student with bottleneck layers learns the teacher's states and attention maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from harness import Card, Claim, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.compression.distillation.augmentation import AugmentationOptions, Augmenting
from harness.models.students.bottleneck_config import BottleneckConfig

with lazy_imports():
    import torch

    from harness.compression import training
    from harness.compression.distillation import losses
    from harness.models import surgery
    from harness.models.students import bottleneck


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.card import Need
    from harness.compression.context import Context, Step
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder
    from harness.models.students.bottleneck import MobileBERT
    from harness.models.students.bottleneck_config import BottleneckConfig


class MobileBERTDistillation(Augmenting):
    """Knowledge transfer (Sun et al. 2020, section 3.5): first L_KT = Σ MSE(feature maps) + Σ KL(attention maps), then
    L = α · task loss + (1 − α) · KL(teacher ‖ student).
    """

    card = Card(
        id="mobilebert",
        title="MobileBERT",
        family="distillation",
        paper=Paper(
            title="MobileBERT: a Compact Task-Agnostic BERT for Resource-Limited Devices",
            authors="Sun, Yu, Song, Liu, Yang, Zhou",
            year=2020,
            venue="ACL",
            link="https://aclanthology.org/2020.acl-main.195/",
        ),
        scope="task-agnostic",
        fidelity="variant",
        deviations=(
            "The paper pre-trains layer by layer, for 240,000 steps, with an inverted-bottleneck BERT-large as "
            "teacher. Here the fine-tuned baseline teaches all layers at once, on the task's training texts for "
            "`transfer_share` of the epochs, before the student is fine-tuned. Its sizes follow the teacher: "
            "the same layers, heads and hidden size; body and word embeddings have a quarter of the hidden size. Word "
            "embeddings begin with the teacher's, the rest at random."
        ),
        touches=("embedding", "attention_in", "attention", "attention_out", "ffn", "head"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        claims=(
            Claim("mnli", "test", "accuracy", 83.3, "Table 4, MobileBERT", False),
            Claim("sst2", "test", "accuracy", 92.8, "Table 4, MobileBERT", False),
            Claim("squad", "dev", "f1", 90.0, "Table 5, MobileBERT", False),
        ),
        notes="With MiniLM's six layers it is thin, but not deep: the published one has 24.",
    )
    decides = frozenset({"the student"})
    replaces_task_loss = True
    restarts_from_pretrained = True

    @options
    class Options(AugmentationOptions):
        """`body`: size inside the bottleneck; `embedding`: size of the word embeddings (0 for either: a quarter of the
        hidden size); `ffn_count`: feed-forward networks in a layer, each as wide as the hidden size; `transfer_share`:
        share of the epochs that the knowledge transfer takes; `rate`: peak learning rate; `alpha`: weight of the task
        loss; `temperature` T.
        """

        body: Annotated[int, Field(ge=0)] = 0
        embedding: Annotated[int, Field(ge=0)] = 0
        ffn_count: Annotated[int, Field(ge=1)] = 4
        transfer_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
        rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
        alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
        temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    suite = {"ffn_count": (1, 2), "transfer_share": (0.5,), "alpha": (0.5, 0.0, 1.0)}
    _transferring = True

    @property
    def own_share(self) -> float:
        """The share of the knowledge transfer."""
        return float(self.options.transfer_share)

    @property
    def needs(self) -> frozenset[Need]:
        """Hidden states and attention maps for the transfer, logits after it."""
        return frozenset({"hidden_states", "attentions"} if self._transferring else {"teacher_logits"})

    def final_shape_from(self, config: EncoderConfig) -> BottleneckConfig:
        """Return the shape of the student.

        Raises SkylineError: OUT_OF_RANGE if the heads do not divide `body`; WRONG_SHAPE if layers differ in their
        number of heads, or for a span head.
        """
        heads = {layer.heads for layer in config.layers}
        if len(heads) > 1 or 0 in heads:
            raise SkylineError(
                "its attention maps need layers with the same number of heads; put it first", Code.WRONG_SHAPE
            )
        (count,) = heads
        body = self.options.body or config.hidden_size // 4
        if body % count:
            raise SkylineError(
                f"body={body} does not divide into the teacher's {count} heads; use a multiple",
                Code.OUT_OF_RANGE,
            )
        if config.head.kind == "span":
            raise SkylineError("it has no span head; use a task of sentences or pairs", Code.WRONG_SHAPE)
        return BottleneckConfig(
            vocab_size=config.vocab_size,
            embedding_size=self.options.embedding or config.hidden_size // 4,
            hidden_size=config.hidden_size,
            body_size=body,
            heads=count,
            ffn_size=config.hidden_size,
            ffn_count=self.options.ffn_count,
            layer_count=len(config.layers),
            positions=config.positions,
            segments=config.segments,
            pooler=config.pooler,
            pooling=config.pooling,
            head=config.head,
        )

    def student(self, teacher: Encoder, context: Context) -> bottleneck.MobileBERT:
        """Return a new student. Its word embeddings are the best approximation of their size to the teacher's."""
        config = self.final_shape_from(teacher.config)
        model = bottleneck.MobileBERT(config, teacher.tokenizer, teacher.origin)
        model.initialize(context.generator("mobilebert"))
        ids = torch.arange(config.vocab_size)[None]
        with torch.no_grad():
            words = teacher.embedding.word(ids)
            words = (words if teacher.embedding.project is None else teacher.embedding.project(words))[0]
            size = config.embedding_size
            project, table = surgery.truncated_svd(words.cpu(), size)
            model.embedding.word.weight.copy_(table)
            # project reads three tokens' words (3 · size): the token's begin as the teacher's, its neighbours' at zero.
            model.embedding.project.weight.zero_()[:, size : 2 * size] = project.T
            model.embedding.project.bias.zero_()
            model.embedding.position.weight.copy_(teacher.embedding.position.weight)
            model.embedding.segment.weight.copy_(teacher.embedding.segment.weight)
        return model

    def prepare(self, student: MobileBERT, context: Context) -> None:
        """Run the knowledge transfer."""
        self._transferring = True
        training.train_round(
            student,
            [self],
            context,
            f"{self.card.id} transfer",
            share=self.own_share,
            patience=None,
        )
        self._transferring = False

    def learning_rate(self, name: str) -> float | None:
        """Return `rate` for all parameters: all are new, so a fine-tuning rate would be too small."""
        return self.options.rate

    def loss(self, step: Step) -> Tensor:
        """Return the loss of the transfer or of the distillation (a scalar), which replaces the task loss."""
        o = self.options
        if not self._transferring:
            return o.alpha * step.task_loss + (1 - o.alpha) * losses.logits_loss(
                step, temperature=o.temperature
            )
        ours, theirs, mask = step.output, step.teacher_pass, step.batch.attention_mask
        features: list[Any] = [ours.hidden_states, theirs.hidden_states]
        maps: list[Any] = [ours.attentions, theirs.attentions]
        return losses.hidden_losses(*features, mask).mean() + losses.attention_divergences(*maps, mask).mean()
