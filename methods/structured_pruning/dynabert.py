"""dynabert: one training for many widths and depths. The artifact holds one of them."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field

from harness import Card, Claim, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.config import MATRICES
from harness.models.shape_checks import refuse_factorized, refuse_shared

with lazy_imports():
    import torch

    from harness.compression import task_loss as compression_task_loss
    from harness.compression import training
    from harness.compression.distillation import losses
    from harness.compression.pruning import importance as pruning_importance
    from harness.models import model as model_module
    from harness.models import surgery
    from harness.models.encoder import layers as encoder_layers
    from methods.structured_pruning import _subnetworks


if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from harness.compression.context import Context, Step
    from harness.models.batch import Output
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder

WIDTHS = (0.25, 0.5, 0.75, 1.0)
DEPTHS = (0.5, 0.75, 1.0)
"""The paper's multipliers (Hou et al. 2020, section 3)."""
WIDTH_HIDDEN, DEPTH_HIDDEN = 0.1, 1.0
"""Weight of the hidden states' loss in stage 1 (widths) and in stage 2 (widths and depths)."""


def share_of(count: int, multiplier: float) -> int | None:
    """Return `multiplier` · `count` if it is a whole number (within 0.01, so that 0.6667 is two thirds), else None.

    Also returns None if nothing would be left of a `count` above 0.
    """
    part = round(count * multiplier)
    return None if abs(part - count * multiplier) > 0.01 or (count and not part) else part


def kept_layers(available: int, kept: int) -> list[int]:
    """Return layers floor(i / m_d), i = 0 … kept − 1, with m_d = kept / available: 0, 2, 4, … for a half."""
    return [index * available // kept for index in range(kept)]


def matched_states(available: int, kept: int) -> list[int]:
    """Return the full-depth states that the states of `kept` layers are compared with (0: the embedding's output).

    These are the inputs of the kept layers, and the last output.
    """
    return [*kept_layers(available, kept), available]


def narrowed(config: EncoderConfig, layers: Sequence[int], width: float) -> EncoderConfig:
    """Return the shape with only `layers`, each with `width` times its heads and FFN columns.

    Raises SkylineError (OUT_OF_RANGE) if these are not whole numbers.
    """
    chosen = []
    for index in layers:
        layer = config.layers[index]
        heads, columns = share_of(layer.heads, width), share_of(layer.ffn_size, width)
        if heads is None or columns is None:
            what, count = ("heads", layer.heads) if heads is None else ("FFN columns", layer.ffn_size)
            raise SkylineError(
                f"width={width:g} leaves {width * count:g} of the {count} {what} of layer {index}; "
                "use a width that leaves a whole number",
                Code.OUT_OF_RANGE,
            )
        chosen.append(layer.model_copy(update={"heads": heads, "ffn_size": columns}))
    return config.with_layers(tuple(chosen))


def importance(
    model: Encoder, context: Context, batches: int, size: int = 32
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the importance of heads, (heads,) for each layer, and of FFN columns, (columns,) for each layer.

    It is the first-order change of the loss without the unit, summed over batches of training examples (section 2.1;
    the sums as in the released code). A head: |∂L / ∂ξ| of its gate ξ = 1. A column: |Σ w₁ ∂L/∂w₁ + b₁ ∂L/∂b₁| +
    |Σ w₂ ∂L/∂w₂| of its weights.
    """
    parts = ("into.weight", "into.bias", "out.weight")
    feeds = [cast(encoder_layers.Layer, layer).ffn for layer in model.layers]
    owned = [
        [ffn.get_parameter(p) for p in parts] if isinstance(ffn, encoder_layers.FeedForward) else []
        for ffn in feeds
    ]
    heads = [torch.zeros(layer.heads) for layer in model.config.layers]
    columns = [torch.zeros(layer.ffn_size) for layer in model.config.layers]
    with torch.enable_grad(), model_module.evaluating(model):
        for batch, targets in context.batches(model, size, batches, "dynabert"):
            gates = pruning_importance.head_gates(model)
            with pruning_importance.gated(model, heads=gates):
                loss = compression_task_loss.task_loss(context.task.kind, model(batch).logits, targets)
            wanted = [*gates, *(weight for weights in owned for weight in weights)]
            gradients = iter(torch.autograd.grad(loss, wanted, allow_unused=True))
            for total in heads:
                gradient = next(gradients)
                if gradient is not None:
                    total += gradient.abs().cpu()
            for total, weights in zip(columns, owned, strict=True):
                if weights:
                    with torch.no_grad():
                        into, bias, out = [weight * next(gradients) for weight in weights]
                        total += ((into.sum(1) + bias).abs() + out.sum(0).abs()).cpu()
    return heads, columns


def rewired(model: Encoder, heads: list[Tensor], columns: list[Tensor]) -> Encoder:
    """Return an encoder that computes the same, with heads and FFN columns in falling order of importance (section 2.1,
    network rewiring).
    """
    orders = [[x.argsort(descending=True, stable=True).tolist() for x in part] for part in (heads, columns)]
    return surgery.keep_columns(surgery.keep_heads(model, orders[0]), orders[1])


def distillation_loss(
    step: Step, student: Output, teacher: Output, matched: Sequence[int], weight: float
) -> Tensor:
    """Return soft cross-entropy of the logits + `weight` · Σ MSE(hidden states) (section 2.1, eq. 4), a scalar.

    The cross-entropy is summed over classes; for regression it is the squared error. The MSE of a state is a mean over
    tokens and units. Student state i is compared with teacher state `matched[i]`.
    """
    assert student.hidden_states is not None
    assert teacher.hidden_states is not None
    ours, theirs = losses.logit_rows(step, student.logits, teacher.logits)
    prediction = (
        torch.nn.functional.mse_loss(ours, theirs)
        if step.kind == "regression"
        else losses.soft_cross_entropy(ours, theirs)
    )
    states = [teacher.hidden_states[index] for index in matched]
    hidden = losses.hidden_losses(student.hidden_states, states, step.batch.attention_mask).sum()
    return prediction + weight * hidden


class DynaBERT(Method):
    """DynaBERT (Hou et al. 2020): in stage 1 the fixed teacher trains every width at full depth. In stage 2 the stage-1
    model of the same width trains every width and depth.
    """

    card = Card(
        id="dynabert",
        title="DynaBERT",
        family="structured-pruning",
        paper=Paper(
            title="DynaBERT: Dynamic BERT with Adaptive Width and Depth",
            authors="Hou, Huang, Shang, Jiang, Chen, Liu",
            year=2020,
            venue="NeurIPS",
            link="https://arxiv.org/abs/2004.04037",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "No data augmentation, and no third stage on the labels. Importance is computed on `batches` of training "
            "examples; the released code computes it on the development set. In stage 2 the teacher has the student's "
            "width, as the paper says; the released loop leaves it at full width. Padding is left out of the hidden "
            "states' loss."
        ),
        touches=("attention_in", "attention", "attention_out", "ffn"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        claims=(
            Claim(
                "mnli",
                "dev",
                "accuracy",
                82.0,
                "the survey's Table 1; that it is the development set is not verified",
                sure=False,
                options={"width": 0.25, "depth": 0.5},
            ),
            Claim(
                "qqp",
                "dev",
                "accuracy",
                90.4,
                "the survey's Table 1; that it is the development set is not verified",
                sure=False,
                options={"width": 0.25, "depth": 0.5},
            ),
            Claim(
                "sst2",
                "dev",
                "accuracy",
                92.0,
                "the survey's Table 1; that it is the development set is not verified",
                sure=False,
                options={"width": 0.25, "depth": 0.5},
            ),
        ),
        notes=(
            "Each stage takes half of the budget's epochs. A step of stage 1 costs about 2.5 ordinary steps and one "
            "teacher pass. A step of stage 2 with three depths costs 5.6 ordinary steps and 2.5 teacher passes. "
            "`width` and `depth` only choose what is stored: with the same seed and multipliers every choice is cut "
            "from the same super-network, which is trained again for each recipe."
        ),
    )
    replaces_task_loss = True
    own_share = 0.5
    needs = frozenset({"hidden_states"})
    decides = frozenset({"the student", "how weights are stored", "which weights are zero"})

    @options
    class Options:
        """`width` and `depth` of the sub-network in the artifact; `widths` and `depths` that are trained: a list such
        as 0.25/0.5/1, or all for the paper's (only those that make whole numbers of heads, columns and layers); 1 is
        always included. `batches` of 32 training examples for the importance.
        """

        width: Annotated[float, Field(gt=0, le=1)] = 0.5
        depth: Annotated[float, Field(gt=0, le=1)] = 1.0
        widths: str = "all"
        depths: str = "all"
        batches: Annotated[int, Field(ge=1)] = 32

        def __post_init__(self) -> None:
            """Raise ValueError if `width` or `depth` is not trained."""
            for name, text, paper in (("width", self.widths, WIDTHS), ("depth", self.depths, DEPTHS)):
                trained = multipliers(text, paper, f"{name}s")
                if getattr(self, name) not in trained:
                    raise ValueError(
                        f"{name}={getattr(self, name):g} is not trained; use one of "
                        f"{', '.join(f'{x:g}' for x in trained)}, or set {name}s to a list with it"
                    )

    suite = {
        "width": (0.5, 0.25, 1.0),
        "depth": (1.0, 0.5),
        "widths": ("all", "0.5/1"),
        "depths": ("all", "0.5/1"),
        "batches": (1,),
    }

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape of the sub-network in the artifact.

        Raises SkylineError: OUT_OF_RANGE if a multiplier does not leave whole numbers; WRONG_SHAPE if layers share
        weights, are factorized, or have neither heads nor FFN columns.
        """
        widths, depths = self._trained(config)
        o = self.options
        for name, given, fitting in (("width", o.width, widths), ("depth", o.depth, depths)):
            if given not in fitting:
                counts = f"{len(config.layers)} layers"
                if name == "width":
                    counts = "heads and FFN columns of every layer"
                raise SkylineError(
                    f"{name}={given:g} does not leave a whole number of the {counts}; "
                    f"use one of {', '.join(f'{x:g}' for x in fitting)}",
                    Code.OUT_OF_RANGE,
                )
        kept = share_of(len(config.layers), o.depth)
        assert kept is not None
        return narrowed(config, kept_layers(len(config.layers), kept), o.width)

    def _trained(self, config: EncoderConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the widths and depths that are trained on an encoder of this shape, largest first."""
        refuse_shared(config, "heads and columns")
        refuse_factorized(config, MATRICES, "heads and columns")
        if not any(layer.heads or layer.ffn_size for layer in config.layers):
            raise SkylineError(
                "no layer has heads or FFN columns; use an encoder that has some", Code.WRONG_SHAPE
            )
        o, count = self.options, len(config.layers)
        every = [size for layer in config.layers for size in (layer.heads, layer.ffn_size)]
        found = []
        for name, text, paper, sizes in (
            ("widths", o.widths, WIDTHS, every),
            ("depths", o.depths, DEPTHS, [count]),
        ):
            listed = multipliers(text, paper, name)
            fitting = [m for m in listed if all(share_of(size, m) is not None for size in sizes)]
            if text != "all" and len(fitting) < len(listed):
                odd = next(m for m in listed if m not in fitting)
                what = "layers" if name == "depths" else "heads or FFN columns"
                raise SkylineError(
                    f"{name}={text}: {odd:g} leaves no whole number of {what}; leave it out",
                    Code.OUT_OF_RANGE,
                )
            found.append(tuple(fitting))
        return found[0], found[1]

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """Return the rewired super-network."""
        self.final_shape_from(teacher.config)
        model = deepcopy(teacher).to(context.device).requires_grad_(True)
        return rewired(model, *importance(model, context, self.options.batches))

    def prepare(self, student: Encoder, context: Context) -> None:
        """Train stage 1 (all widths at full depth), and set up stage 2."""
        config = student.config
        self.model, self.count = student, len(config.layers)
        self.widths, self.depths = self._trained(config)
        self.networks: dict[tuple[float, float], _subnetworks.SubNetwork] = {}
        for depth in self.depths:
            layers = kept_layers(self.count, share_of(self.count, depth) or 1)
            for width in self.widths:
                self.networks[width, depth] = _subnetworks.SubNetwork(narrowed(config, layers, width), layers)
        # Rewiring does not change the output, so a copy of the student is the teacher of stage 1.
        for self.stage in (1, 2):
            student.to(context.device)
            names = self.networks[1.0, 1.0].skeleton.contents()
            self.teacher = {name: _subnetworks.live_weight(student, name).detach().clone() for name in names}
            if self.stage == 1:
                name = "dynabert stage 1 of 2: widths"
                training.train_round(student, [self], context, name, share=self.own_share)

    def loss(self, step: Step) -> Tensor:
        """Return the sum of the distillation losses of the stage's sub-networks (a scalar)."""
        depths, weight = (self.depths, DEPTH_HIDDEN) if self.stage == 2 else ((1.0,), WIDTH_HIDDEN)
        logits = step.output.logits
        autocast = torch.autocast(
            logits.device.type, dtype=torch.bfloat16, enabled=logits.dtype == torch.bfloat16
        )
        others = torch.zeros((), device=logits.device)
        whole = target = None
        for width in self.widths:
            if target is None or self.stage == 2:
                with torch.no_grad(), autocast:
                    target = self.networks[width, 1.0].run(self.teacher.__getitem__, step.batch)
            for depth in depths:
                network = self.networks[width, depth]
                matched = matched_states(self.count, len(network.layers))
                if width == depth == 1:
                    whole = distillation_loss(step, step.output, target, matched, weight)
                    continue
                with autocast:
                    output = network.run(
                        partial(_subnetworks.live_weight, self.model), step.batch, training=True
                    )
                term = distillation_loss(step, output, target, matched, weight)
                # Backward runs for each sub-network alone, so memory holds one sub-network at a time.
                torch.autograd.backward(term)
                others += term.detach()
        assert whole is not None
        return whole + others

    def finish(self, student: Encoder, context: Context) -> Encoder:
        """Return the sub-network of the chosen width and depth."""
        network = self.networks[self.options.width, self.options.depth]
        layers = network.config.layers
        cut = surgery.keep_heads(
            surgery.keep_layers(student, network.layers), [range(layer.heads) for layer in layers]
        )
        return surgery.keep_columns(cut, [range(layer.ffn_size) for layer in layers])


def multipliers(text: str, paper: Sequence[float], name: str) -> tuple[float, ...]:
    """Parse multipliers such as `0.25/0.5`, and return them with 1, largest first; `all` stands for `paper`.

    Raises ValueError if the text is not a list of numbers in (0, 1].
    """
    if text == "all":
        return tuple(sorted(paper, reverse=True))
    try:
        found = {float(part) for part in text.split("/")}
    except ValueError:
        found = {-1.0}
    if not all(0 < multiplier <= 1 for multiplier in found):
        raise ValueError(
            f"{name}={text} is no list of multipliers in (0, 1]; write all, or 0.5/1 for a half and the whole"
        )
    return tuple(sorted(found | {1.0}, reverse=True))
