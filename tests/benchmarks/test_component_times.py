"""What the components' times miss of the uninstrumented pass: to be within 5 % at both of the survey's kinds of
workload, one long sequence and a batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.profiling.profile import profile_artifact
from harness.recipes.builder import build_untrained
from harness.recipes.recipe import Recipe
from harness.records.schema import Workload

pytestmark = [pytest.mark.timed, pytest.mark.slow]


@pytest.mark.parametrize(("batch", "length"), [(1, 256), (8, 128)])
def test_residual(batch: int, length: int, benchmark: Any, scale: Any, tmp_path: Path) -> None:
    folder, _ = build_untrained(Recipe(), scale.model, tmp_path)
    profile = benchmark.pedantic(
        profile_artifact,
        args=(folder, folder),
        kwargs={
            "recipe": "baseline",
            "model": scale.model,
            "weights": "as built",
            "workload": Workload(batch=batch, length=length),
            "time_cap_s": scale.cap_s,
        },
        rounds=1,
    )
    assert profile.total.residual_pct is not None
    figures = {
        "workload": str(profile.workload),
        "residual_pct": profile.total.residual_pct,
        "total_ms": profile.total.latency_ms,
        "components_ms": {part.name: part.latency_ms for part in profile.components},
        "hardware": profile.hardware.id,
    }
    print(figures)
    benchmark.extra_info.update(figures)
