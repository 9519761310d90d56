"""Exports a model as an ONNX graph: int64 ids, mask and segments (b, n) in, logits (b, outputs) or (b, n, 2) out.

Any b and n are valid, unless the model's work depends on n (windows of attention, projected positions): then
`torch.export` finds that the graph is valid for one length only, or from some length on.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.models.batch import Batch
from harness.models.int8_linear import Int8Linear
from harness.models.model import Model
from harness.runtimes.onnx_modules import OPSET, rewrite, translations

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
GRAPH, FACTS = "graph.onnx", "graph.json"


@dataclass(frozen=True)
class Graph:
    """An exported graph: its folder, the shortest and longest rows it is valid for, and its int8 maps' input sizes."""

    folder: Path
    shortest: int
    longest: int
    widths: tuple[int, ...] = ()

    @property
    def path(self) -> Path:
        """The ONNX file. The weights are in a second file in the same folder."""
        return self.folder / GRAPH

    @classmethod
    def read(cls, folder: Path) -> Graph:
        """Read the description of a graph that `export` wrote."""
        shortest, longest, *widths = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        return cls(folder, shortest, longest, tuple(widths))


def export(model: Model, length: int, int8_map: Callable[[Int8Linear], nn.Module], into: Path) -> Graph:
    """Export a model, whose modules are replaced, for rows of up to `length` tokens into a folder.

    `int8_map` makes the module that replaces an int8 map in the graph.
    """
    widths = {module.in_features for module in model.modules() if isinstance(module, Int8Linear)}
    rewrite(model, int8_map)
    example = Batch.synthetic(2, max(2, length), model.config.vocab_size)
    tensors = (example.input_ids, example.attention_mask, example.token_type_ids)
    dims = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.AUTO}
    with _quietly():
        program = torch.export.export(_Pass(model).eval(), tensors, dynamic_shapes=(dims,) * 3, strict=False)
        onnx = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=["logits"],
            custom_translation_table=translations(),
            verbose=False,
        )
        assert onnx is not None
        # Runtimes map a separate file of weights into memory; inside the graph they would hold the weights twice.
        onnx.save(into / GRAPH, external_data=True)
    shortest, longest = _lengths(program, example.input_ids.shape[1], model.config.positions)
    (into / FACTS).write_text(json.dumps([shortest, longest, *sorted(widths)]), encoding="utf-8")
    return Graph.read(into)


def _lengths(program: torch.export.ExportedProgram, length: int, positions: int) -> tuple[int, int]:
    """Return the shortest and longest rows for which a program is valid that was exported with `length` tokens."""
    found = next(node for node in program.graph.nodes if node.name == INPUTS[0]).meta["val"].shape[1]
    allowed = program.range_constraints.get(found.node.expr) if isinstance(found, torch.SymInt) else None
    if allowed is None:
        return length, length
    # torch assumes that a free axis has 2 places at least, since an axis of 1 broadcasts; ONNX needs no such limit.
    shortest = int(allowed.lower)
    return 1 if shortest <= 2 else shortest, int(min(allowed.upper, positions))


@contextmanager
def _quietly() -> Iterator[None]:
    """Hide the exporter's messages about itself (deprecations, missing packages) from the user."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


class _Pass(nn.Module):
    """A pass as a function of tensors, which torch can export."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        batch = Batch(input_ids, attention_mask, token_type_ids)
        model: Any = self.model
        if getattr(model.config, "paired", False):
            texts = (_whole_text_of(batch, segment) for segment in (0, 1))
            logits: Tensor = model.head([model.body(model.embedding(ids), mask) for ids, mask in texts])
            return logits
        logits = model(batch).logits
        return logits


def _whole_text_of(batch: Batch, segment: int) -> tuple[Tensor, Tensor]:
    """Move the tokens of one segment to the front: ids and mask, both (b, n).

    Unlike `students.student.text_of` it does not cut them at the batch's longest text, which a graph cannot know.
    """
    chosen = (batch.attention_mask == 1) & (batch.token_type_ids == segment)  # (b, n)
    positions = torch.arange(chosen.shape[1])  # (n,)
    order = torch.where(chosen, positions, positions + chosen.shape[1]).argsort(dim=1)  # (b, n)
    return batch.input_ids.gather(1, order), chosen.gather(1, order).to(batch.attention_mask.dtype)
