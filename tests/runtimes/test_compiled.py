"""torch.compile: the same logits as eager's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from harness.models.config import ExitRule
from harness.models.encoder.exits import entropy
from harness.runtimes import Execution, load
from tests.support.runtime_models import CONFIGS, LAYER, batch_of, drawn, encoder, saved

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="needs a C++ compiler"),
]


def test_rows_leave_as_under_eager(tmp_path: Path) -> None:
    first = LAYER.model_copy(update={"exit": "pooler"})
    batches = [batch_of([9, 4, 17, 11]), batch_of([20]), batch_of([12])]
    model = drawn(encoder(first, first, LAYER))
    with torch.inference_mode():
        entropies = torch.cat([entropy(model(batch).exits[0]) for batch in batches])
    rule = ExitRule(kind="entropy", threshold=float(entropies.median()) + 1e-3)
    model.config = model.config.with_exit_rule(rule)
    with torch.inference_mode():
        depths = torch.cat([model(batch).depths for batch in batches])
    assert len(set(depths.tolist())) > 1
    folder = saved(model, tmp_path / "a")
    eager, compiled = load(Execution(folder)), load(Execution(folder, "compile"))
    for batch in batches:
        assert float((compiled(batch) - eager(batch)).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("kind", "precision"),
    [("plain", "float32"), ("plain", "int8"), ("plain", "bfloat16"), ("lstm of pairs", "float32")],
)
def test_logits_are_eagers(kind: str, precision: str, tmp_path: Path) -> None:
    folder = saved(drawn(CONFIGS[kind]), tmp_path / "a")
    eager = load(Execution(folder, precision=precision))  # type: ignore[arg-type]
    compiled = load(Execution(folder, "compile", precision=precision))  # type: ignore[arg-type]
    assert compiled.model is None
    # The second length, so this is compiled for any length.
    for batch in (batch_of([9, 4, 17]), batch_of([20, 20, 7])):
        found, expected = compiled(batch), eager(batch)
        assert found.is_inference()
        assert float((found - expected).abs().max()) < (1e-2 if precision == "bfloat16" else 1e-5)
