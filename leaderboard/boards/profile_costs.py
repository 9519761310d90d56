"""The costs of one profile as parts of a row, in absolute figures: for artifacts without scores."""

from __future__ import annotations

from dataclasses import replace

from harness.recipes.recipe import BASELINE
from harness.records.schema import ArtifactFacts, Profile, Total
from leaderboard.boards.axes import ARCHITECTURE_AXES
from leaderboard.boards.cost_ratios import peak_memory
from leaderboard.boards.names import Cards, claimed_costs
from leaderboard.boards.row import Costs, Execution, Size, Speedup


def size_of(facts: ArtifactFacts | None, base: ArtifactFacts | None) -> Size | None:
    """Compute an artifact's size: bytes on disk, and percent of the baseline's artifact `base` if that is known."""
    if facts is None:
        return None
    if base is None:
        return Size(facts.disk_bytes)
    without = facts.survey_params_without_embeddings
    base_without = base.survey_params_without_embeddings
    return Size(
        facts.disk_bytes,
        100 * facts.disk_bytes / base.disk_bytes,
        100 * facts.survey_params / base.survey_params,
        100 * without / base_without if base_without else None,
    )


def profiled_costs(
    profile: Profile, size: Size | None, recipe: str, cards: Cards, source: str
) -> tuple[Costs, list[str]]:
    """Make a row's costs from one profile of `recipe`, with notes on them. `size` is the size of its artifact."""
    costs = Costs(
        replace(size or Size(), disk_bytes=profile.total.disk_bytes),
        _execution(profile, recipe, cards),
        _speedup(profile, recipe),
        _by_axis(profile, recipe),
        source=source,
    )
    latency = profile.latency
    if latency is None or (latency.verdict == "measured" and latency.speedup):
        return costs, []
    if latency.speedup_ci95 is None:
        why = "there were too few undisturbed pairs"
    else:
        low, high = latency.speedup_ci95
        why = f"the interval of the speedup, [{low:.2f}, {high:.2f}], is too wide"
    return costs, [f"latency: no verdict, because {why}"]


def _execution(profile: Profile, recipe: str, cards: Cards) -> Execution:
    realised = {str(cost): flag for cost, flag in profile.realised.items()}
    # Without a verdict nothing says that a speedup is simulated.
    judged = {cost for cost in realised if cost != "latency" or not _undecided(profile)}
    return Execution(
        flops=profile.total.flops,
        latency_ms=None if profile.latency is None else profile.latency.median_ms,
        peak_memory_bytes=peak_memory(profile.device, profile.total),
        realised=realised,
        simulated=tuple(sorted(c for c in claimed_costs(recipe, cards) & judged if not realised[c])),
        workload=profile.workload,
        hardware=profile.hardware.id,
        runtime=profile.executed_by,
        device=profile.device,
    )


def _undecided(profile: Profile) -> bool:
    return profile.latency is not None and profile.latency.verdict == "none"


def _speedup(profile: Profile, recipe: str) -> Speedup | None:
    latency = profile.latency
    if recipe == BASELINE:
        return Speedup(1.0)
    if latency is None:
        return None
    measured = latency.speedup if latency.verdict == "measured" and latency.speedup else None
    return Speedup(measured, latency.speedup_ci95, latency.verdict)


def _by_axis(profile: Profile, recipe: str) -> dict[str, float]:
    """Compute the costs that fronts compare. A cost that is not realised counts at least as much as the baseline's."""
    speedup = _speedup(profile, recipe)
    costs = _static_costs(profile.device, profile.total)
    if speedup is not None and speedup.value is not None:
        costs["latency"] = 1 / speedup.value
    if recipe == BASELINE:
        return costs
    floors = {"latency": 1.0}
    if profile.baseline is not None:
        floors |= _static_costs(profile.device, profile.baseline)
    realised = {str(cost): flag for cost, flag in profile.realised.items()}
    for axis in (axis.key for axis in ARCHITECTURE_AXES):
        if realised.get(axis) is False and axis in costs and axis in floors:
            costs[axis] = max(costs[axis], floors[axis])
    return costs


def _static_costs(device: str, total: Total) -> dict[str, float]:
    memory = peak_memory(device, total)
    found = {"disk": float(total.disk_bytes), "flops": float(total.flops)}
    return found if memory is None else {**found, "memory": float(memory)}
