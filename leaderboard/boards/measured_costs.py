"""The costs of a measured row: ratios on every axis, of the artifacts that were scored and of no others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.common.hardware import Hardware
from harness.recipes.recipe import BASELINE
from harness.records.schema import ArtifactFacts, Profile, Record, Workload
from leaderboard.boards import cost_ratios
from leaderboard.boards.axes import BEST, Axis, main_axis
from leaderboard.boards.names import Cards, claimed_costs, task_title
from leaderboard.boards.profile_costs import size_of
from leaderboard.boards.record_selection import Runs, Selection, artifact_id
from leaderboard.boards.row import CostRatio, Costs, Execution, Speedup


@dataclass(frozen=True)
class Machine:
    """Where latency and memory were measured: hardware and device."""

    hardware: Hardware
    device: str

    def holds(self, profile: Profile) -> bool:
        """Check whether a profile was measured on this machine."""
        return (profile.hardware.id, profile.device) == (self.hardware.id, self.device)


def pick_machine(selection: Selection) -> tuple[Machine | None, list[str]]:
    """Choose the machine on which most recipes were timed, and write a line for each other machine.

    Latency and memory of two machines are never compared; sizes and FLOPs do not depend on the machine.
    """
    machines: dict[tuple[str, str], Machine] = {}
    recipes: dict[tuple[str, str], set[str]] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for records in selection.profiles.values():
        for record in records:
            profile = record.profile
            assert profile is not None
            key = (profile.hardware.id, profile.device)
            machines.setdefault(key, Machine(profile.hardware, profile.device))
            recipes.setdefault(key, set()).add(record.recipe)
            counts[key] += 1
    if not machines:
        return None, []
    chosen = min(recipes, key=lambda key: (-len(recipes[key]), key[1] != "cpu", key[0]))
    others = [
        f"latency and memory of {counts[key]} profiles on {key[1]}, hardware {key[0]}: another machine"
        for key in sorted(machines)
        if key != chosen
    ]
    return machines[chosen], others


@dataclass(frozen=True)
class ScoredProfiles:
    """The profiles of the artifacts of one row that were scored, and the sizes of these artifacts and their baselines.

    `profiles` is by task, newest first, the first seed's artifact first. `sizes` has the first seed that the baseline
    has too.
    """

    profiles: Mapping[str, Sequence[Record]]
    sizes: Mapping[str, tuple[ArtifactFacts | None, ArtifactFacts | None]]
    machine: Machine | None

    @classmethod
    def of(cls, runs: Runs, base: Runs, selection: Selection, machine: Machine | None) -> ScoredProfiles:
        """Collect them for the row with the scores `runs`."""
        profiles: dict[str, list[Record]] = {}
        sizes: dict[str, tuple[ArtifactFacts | None, ArtifactFacts | None]] = {}
        for task, seeds in runs.items():
            for seed in sorted(seeds):
                facts = seeds[seed].artifact
                if facts is not None:
                    profiles.setdefault(task, []).extend(selection.profiles.get(facts.hash, []))
            shared = min(seeds.keys() & base.get(task, {}).keys(), default=None)
            first = min(seeds) if shared is None else shared
            reference = None if shared is None else base[task][shared].artifact
            sizes[task] = (seeds[first].artifact, reference)
        return cls(profiles, sizes, machine)

    def find(self, task: str, workload: Workload, runtime: str | None = None) -> Profile | None:
        """Find the profile of a task's artifact. With a `runtime`, it was measured on the board's machine."""
        for record in self.profiles.get(task, []):
            profile = record.profile
            if profile is None or profile.workload != workload:
                continue
            if runtime is None:
                return profile
            if profile.runtime == runtime and self.machine is not None and self.machine.holds(profile):
                return profile
        return None

    def count(self, task: str, workloads: Sequence[Workload], runtimes: Sequence[str]) -> int:
        """Count the profiles of a task's artifacts, one for each workload and runtime."""
        pairs = [(workload, runtime) for workload in workloads for runtime in runtimes]
        return sum(self.find(task, *pair) is not None for pair in pairs)


def measured_costs(
    recipe: str,
    found: ScoredProfiles,
    base: ScoredProfiles,
    axes: Sequence[Axis],
    tasks: Sequence[str],
    runtimes: Sequence[str],
    cards: Cards,
    *,
    complete: bool,
) -> Costs:
    """Compute a row's costs on all axes, over the compared `tasks`. The baseline's ratios are 1.

    `found` are the row's profiles and `base` the baseline's own. A row that is not `complete` has no means, and no
    place on fronts.
    """
    claimed = claimed_costs(recipe, cards)
    if recipe == BASELINE:
        ratios = {axis.key: CostRatio("measured", 1.0, None, 1.0) for axis in axes}
    else:
        ratios = {}
        for axis in axes:
            if axis.runtime != BEST:
                ratios[axis.key] = _ratio(axis, found, tasks, claimed)
        for axis in axes:
            if axis.runtime == BEST:
                ratios[axis.key] = _best(axis, ratios, axes, found, base, tasks)
    by_axis = {
        axis.key: counted for axis in axes if complete and (counted := ratios[axis.key].counted) is not None
    }
    place = next((task for task in [*tasks, *found.sizes] if task in found.sizes), None)
    main = main_axis("latency", axes)
    return Costs(
        size=None if place is None else size_of(*found.sizes[place]),
        execution=_execution(recipe, found, axes, ratios, tasks, runtimes, claimed),
        speedup=None if main is None else _speedup(recipe, ratios[main.key]),
        by_axis=by_axis,
        ratios={axis.key: ratios[axis.key] for axis in axes},
        source=_source(found, tasks),
    )


def _ratio(axis: Axis, found: ScoredProfiles, tasks: Sequence[str], claimed: set[str]) -> CostRatio:
    is_claimed = axis.cost in claimed
    if axis.workload is None:
        by_task = {task: cost_ratios.size_ratio(*pair, is_claimed) for task, pair in found.sizes.items()}
    else:
        of = {
            "flops": cost_ratios.flops_ratio,
            "latency": cost_ratios.latency_ratio,
            "memory": cost_ratios.memory_ratio,
        }[str(axis.cost)]
        profiles = {task: found.find(task, axis.workload, axis.runtime) for task in found.sizes}
        by_task = {task: of(profile, is_claimed) for task, profile in profiles.items() if profile is not None}
    return cost_ratios.mean_over_tasks(by_task, tasks)


def _best(
    axis: Axis,
    ratios: Mapping[str, CostRatio],
    axes: Sequence[Axis],
    found: ScoredProfiles,
    base: ScoredProfiles,
    tasks: Sequence[str],
) -> CostRatio:
    """Compare the row under the runtime in which it takes the least time with the baseline under its own fastest one.

    The ratio under the row's runtime is paired; it is multiplied by the baseline's time there over its least time.
    """
    alike = [a for a in axes if (a.cost, a.workload) == (axis.cost, axis.workload) and a.runtime != BEST]
    known = [each for each in alike if ratios[each.key].counted is not None]
    if not known:
        states = [ratios[each.key].state for each in alike]
        return cost_ratios.NO_VERDICT if "no verdict" in states else cost_ratios.MISSING

    chosen = min(known, key=lambda each: _log_time(each, tasks, found) or 0.0)
    times = [_log_time(each, tasks, found, base) for each in alike]
    least = min(time for time in times if time is not None)
    slower = math.exp((_log_time(chosen, tasks, found, base) or 0.0) - least)
    return cost_ratios.scaled(ratios[chosen.key], slower, chosen.runtime)


def _log_time(
    axis: Axis, tasks: Sequence[str], found: ScoredProfiles, base: ScoredProfiles | None = None
) -> float | None:
    """Return the mean, over tasks, of the logarithm of a pass's time in ms: the row's, or the baseline's with `base`.

    The baseline's time beside the row's passes is preferred to that of its own profile. None if a task has neither.
    """
    assert axis.workload is not None
    logs = []
    for task in tasks:
        own = found.find(task, axis.workload, axis.runtime)
        time = None if own is None or own.latency is None else own.latency.median_ms
        if base is not None and own is not None and own.latency is not None:
            time = own.latency.baseline_median_ms
        elif base is not None:
            alone = base.find(task, axis.workload, axis.runtime)
            time = None if alone is None or alone.latency is None else alone.latency.median_ms
        if not time:
            return None
        logs.append(math.log(time))
    return math.fsum(logs) / len(logs)


def _speedup(recipe: str, ratio: CostRatio) -> Speedup | None:
    if recipe == BASELINE:
        return Speedup(1.0)
    if ratio.state == "no verdict":
        return Speedup(None, None, "none")
    if not ratio.ratio:
        return None
    interval = None if ratio.ci95 is None else (1 / ratio.ci95[1], 1 / ratio.ci95[0])
    return Speedup(1 / ratio.ratio, interval, "measured")


def _execution(
    recipe: str,
    found: ScoredProfiles,
    axes: Sequence[Axis],
    ratios: Mapping[str, CostRatio],
    tasks: Sequence[str],
    runtimes: Sequence[str],
    claimed: set[str],
) -> Execution | None:
    """Describe the first task's artifact at the main workload, and say which costs the row realises."""
    realised = realised_costs(found, axes, ratios, tasks)
    main = main_axis("latency", axes)
    if main is None or main.workload is None:
        return None
    own = ratios[main.key].runtime
    for runtime in [*([own] if own else []), *runtimes]:
        profile = next((p for task in tasks if (p := found.find(task, main.workload, runtime))), None)
        if profile is not None:
            break
    else:
        return None
    undecided = all(ratios[a.key].state in ("no verdict", "missing") for a in axes if a.cost == "latency")
    return Execution(
        flops=profile.total.flops,
        latency_ms=None if profile.latency is None else profile.latency.median_ms,
        peak_memory_bytes=cost_ratios.peak_memory(profile.device, profile.total),
        realised=realised,
        simulated=()
        if recipe == BASELINE
        else tuple(
            cost
            for cost in sorted(claimed)
            if realised.get(cost) is False and not (cost == "latency" and undecided)
        ),
        workload=profile.workload,
        hardware=profile.hardware.id,
        runtime=profile.executed_by,
        device=profile.device,
    )


def realised_costs(
    found: ScoredProfiles, axes: Sequence[Axis], ratios: Mapping[str, CostRatio], tasks: Sequence[str]
) -> dict[str, bool]:
    """Say for each cost whether the row's artifacts reduce it on all tasks, on one workload and runtime at least."""
    realised: dict[str, bool] = {}
    for axis in axes:
        if ratios[axis.key].counted is not None and axis.cost is not None:
            realised[axis.cost] = realised.get(axis.cost, False) or ratios[axis.key].realised
    stored = [
        flag
        for task in tasks
        for record in found.profiles.get(task, [])[:1]
        if record.profile is not None and (flag := record.profile.realised.get("parameters")) is not None
    ]
    return {**realised, "parameters": all(stored)} if stored else realised


def _source(found: ScoredProfiles, tasks: Sequence[str]) -> str:
    named = [
        f"{artifact_id(found.profiles[task][0])} ({task_title(task)})"
        for task in tasks
        if found.profiles.get(task)
    ]
    return f"measured: costs of the scored artifacts {', '.join(named)}" if named else ""
