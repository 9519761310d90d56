"""The timed suite: paired profiles of the methods at BERT-base size, as records and as pytest-benchmark's
JSON.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.artifacts import load_artifact
from harness.build import build_untrained
from harness.cells import ProfileCell
from harness.encoder import Batch
from harness.execute import execute_profile, fingerprint
from harness.recipe import Recipe
from harness.records import Workload
from harness.store import Store

pytestmark = [pytest.mark.timed, pytest.mark.slow]
RECIPES = (
    "baseline",
    "dynamic-int8",
    "kd-logits:layers=6",
    "magnitude:sparsity=0.6",
    "random-pruning:sparsity=0.6",
)


@pytest.mark.parametrize("recipe", RECIPES)
def test_profile(
    recipe: str, benchmark: Any, scale: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    recipe = recipe.replace("layers=6", f"layers={scale.half_its_layers}")
    tiny = request.config.getoption("--benchmark-tiny")
    out = tmp_path / "records" if tiny else Path(request.config.getoption("--benchmark-records"))
    store = Store(out)
    workload = Workload(batch=1, length=128)
    cell = ProfileCell(
        recipe=str(Recipe.parse(recipe)), model=scale.model, workload=workload, time_cap_s=scale.cap_s
    )
    record = execute_profile(cell, tmp_path, None, fingerprint(cell, None))
    store.put(cell, record)
    assert record.profile is not None
    assert record.profile.latency is not None
    folder, _ = build_untrained(Recipe.parse(recipe), scale.model, tmp_path)
    model = load_artifact(folder)
    batch = Batch.synthetic(workload.batch, workload.length, model.config.vocab_size)
    benchmark.extra_info.update(
        record.profile.model_dump(mode="json", include={"latency", "total", "realised"})
    )
    with torch.inference_mode():
        benchmark.pedantic(model, args=(batch,), rounds=10, warmup_rounds=2)
