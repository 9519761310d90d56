"""Records of a method's artifact on the tiny task: with scores, FLOPs and sizes, but without latency."""

from __future__ import annotations

import time

from harness.common.hardware import hardware, versions
from harness.conformance.subject import SEED, WORKLOAD, Made, Subject
from harness.conformance.tiny import tiny_task
from harness.models.artifacts import read_config
from harness.models.flops.counting import Work
from harness.profiling.costs.size import artifact_facts
from harness.profiling.profile import StaticCosts
from harness.recipes.recipe import Recipe
from harness.records.cells import BudgetSpec, ProfileCell, QualityCell
from harness.records.schema import Component, Profile, Quality, Record, Total
from harness.runs.record_making import make_record

MODEL = "conformance-tiny"


def records_of(subject: Subject) -> list[Record]:
    """Return a quality and a profile record of the baseline, then of the method. Raises Blocked if the method has no
    artifact.
    """
    (own, base), (quality, reference) = subject.costs, subject.qualities
    recipe = Recipe((subject.runs.stage,))
    return [
        *_pair(Recipe(), subject.baseline, base, base, reference),
        *_pair(recipe, subject.made, own, base, quality),
    ]


def _pair(
    recipe: Recipe, made: Made, own: StaticCosts, base: StaticCosts, scored: Quality
) -> tuple[Record, Record]:
    started, task, machine = time.time(), tiny_task(), hardware()
    origin = read_config(made.folder).origin
    facts = artifact_facts(made.folder)
    quality = make_record(
        QualityCell(recipe=str(recipe), model=MODEL, task=task.name, seed=SEED, budget=BudgetSpec()),
        recipe,
        "conformance",
        machine,
        started,
        artifact=facts,
        quality=scored.model_copy(update={"training": made.training}),
        data=task.fingerprint(),
        weights=origin,
    )
    cell = ProfileCell(recipe=str(recipe), model=MODEL, task=task.name, seed=SEED, workload=WORKLOAD)
    profile = Profile(
        recipe=str(recipe),
        model=MODEL,
        weights=origin,
        runtime=cell.runtime,
        device=cell.device,
        workload=WORKLOAD,
        components=_components(own),
        total=_total(own, facts.disk_bytes),
        latency=None,
        baseline=None,
        realised={
            "parameters": own.stored_params < base.stored_params,
            "flops": own.work.total.macs < base.work.total.macs,
        },
        hardware=machine,
        versions=versions(),
    )
    return quality, make_record(
        cell, recipe, "conformance", machine, started, artifact=facts, profile=profile, weights=origin
    )


def _components(costs: StaticCosts) -> list[Component]:
    return [
        Component(
            name=name,
            params=costs.params[name],
            flops=costs.work.components.get(name, Work()).flops,
            elementwise_flops=costs.work.components.get(name, Work()).elementwise_flops,
            weight_bytes=costs.weight_bytes[name],
            activation_bytes=costs.activation_bytes[name],
            latency_ms=None,
        )
        for name in costs.params
    ]


def _total(costs: StaticCosts, disk_bytes: int) -> Total:
    return Total(
        params=sum(costs.params.values()),
        flops=costs.work.total.flops,
        macs=costs.work.total.macs,
        elementwise_flops=costs.work.total.elementwise_flops,
        weight_bytes=sum(costs.weight_bytes.values()),
        activation_bytes=sum(costs.activation_bytes.values()),
        latency_ms=None,
        disk_bytes=disk_bytes,
        peak_memory_bytes=None,
        uncounted_operators=list(costs.work.uncounted),
    )
