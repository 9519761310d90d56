"""How long post-training compression of a random BERT-base takes, and how long its artifact takes to load beside
the float32 one.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.compression.context import Budget, Context
from harness.models.artifacts import load_artifact, save_artifact
from harness.models.checkpoints import load_model
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from harness.tasks import load_task

pytestmark = [pytest.mark.timed, pytest.mark.slow]
RECIPES = {
    "magnitude:sparsity=0.6,schedule=one-shot": 5,
    "q-bert:bits=4": 20,
    "gobo": 60,
    "svd:rank=245": 60,
    "code-embeddings": 300,
    "dynamic-int8": None,
    "ternarybert": None,
    "block-pruning": None,
    "quant-noise:quantizer=product": None,
}
"""Recipes, with the seconds that hooks, encoding and writing may take at BERT-base size on two cores."""
LOADING_LIMIT = 3.0
TINY = {"svd:rank=245": "svd:rank=32"}


@pytest.mark.parametrize("recipe", RECIPES)
def test_compression_and_loading(
    recipe: str, benchmark: Any, scale: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    tiny = request.config.getoption("--benchmark-tiny")
    (stage,) = Recipe.parse(TINY.get(recipe, recipe) if tiny else recipe).stages
    model = load_model(scale.model, labels=2, seed=0).eval()
    save_artifact(model, tmp_path / "baseline")
    context = Context(model, load_task("toy-sentiment").training_view(), Budget(), seed=0)

    def compress() -> None:
        student, _ = run_stage(stage, model, replace(context, shapes_only=True))
        save_artifact(student, tmp_path / "compressed", str(stage))

    torch.set_num_threads(2)
    started = time.perf_counter()
    benchmark.pedantic(compress, rounds=1)
    seconds = time.perf_counter() - started
    ratios = []
    for _ in range(2 if tiny else 21):
        times = []
        for name in ("baseline", "compressed"):
            begun = time.perf_counter()
            loaded = load_artifact(tmp_path / name)
            # Dense weights are mapped, not read, until something looks at them.
            sum(float(parameter.sum()) for parameter in loaded.parameters())
            times.append(time.perf_counter() - begun)
        ratios.append(times[1] / times[0])
    figures = {
        "recipe": str(stage),
        "seconds": round(seconds, 2),
        "limit_s": RECIPES[recipe],
        "loading_ratio": round(statistics.median(ratios), 2),
        "loading_limit": LOADING_LIMIT,
        "bytes_pct": round(
            100
            * sum(path.stat().st_size for path in (tmp_path / "compressed").iterdir())
            / sum(path.stat().st_size for path in (tmp_path / "baseline").iterdir()),
            2,
        ),
    }
    print(figures)
    benchmark.extra_info.update(figures)
