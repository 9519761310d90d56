"""Records for the tests of boards, with figures that a reader can check by hand, and how their rows are found."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from harness.common.hardware import Hardware
from harness.records.predictions import pack_predictions
from harness.records.schema import (
    ArtifactFacts,
    Predictions,
    Profile,
    Provenance,
    Quality,
    Record,
    Total,
    Training,
    Workload,
)
from leaderboard import registry
from leaderboard.boards.board import Board
from leaderboard.boards.measured import measured_board
from leaderboard.site.page import render_page
from leaderboard.survey.published_ledger import read_ledger
from leaderboard.tables.board_figures import row_figures
from tests.support.paired_latency import paired_latency

HARDWARE = Hardware(id="test-2c", processor="Test processor", cores=2, memory_gib=8)
VERSIONS = {"torch": "2.0", "python": "3.11"}
REAL = Workload(batch=1, length=128, inputs="real")
SYNTHETIC = Workload(batch=1, length=128)
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
    cell: dict[str, Any] | None = None,
    predictions: Predictions | None = None,
    training: Sequence[Training] = (),
    **source: Any,
) -> Record:
    values = list(resampled) if resampled is not None else replicates(score)
    low, high = (float(np.percentile(values, p)) for p in (2.5, 97.5)) if values else (score, score)
    return Record(
        kind="quality",
        key=f"quality/{recipe}/{model}/{task}/{seed}{cell or ''}",
        status="ok",
        recipe=recipe,
        model=model,
        task=task,
        seed=seed,
        cell=cell or {},
        artifact=artifact or facts(identity(recipe, model, task, seed)),
        quality=Quality(
            metric=metric,
            scores={metric: score},
            ci95={metric: (low, high)},
            replicates=values,
            examples=examples,
            predictions=predictions,
            training=list(training),
        ),
        provenance=provenance(**source),
    )


def stage(name: str, steps: int = 100, precision: Any = "float32") -> Training:
    """A stage that was trained for `steps` steps."""
    return Training(
        stage=name,
        epochs=1.0,
        steps=steps,
        examples=32 * steps,
        seen=32 * steps,
        seconds=1.0,
        final_loss=0.1,
        precision=precision,
    )


def answers(positive: int, rows: int = 100, correct: int = 80, majority: int = 60) -> Predictions:
    """Predictions of `rows` rows, of which `majority` are in the first class; the last `positive` get the second."""
    labels = np.array([0] * majority + [1] * (rows - majority))
    given = labels.copy()
    given[:] = 0
    given[rows - positive :] = 1
    wrong = int((given != labels).sum())
    assert rows - wrong == correct, f"{rows - wrong} are correct"
    logits = np.stack([-given, given], axis=1).astype(np.float32)
    return pack_predictions(logits, labels.tolist(), 2)


def failed(
    recipe: str, task: str, seed: int = 0, reason: str = "the loss is not a number", **more: Any
) -> Record:
    values: dict[str, Any] = {"kind": "quality", "status": "failed", "model": "minilm-l6"}
    values |= more
    cell = values.pop("cell", {})
    return Record(
        key=f"{values['kind']}/{recipe}/{values['model']}/{task}/{seed}{cell or ''}",
        reason=reason,
        recipe=recipe,
        task=task,
        seed=seed,
        cell=cell,
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
    base: tuple[int, int, int] = (100_000_000, 2_000_000_000, 300_000_000),
    width: float = 0.05,
    median_ms: float | None = None,
    baseline_ms: float = 10.0,
    aa_floor: float | None = 0.01,
    memory_floor: float | None = None,
    started: str = "2030-01-01T00:00:00+00:00",
) -> Record:
    """A profile; `base` are the baseline's bytes, FLOPs and memory, `width` half of the speedup's interval."""
    workload = workload or SYNTHETIC
    held = artifact or facts(identity(recipe, model, task, seed), disk)
    ratio = speedup if speedup is not None else 1.1
    return Record(
        kind="profile",
        key=f"profile/{recipe}/{model}/{task}/{seed}/{workload}{workload.inputs}/{device}/{runtime}/{hardware.id}",
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
                median_ms=10 / ratio if median_ms is None else median_ms,
                baseline_median_ms=baseline_ms,
                speedup=speedup,
                speedup_ci95=(ratio - width, ratio + width),
                verdict="none" if speedup is None else "measured",
                aa_floor=aa_floor,
            ),
            baseline=total(*base),
            memory_floor=memory_floor,
            realised={**REALISED, **(realised or {})},
            hardware=hardware,
            versions=VERSIONS,
        ),
        provenance=provenance(started=started),
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
    """A small experiment: SST-2 with one seed, MRPC with three, one failed cell, a profile of each task's artifact."""
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
        noise = replicates(0.0, 0.3, seed=number + 10)
        realised = {} if "kd" in recipe or "int8" in recipe else {"flops": False, "latency": False}
        for task, score, seeds in (("sst2", sst2, 1), ("mrpc", mrpc, 3)):
            rare = task == "mrpc"
            for seed in range(seeds):
                held = facts(identity(recipe, "minilm-l6", task, seed), disk, 22_700_000, disk / 90_900_000)
                shifted = score + (0.4 * (seed - 1) if rare else 0.0)
                own = replicates(shifted, 1.8 if rare else 1.0, seed=int(rare))
                values = [v + (1 + rare) * e for v, e in zip(own, noise, strict=True)]
                examples = 408 if rare else 872
                records.append(
                    quality(recipe, task, shifted, seed, examples=examples, resampled=values, artifact=held)
                )
                if seed == 0:
                    records.append(
                        profile(
                            recipe,
                            task=task,
                            seed=0,
                            artifact=held,
                            flops=int(flops),
                            memory=int(memory),
                            speedup=speedup,
                            realised=realised,
                            base=(90_900_000, 2_760_000_000, 310_000_000),
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
