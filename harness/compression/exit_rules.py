"""Early exit: ramps that classify on inner layers, and rows that leave the batch when they are sure enough."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.models.config import EncoderConfig, ExitRule
from harness.models.model import Model, evaluating

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.compression.encoded_rows import EncodedSplit
    from harness.models.encoder.encoder import Encoder
from harness.models.encoder.exits import Judge


def with_exit_rule(model: Model, rule: ExitRule | None) -> Model:
    """The same model, its weights shared, with another rule to leave by; without ramps it stays as it is."""
    config = model.config
    if not isinstance(config, EncoderConfig) or len(config.exit_depths) == 1:
        return model
    changed = copy(model)
    changed.config = config.with_exit_rule(rule)
    return changed


def ramp_logits(model: Encoder, rows: EncodedSplit, tokens_per_batch: int) -> dict[int, Tensor]:
    """The logits (N, outputs) of every row at each ramp, by its layer. The encoder must have no exit rule yet."""
    outputs = model.config.head.outputs
    device = next(model.parameters()).device
    found = {depth - 1: torch.empty(len(rows), outputs) for depth in model.config.exit_depths[:-1]}
    with evaluating(model), torch.inference_mode():
        for chosen in rows.sorted_batches(tokens_per_batch):
            for index, logits in model(rows.batch(chosen).to(device)).exits.items():
                found[index][chosen] = logits.float().cpu()
    return {index: logits.clone() for index, logits in found.items()}


def leaving_depths(exits: Mapping[int, Tensor], rule: ExitRule, layers: int) -> Tensor:
    """After how many layers each row leaves (N,) by a rule, from the logits (N, outputs) at every ramp."""
    judge, rows = Judge(rule), len(next(iter(exits.values())))
    depths = torch.full((rows,), layers)
    for index, logits in sorted(exits.items()):
        # Whoever is gone is judged on, which changes nothing for the others.
        depths[judge.done(logits) & (depths == layers)] = index + 1
    return depths
