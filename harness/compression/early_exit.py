"""The base class of early-exit methods. It adds and trains exit ramps, then sets the threshold at which rows leave:
either the option's, or one chosen on training data for a target speed.

A row leaves at the first ramp that is confident enough, so the threshold trades accuracy for FLOPs without new
training. New rows leave later than training rows at the same threshold: an encoder is more confident about rows that
it was fine-tuned on.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from pydantic import Field

from harness.common.errors import Code, SkylineError
from harness.common.lazy import lazy_imports
from harness.compression.method import Method
from harness.models.config import EncoderConfig, ExitRamp, ExitRule, LayerConfig
from harness.models.parameter_counts import layer_parameters

with lazy_imports():
    import numpy as np
    import torch

    from harness.compression import encoded_rows, evaluation, exit_rules
    from harness.models import surgery
    from harness.models.flops import exits as flops_exits


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.comparable import Baseline
    from harness.compression.context import Context, Step
    from harness.models.encoder.encoder import Encoder
    from harness.models.model import Model
    from harness.tasks.base import Example, Kind

Speed = Annotated[float, Field(gt=1, allow_inf_nan=False)]
"""The baseline's FLOPs divided by the student's, over the same training rows."""
CALIBRATION_ROWS, UNTRAINED_ROWS, FEWEST_HELD = 1000, 64, 64
"""The most rows to choose a threshold on, the same in a build without training, and the fewest rows to set aside."""


class EarlyExit(Method):
    """A method that trains exit ramps on inner layers and sets an exit rule. Its `Options` have a field `speed`, and a
    field for the threshold whose name is `given`.
    """

    ramp: ClassVar[ExitRamp]
    rule_kind: ClassVar[Literal["entropy", "normalized-entropy", "patience"]]
    given: ClassVar[str] = "threshold"
    usual_speed: ClassVar[float] = 2.0
    """The target if neither a speed nor a threshold is given."""
    freezes: ClassVar[bool] = True
    """Whether only the ramps are trained."""
    replaces_task_loss = True
    decides = frozenset({"the student"})
    post_training_options = frozenset({"speed", "threshold", "patience", "tolerance"})
    held: frozenset[int] = frozenset()
    """Indices of training rows that the loss leaves out."""
    calibration: Sequence[Example] = ()
    """Examples to choose the threshold on."""

    @abstractmethod
    def ramp_loss(self, kind: Kind, exits: Mapping[int, Tensor], logits: Tensor, targets: Tensor) -> Tensor:
        """Return the scalar loss of a batch of b rows. `exits` holds each ramp's logits (b, outputs) by the number of
        its layer, from 1; `logits` (b, outputs) are the head's; `targets` (b,) the labels.
        """

    @abstractmethod
    def candidates(self, exits: Mapping[int, Tensor]) -> Sequence[float]:
        """Return the thresholds to try on rows with these logits (N, outputs) at the ramps. The strictest, by which
        rows leave latest, comes first.
        """

    @property
    def threshold(self) -> float | None:
        """The option's threshold; None if it is to be chosen for a target speed."""
        value: float | None = getattr(self.options, self.given)
        return value

    @property
    def speed(self) -> float | None:
        """The target speed; None if the threshold is given."""
        own: float | None = self.options.speed
        return own if own is not None or self.threshold is not None else self.usual_speed

    @property
    def earliest(self) -> int:
        """The number of layers after which a row can leave at the earliest."""
        return 1

    @property
    def fully_compressed_at(self) -> float:
        """The end of training if only ramps are trained: the head's score, which early stopping compares, does not
        change then.
        """
        return 1.0 if self.freezes else 0.0

    def rule(self, threshold: float) -> ExitRule:
        """Return the exit rule with this threshold."""
        return ExitRule(kind=self.rule_kind, threshold=threshold)

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape with ramps. Raises SkylineError (`wrong-shape`) if no row could leave at an inner layer, if
        the encoder has ramps already, or if its head does not give one answer per row.
        """
        layers = len(config.layers)
        if any(layer.exit is not None for layer in config.layers):
            raise SkylineError(
                "the encoder has exit ramps already; leave one of the methods out", Code.WRONG_SHAPE
            )
        if config.head.kind not in ("classification", "regression") or not config.pooler:
            raise SkylineError(
                f"rows can leave early from a pooled head of classes or scores only, not from a {config.head.kind} "
                "head; use another task or model",
                Code.WRONG_SHAPE,
            )
        if config.head.outputs == 1 and self.rule_kind != "patience":
            raise SkylineError("scores have no entropy to leave by; use pabee", Code.WRONG_SHAPE)
        if self.earliest >= layers:
            name = self.given if self.threshold is not None else "speed"
            value = self.threshold if self.threshold is not None else self.speed
            raise SkylineError(
                f"{name}={value:g} lets no row leave before layer {self.earliest} of {layers}; use a deeper encoder"
                + (f" or a smaller {name}" if self.threshold is not None and self.earliest > 2 else ""),
                Code.WRONG_SHAPE,
            )
        # A threshold for a target speed is chosen after training only; 0 stands for it here.
        return config.with_exits(self.ramp, self.rule(self.threshold or 0.0))

    def check_against(self, config: EncoderConfig, baseline: Baseline) -> None:
        """Raise SkylineError (`out-of-range`) if the target speed exceeds the speed at which every row leaves at the
        earliest layer.
        """
        if self.speed is None or self.earliest >= len(config.layers):
            return
        fastest = _parameters(baseline.config, baseline.config.layers) / max(
            1, _parameters(config, config.layers[: self.earliest])
        )
        if self.speed >= fastest:
            raise SkylineError(
                f"speed={self.speed:g} is out of reach: leaving after layer {self.earliest} is {fastest:.1f} times "
                "as fast as the baseline; ask for less",
                Code.OUT_OF_RANGE,
            )

    def student(self, teacher: Model, context: Context) -> Encoder:
        """Return a copy of the encoder with new ramps."""
        return surgery.add_exits(cast("Encoder", teacher), self.ramp, context.generator("exit ramps"))

    def prepare(self, student: Model, context: Context) -> None:
        """Freeze all but the ramps if `freezes`, and set training rows aside if a threshold is to be chosen on them."""
        if self.freezes:
            student.requires_grad_(False)
            cast("Encoder", student).exits.requires_grad_(True)
        if context.shapes_only or self.threshold is not None:
            rows = context.training_examples()
            self.calibration = _some(
                rows, UNTRAINED_ROWS if context.shapes_only else CALIBRATION_ROWS, context
            )
            return
        examples, budget = context.training_examples(), context.budget
        view = context.task.with_examples(examples)
        if budget.patience is not None:  # the loop sets these rows aside for early stopping
            self.calibration = view.holdout(budget.holdout, context.seed, at_most=CALIBRATION_ROWS)[1]
            return
        share = min(0.5, max(budget.holdout, FEWEST_HELD / len(examples)))
        self.calibration = view.holdout(share, context.seed, at_most=CALIBRATION_ROWS)[1]
        out = {id(example) for example in self.calibration}
        held = [row for row, example in enumerate(examples) if id(example) in out]
        # Texts augmented from a held row must not be trained on either.
        made = enumerate(context.augmented, start=len(examples))
        self.held = frozenset([*held, *(row for row, each in made if each.source in set(held))])

    def loss(self, step: Step) -> Tensor:
        """Return `ramp_loss` on the rows that are not set aside; 0 if all are."""
        output = step.output
        trained = [place for place, row in enumerate(step.rows) if row not in self.held]
        if not trained:
            return 0 * torch.stack([logits.float().sum() for logits in output.exits.values()]).sum()
        rows = torch.tensor(trained, device=output.logits.device)  # (t,), t ≤ b
        exits = {
            index + 1: logits[rows].float() for index, logits in output.exits.items()
        }  # (t, outputs) each
        return self.ramp_loss(step.kind, exits, output.logits[rows].float(), step.targets[rows])

    def finish(self, student: Model, context: Context) -> None:
        """Set the exit rule, and record its threshold, depths and FLOPs on training rows in the context's figures.

        Raises SkylineError (`out-of-range`) if no row leaves early at the given threshold, or if no threshold reaches
        the target speed.
        """
        student.requires_grad_(True)
        layers, task = len(student.config.layers), context.task
        length = task.length_within(student.config.positions)
        source = f"the training set of {task.name}"
        rows, base_rows = (
            encoded_rows.encode_examples(self.calibration, model, task.kind, length, source)
            for model in (student, context.teacher)
        )
        # Logits (N, outputs) of each ramp, and the multiply-adds (N,) of a row that leaves after each depth.
        exits = exit_rules.ramp_logits(cast("Encoder", student), rows, evaluation.TOKENS_PER_BATCH)
        costs = flops_exits.row_macs(student.config, rows.lengths.tolist())
        base = context.teacher.config
        whole = flops_exits.row_macs(base, base_rows.lengths.tolist())[len(base.layers)].sum()

        def depths(threshold: float) -> Any:
            return exit_rules.leaving_depths(exits, self.rule(threshold), layers).numpy()  # (N,)

        def speed(threshold: float) -> float:
            left = depths(threshold)
            macs = np.select([left == depth for depth in costs], list(costs.values()))  # (N,)
            return float(whole / macs.sum())

        given = self.threshold
        threshold = self._choose(self.candidates(exits), speed) if given is None else given
        left = depths(threshold)
        if not context.shapes_only and self.threshold is not None and (left == layers).all():
            raise SkylineError(
                f"{self.given}={threshold:g}: no training row meets it at a ramp, so none would leave early; "
                f"use a {'smaller' if self.rule_kind == 'patience' else 'larger'} one, or give speed",
                Code.OUT_OF_RANGE,
            )
        student.config = student.config.with_exit_rule(self.rule(threshold))
        context.figures |= {
            self.given: threshold,
            "rows": float(len(left)),
            "mean_depth": float(left.mean()),
            "flops_ratio": speed(threshold),
            **{f"left_after_{depth}": float((left == depth).mean()) for depth in costs},
        }

    def _choose(self, candidates: Sequence[float], speed: Any) -> float:
        """Return the strictest threshold that reaches the target. The speed grows along the candidates."""
        assert self.speed is not None
        place = bisect_left(candidates, self.speed, key=speed)
        if place == len(candidates):
            raise SkylineError(
                f"speed={self.speed:g} is out of reach: the rows that leave earliest make it "
                f"{speed(candidates[-1]):.2f} times as fast on training data; ask for less",
                Code.OUT_OF_RANGE,
            )
        return candidates[place]


def entropy_candidates(entropies: Tensor) -> list[float]:
    """Return the midpoints between neighbouring entropies (of any shape), in rising order, and one value above all."""
    values = torch.unique(entropies.double())
    halfway = (values[:-1] + values[1:]) / 2
    return [*halfway.tolist(), float(values[-1]) + 1e-3]


def _parameters(config: EncoderConfig, layers: Sequence[LayerConfig]) -> int:
    """Count the layers' parameters. Shared weights count in every layer that computes with them."""
    own = [layer.model_copy(update={"shares_with": None}) for layer in layers]
    return sum(layer_parameters(config, layer) for layer in own)


def _some(examples: Sequence[Example], count: int, context: Context) -> Sequence[Example]:
    """Draw at most `count` examples."""
    order = torch.randperm(len(examples), generator=context.generator("exit threshold"))[:count]
    return [examples[row] for row in order.tolist()]
