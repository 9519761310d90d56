"""Records for the tests of boards, with figures that a reader can check by hand, and how their rows are found."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from harness.common.hardware import Hardware
from harness.records.schema import ArtifactFacts, Profile, Provenance, Quality, Record, Total, Workload
from leaderboard import registry
from leaderboard.boards.board import Board
from leaderboard.boards.measured import measured_board
from leaderboard.site.page import render_page
from leaderboard.survey.published_ledger import read_ledger
from leaderboard.tables.board_figures import row_figures
from tests.support.paired_latency import paired_latency

HARDWARE = Hardware(id="test-2c", processor="Test processor", cores=2, memory_gib=8)
VERSIONS = {"torch": "2.0", "python": "3.11"}
REALISED = {"disk": True, "parameters": True, "flops": True, "latency": True, "memory": True}
ROW_KEYS = {
    *("id", "title", "family", "recipe", "scores", "drop", "drop_ci95", "tasks", "size_pct", "disk_bytes"),
    *("flops", "speedup", "peak_memory_bytes", "pareto", "pareto_probability", "realised", "source"),
}
"""What every row of a board says as JSON."""


def provenance(**changes: Any) -> Provenance:
    values: dict[str, Any] = {
        "fingerprint": "f" * 64,
        "declared": {},
        "skyline": "0.1",
        "versions": VERSIONS,
        "hardware": HARDWARE,
        "weights": "pretrained",
        "data": "d" * 64,
        "started": "2030-01-01T00:00:00+00:00",
        "seconds": 1.0,
    }
    return Provenance(**{**values, **changes})


def facts(
    identity: str, disk: int = 100_000_000, params: int = 25_000_000, kept: float = 1.0
) -> ArtifactFacts:
    return ArtifactFacts(
        hash=identity,
        disk_bytes=disk,
        weight_bytes=disk - 1000,
        config_bytes=1000,
        word_embedding_bytes=disk // 5,
        gzip_bytes=disk // 2,
        params=params,
        nonzero_params=int(params * kept),
        word_embedding_params=params // 5,
        bits_per_weight=32.0,
        survey_params=params * kept,
        survey_params_without_embeddings=params * kept * 0.8,
    )


def replicates(score: float, spread: float = 1.0, count: int = 200, seed: int = 0) -> list[float]:
    """Replicates around `score`, whose deviations depend on `seed` alone: those of two records are paired."""
    deviations = np.random.default_rng(seed).normal(0.0, spread, count)
    return [float(score + deviation) for deviation in deviations - deviations.mean()]


def identity(recipe: str, model: str, task: str | None, seed: int | None) -> str:
    return f"hash-{recipe}-{model}-{task}-{seed}"


def quality(
    recipe: str,
    task: str,
    score: float,
    seed: int = 0,
    *,
    model: str = "minilm-l6",
    metric: str = "accuracy",
    examples: int = 872,
    resampled: Sequence[float] | None = None,
    artifact: ArtifactFacts | None = None,
    **source: Any,
) -> Record:
    values = list(resampled) if resampled is not None else replicates(score)
    low, high = (float(np.percentile(values, p)) for p in (2.5, 97.5)) if values else (score, score)
    return Record(
        kind="quality",
        key=f"quality/{recipe}/{model}/{task}/{seed}",
        status="ok",
        recipe=recipe,
        model=model,
        task=task,
        seed=seed,
        cell={},
        artifact=artifact or facts(identity(recipe, model, task, seed)),
        quality=Quality(
            metric=metric,
            scores={metric: score},
            ci95={metric: (low, high)},
            replicates=values,
            examples=examples,
        ),
        provenance=provenance(**source),
    )


def failed(
    recipe: str, task: str, seed: int = 0, reason: str = "the loss is not a number", **more: Any
) -> Record:
    values: dict[str, Any] = {"kind": "quality", "status": "failed", "model": "minilm-l6"}
    values |= more
    return Record(
        key=f"{values['kind']}/{recipe}/{values['model']}/{task}/{seed}",
        reason=reason,
        recipe=recipe,
        task=task,
        seed=seed,
        cell={},
        provenance=provenance(data=None),
        **values,
    )


def total(disk: int, flops: int, memory: int | None) -> Total:
    return Total(
        params=25_000_000,
        flops=flops,
        macs=flops // 2,
        elementwise_flops=0,
        weight_bytes=disk - 1000,
        activation_bytes=1,
        latency_ms=10.0,
        disk_bytes=disk,
        peak_memory_bytes=memory,
    )


def profile(
    recipe: str,
    *,
    model: str = "minilm-l6",
    task: str | None = None,
    seed: int | None = None,
    artifact: ArtifactFacts | None = None,
    disk: int = 100_000_000,
    flops: int = 2_000_000_000,
    memory: int | None = 300_000_000,
    speedup: float | None = 1.0,
    realised: dict[str, bool] | None = None,
    workload: Workload | None = None,
    hardware: Hardware = HARDWARE,
    device: str = "cpu",
    runtime: str = "eager",
) -> Record:
    workload = workload or Workload(batch=1, length=128)
    held = artifact or facts(identity(recipe, model, task, seed), disk)
    ratio = speedup if speedup is not None else 1.1
    return Record(
        kind="profile",
        key=f"profile/{recipe}/{model}/{task}/{seed}/{workload}/{device}/{runtime}/{hardware.id}",
        status="ok",
        recipe=recipe,
        model=model,
        task=task,
        seed=seed,
        cell={},
        artifact=held,
        profile=Profile(
            recipe=recipe,
            model=model,
            weights="pretrained",
            runtime=runtime,
            device=device,
            workload=workload,
            components=[],
            total=total(held.disk_bytes, flops, memory),
            latency=paired_latency(
                median_ms=10 / ratio,
                baseline_median_ms=10.0,
                speedup=speedup,
                speedup_ci95=(ratio - 0.05, ratio + 0.05),
                verdict="none" if speedup is None else "measured",
            ),
            baseline=total(100_000_000, 2_000_000_000, 300_000_000),
            realised={**REALISED, **(realised or {})},
            hardware=hardware,
            versions=VERSIONS,
        ),
        provenance=provenance(),
    )


def card(
    title: str, family: str, reduces: Sequence[str] = ("disk",), claims: Sequence[Any] = (), **more: Any
) -> dict[str, Any]:
    return {"title": title, "family": family, "reduces": list(reduces), "claims": list(claims), **more}


CARDS = {
    "dynamic-int8": card("Dynamic int8", "quantization", ("disk", "latency")),
    "magnitude": card("Magnitude pruning", "unstructured-pruning", ("disk", "parameters", "flops")),
    "random-pruning": card("Random pruning", "unstructured-pruning", ("disk", "parameters")),
    "kd-logits": card("Distillation from logits", "distillation", ("disk", "flops", "latency", "memory")),
}


def rows_of(board: Board) -> list[SimpleNamespace]:
    """The rows of a board with the figures that its JSON has."""
    return [SimpleNamespace(**row) for row in row_figures(board)]


def by_recipe(board: Board) -> dict[str, SimpleNamespace]:
    """The same by recipe."""
    return {row.recipe: row for row in rows_of(board)}


PUBLISHED = tuple(entry.name for entry in registry.PUBLISHED)


def published_board(table: str = "ganesh2021", axis: str | None = None) -> Board:
    """The board of a published table of the checkout."""
    board = registry.find("published", table).build(registry.Sources(), registry.Choice(axis=axis))
    assert isinstance(board, Board)
    return board


def example_records() -> list[Record]:
    """A small experiment: SST-2 with one seed, MRPC with three, one failed cell, profiles of one artifact."""
    scores = {
        "baseline": (91.0, 84.0),
        "dynamic-int8": (90.6, 83.5),
        "magnitude:sparsity=0.4": (90.4, 83.9),
        "magnitude:sparsity=0.6": (88.2, 80.0),
        "random-pruning:sparsity=0.6": (78.0, 69.0),
        "kd-logits:layers=3": (88.5, 79.5),
        "kd-logits:layers=3 > dynamic-int8": (88.1, 79.0),
        "magnitude:sparsity=0.6 > dynamic-int8": (87.9, 79.8),
    }
    costs = {
        "baseline": (90_900_000, 2.76e9, 310e6, 1.0),
        "dynamic-int8": (58_100_000, 2.76e9, 290e6, 1.62),
        "magnitude:sparsity=0.4": (75_000_000, 2.76e9, 311e6, 1.0),
        "magnitude:sparsity=0.6": (68_000_000, 2.76e9, 312e6, 1.01),
        "random-pruning:sparsity=0.6": (68_000_001, 2.76e9, 312e6, 1.0),
        "kd-logits:layers=3": (69_500_000, 1.38e9, 250e6, 1.97),
        "kd-logits:layers=3 > dynamic-int8": (53_000_000, 1.38e9, 240e6, 3.1),
        "magnitude:sparsity=0.6 > dynamic-int8": (51_500_000, 2.76e9, 291e6, 1.6),
    }
    records = []
    for number, (recipe, (sst2, mrpc)) in enumerate(scores.items()):
        disk, flops, memory, speedup = costs[recipe]
        held = facts(identity(recipe, "minilm-l6", "sst2", 0), disk, 22_700_000, disk / 90_900_000)
        noise = replicates(0.0, 0.3, seed=number + 10)
        paired = [value + extra for value, extra in zip(replicates(sst2), noise, strict=True)]
        records.append(quality(recipe, "sst2", sst2, artifact=held, resampled=paired))
        for seed in range(3):
            shifted = mrpc + 0.4 * (seed - 1)
            values = [v + 2 * e for v, e in zip(replicates(shifted, 1.8, seed=1), noise, strict=True)]
            records.append(quality(recipe, "mrpc", shifted, seed, examples=408, resampled=values))
        realised = {} if "kd" in recipe or "int8" in recipe else {"flops": False, "latency": False}
        records.append(
            profile(
                recipe,
                task="sst2",
                seed=0,
                artifact=held,
                flops=int(flops),
                memory=int(memory),
                speedup=speedup,
                realised=realised,
            )
        )
    records.append(quality("kd-logits:layers=3 + magnitude:sparsity=0.6", "sst2", 86.9))
    records.append(failed("kd-logits:layers=3 + magnitude:sparsity=0.6", "mrpc", 1))
    return records


@cache
def example_page() -> str:
    """The page of the example and of the published tables, rendered once for all tests."""
    published = [published_board(table) for table in PUBLISHED]
    return render_page([measured_board(example_records(), cards=CARDS), *published], read_ledger())
