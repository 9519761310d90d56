"""head-pruning: prunes the attention heads whose absence changes the loss least, a few at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.shape_checks import refuse_factorized, refuse_shared

with lazy_imports():
    import torch

    from harness.compression import task_loss as compression_task_loss
    from harness.compression.pruning import importance as pruning_importance
    from harness.models import model as model_module
    from harness.models import surgery


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Context
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder


def head_importance(model: Encoder, context: Context, batches: int, size: int = 16) -> list[Tensor]:
    """Return I_h = E_x |∂L(x) / ∂ξ_h| of every head over training examples, one tensor (heads,) for each layer. The
    gate ξ_h = 1 multiplies the head's context (Michel et al. 2019, section 4.1).

    Every sequence has its own gates, so the mean is over examples, not over batches.
    """
    totals = [torch.zeros(layer.heads) for layer in model.config.layers]
    seen = 0
    with torch.enable_grad(), model_module.evaluating(model):
        for batch, targets in context.batches(model, size, batches, "head-pruning"):
            gates = pruning_importance.head_gates(model, len(batch))  # (b, heads) a layer
            with pruning_importance.gated(model, heads=gates):
                logits = model(batch).logits
                # The loss is a mean over the batch. Times its size, the gradient of a gate is its example's.
                loss = compression_task_loss.task_loss(context.task.kind, logits, targets) * len(batch)
            for total, gradient in zip(totals, torch.autograd.grad(loss, gates), strict=True):
                total += gradient.abs().sum(0).cpu()
            seen += len(batch)
    return [total / seen for total in totals]


def least_important(
    importance: list[Tensor], alive: list[list[int]], count: int, at_least: int
) -> list[list[int]]:
    """Return the heads of each layer that are left without the `count` least important ones. `at_least` stay in a
    layer.

    `importance[l][i]` belongs to head `alive[l][i]`. It is divided by its layer's Euclidean norm first (section 4.1,
    the normalisation of Molchanov et al. 2017).
    """
    ranked = sorted(
        (float(value / layer.norm().clamp_min(1e-12)), index, head)
        for index, layer in enumerate(importance)
        for value, head in zip(layer, alive[index], strict=True)
    )
    left = [list(heads) for heads in alive]
    for _, index, head in ranked:
        if count == 0:
            break
        if len(left[index]) > at_least:
            left[index].remove(head)
            count -= 1
    return left


class HeadPruning(Method):
    """Iterative pruning of heads by gradient importance, without retraining (Michel et al. 2019)."""

    card = Card(
        id="head-pruning",
        title="Head pruning",
        family="structured-pruning",
        paper=Paper(
            title="Are Sixteen Heads Really Better than One?",
            authors="Michel, Levy, Neubig",
            year=2019,
            venue="NeurIPS",
            link="https://arxiv.org/abs/1905.10650",
        ),
        scope="task-specific",
        fidelity="faithful",
        deviations=(
            "A given share of the heads is pruned; the published script stops once the score falls below 0.9 of the "
            "unpruned model's. One head stays in each layer unless at_least=0; the published script can empty a layer. "
            "Importance is computed on training examples; the published scripts compute it on the evaluation split."
        ),
        touches=("attention_in", "attention", "attention_out"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        notes=(
            "Heads are cut out of the matrices. There is no retraining: put a training method after it to recover."
        ),
    )
    trains = False
    decides = frozenset({"the student"})

    @options
    class Options:
        """`share` of all heads to prune; `step`: share of all heads to prune at a time; `at_least`: heads that stay in
        each layer; `batches` of 16 training examples for the importance, each time.
        """

        share: Annotated[float, Field(gt=0, lt=1)] = 0.3
        step: Annotated[float, Field(gt=0, le=1)] = 0.1
        at_least: Annotated[int, Field(ge=0)] = 1
        batches: Annotated[int, Field(ge=1)] = 32

    suite = {"share": (0.5, 0.2, 0.3), "batches": (2,)}

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape unchanged: the pruning decides how many heads each layer keeps.

        Raises SkylineError: OUT_OF_RANGE if `share` takes more heads than `at_least` allows; WRONG_SHAPE if layers
        share weights or attention is factorized.
        """
        refuse_shared(config, "heads")
        refuse_factorized(config, ("query", "key", "value", "attention_out"), "heads")
        o = self.options
        counts = [layer.heads for layer in config.layers]
        wanted, spare = round(o.share * sum(counts)), sum(max(0, count - o.at_least) for count in counts)
        if wanted > spare:
            raise SkylineError(
                f"share={o.share} takes {wanted} of {sum(counts)} heads, but at_least={o.at_least} in each layer "
                f"leaves {spare} to take; lower one of them",
                Code.OUT_OF_RANGE,
            )
        return config

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """Return a copy with fewer heads. Importance is computed again after each step."""
        o = self.options
        counts = [layer.heads for layer in teacher.config.layers]
        wanted, each = round(o.share * sum(counts)), max(1, round(o.step * sum(counts)))
        alive = [list(range(count)) for count in counts]
        model = teacher
        while wanted > 0:
            now = min(each, wanted)
            alive = least_important(head_importance(model, context, o.batches), alive, now, o.at_least)
            model, wanted = surgery.keep_heads(teacher, alive), wanted - now
        return model
