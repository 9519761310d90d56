"""Exit rules: change a model's rule, and compute at which layer each row leaves by a rule."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.models.config import EncoderConfig, ExitRule
from harness.models.encoder.exits import Judge
from harness.models.model import Model, evaluating

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.compression.encoded_rows import EncodedSplit
    from harness.models.encoder.encoder import Encoder


def with_exit_rule(model: Model, rule: ExitRule | None) -> Model:
    """Return a model with the same weights (shared, not copied) and another exit rule. A model without ramps is
    returned as it is.
    """
    config = model.config
    if not isinstance(config, EncoderConfig) or len(config.exit_depths) == 1:
        return model
    changed = copy(model)
    changed.config = config.with_exit_rule(rule)
    return changed


def ramp_logits(model: Encoder, rows: EncodedSplit, tokens_per_batch: int) -> dict[int, Tensor]:
    """Return the float32 logits (N, outputs) of all rows at each ramp, by the index of its layer, from 0.

    The encoder must not have an exit rule: each row must reach every ramp.
    """
    outputs = model.config.head.outputs
    device = next(model.parameters()).device
    found = {depth - 1: torch.empty(len(rows), outputs) for depth in model.config.exit_depths[:-1]}
    with evaluating(model), torch.inference_mode():
        for chosen in rows.sorted_batches(tokens_per_batch):
            for index, logits in model(rows.batch(chosen).to(device)).exits.items():
                found[index][chosen] = logits.float().cpu()
    return {index: logits.clone() for index, logits in found.items()}


def leaving_depths(exits: Mapping[int, Tensor], rule: ExitRule, layers: int) -> Tensor:
    """Return the number of layers (N,) that each row passes before it leaves by `rule`. `exits` holds the logits
    (N, outputs) of each ramp by the index of its layer; a row that leaves at no ramp passes all `layers`.
    """
    judge, rows = Judge(rule), len(next(iter(exits.values())))
    depths = torch.full((rows,), layers)  # (N,)
    for index, logits in sorted(exits.items()):
        # The rule is also applied to rows that left before. That does not affect the others.
        depths[judge.done(logits) & (depths == layers)] = index + 1
    return depths
