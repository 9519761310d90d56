"""A second computation of a measured board, from the JSON files of its records alone.

It uses pandas and NumPy and nothing of the project, and it is written plainly rather than fast: a mistake in the
project's own code shows as a difference.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

Z95 = 1.959963984540054
MEMORY_FLOOR = 0.02


def recomputed_board(profiles: Path, name: str) -> dict[str, Any]:
    """Compute drops, intervals, cost ratios, ranks and fronts of the board `name` of a folder of records."""
    declared = tomllib.loads((profiles / "boards" / f"{name}.toml").read_text(encoding="utf-8"))
    records = [json.loads(path.read_text(encoding="utf-8")) for path in profiles.glob("measured/*/*.json")]
    scores = _scores(records, declared)
    if scores.empty:
        return {}
    found = _drops(scores, declared)
    ranked = [recipe for recipe in found if found[recipe]["drop"] is not None]
    _costs(found, ranked, scores, _profiles(records, scores, declared), declared)
    _ranks(found, ranked)
    _fronts(found, ranked)
    return found


def _scores(records: list[dict[str, Any]], declared: dict[str, Any]) -> pd.DataFrame:
    lines = []
    for record in records:
        quality, cell = record["quality"], record["cell"]
        if record["kind"] != "quality" or record["status"] != "ok" or record["model"] != declared["model"]:
            continue
        admitted = record["recipe"] == "baseline" or any(
            fnmatchcase(record["recipe"], pattern) for pattern in declared.get("recipes", ["*"])
        )
        if (
            not admitted
            or cell.get("protocol") != declared.get("protocol")
            or cell.get("split", "dev") != "dev"
            or record["task"] not in declared["tasks"]
            or record["seed"] not in declared.get("seeds", [0])
        ):
            continue
        precisions = {stage["precision"] for stage in quality["training"]}
        budget = cell.get("budget")
        of_baseline = json.dumps([budget and budget.get("baseline"), sorted(precisions)], sort_keys=True)
        whole = json.dumps([budget, sorted(precisions)], sort_keys=True)
        lines.append(
            {
                "recipe": record["recipe"],
                "task": record["task"],
                "seed": record["seed"],
                "key": record["key"],
                "score": quality["scores"][quality["metric"]],
                "replicates": np.array(quality["replicates"]),
                "hash": record["artifact"]["hash"],
                "bytes": record["artifact"]["disk_bytes"],
                "constant": _one_answer(quality["predictions"]),
                "started": record["provenance"]["started"],
                "terms": of_baseline if record["recipe"] == "baseline" else whole,
                "baseline_terms": of_baseline,
            }
        )
    table = pd.DataFrame(lines)
    if table.empty:
        return table
    table = table.sort_values("started", kind="stable").drop_duplicates("key", keep="last")
    kept = []
    for _, group in table.groupby(["recipe", "task"], sort=False):
        newest = group.loc[group["started"].idxmax(), "terms"]
        kept.append(group[group["terms"] == newest])
    return pd.concat(kept).drop_duplicates(["recipe", "task", "seed"], keep="last")


def _one_answer(predictions: dict[str, Any] | None) -> bool:
    """99 % of the answers are one class; for a regression, 99 % of the scores are one number."""
    if predictions is None:
        return False
    if predictions["answered"]:
        return bool(max(predictions["answered"]) >= 0.99 * predictions["rows"])
    scores = np.frombuffer(base64.b64decode(predictions["scores"]), "<f2")
    return bool(np.unique(scores, return_counts=True)[1].max() >= 0.99 * len(scores))


def _normal(*names: str, count: int) -> np.ndarray:
    digest = hashlib.sha256("\n".join(names).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big")).standard_normal(count)


def _drops(scores: pd.DataFrame, declared: dict[str, Any]) -> dict[str, dict[str, Any]]:
    base = scores[scores["recipe"] == "baseline"]
    pairs = scores.merge(base, on=["task", "seed"], suffixes=("", "_base"))
    pairs = pairs[pairs["baseline_terms"] == pairs["baseline_terms_base"]].copy()
    pairs["difference"] = pairs["score"] - pairs["score_base"]
    variances = {}
    constant = pairs.groupby(["recipe", "task"])["constant"].transform("any")
    for task, of_task in pairs[(pairs["recipe"] != "baseline") & ~constant].groupby("task"):
        by_recipe = of_task.groupby("recipe")["difference"]
        several = by_recipe.transform("size") > 1
        squares = ((of_task["difference"] - by_recipe.transform("mean")) ** 2)[several].sum()
        freedom = int((by_recipe.size() - 1).sum())
        if freedom:
            variances[task] = squares / freedom
    found: dict[str, dict[str, Any]] = {}
    first = declared.get("seeds", [0])[0]
    for recipe in scores["recipe"].unique():
        own = pairs[pairs["recipe"] == recipe]
        by_task = own.groupby("task")
        row: dict[str, Any] = {"drops": by_task["difference"].mean().to_dict(), "drop": None}
        found[recipe] = row
        if not all(first in set(own[own["task"] == task]["seed"]) for task in declared["tasks"]):
            continue
        distributions = []
        for task in declared["tasks"]:
            seeds = own[own["task"] == task]
            replicates = np.mean(
                [a - b for a, b in zip(seeds["replicates"], seeds["replicates_base"], strict=True)], axis=0
            )
            if recipe != "baseline" and task in variances:
                deviation = np.sqrt(variances[task] / len(seeds))
                replicates = replicates + deviation * _normal(recipe, task, count=len(replicates))
            distributions.append(replicates)
        row["replicates"] = np.mean(distributions, axis=0)
        row["drop"] = float(np.mean([row["drops"][task] for task in declared["tasks"]]))
        row["drop_ci95"] = np.percentile(row["replicates"], [2.5, 97.5]).tolist()
        row["artifacts"] = {task: own[own["task"] == task].sort_values("seed") for task in declared["tasks"]}
    return found


def _profiles(records: list[dict[str, Any]], scores: pd.DataFrame, declared: dict[str, Any]) -> pd.DataFrame:
    lines = []
    workloads = [{"inputs": "synthetic", **each} for each in declared["workloads"]]
    for record in records:
        profile = record["profile"]
        if record["kind"] != "profile" or profile is None or record["model"] != declared["model"]:
            continue
        if (
            record["artifact"]["hash"] not in set(scores["hash"])
            or profile["workload"] not in workloads
            or profile["precision"] != "float32"
            or profile["runtime"] not in declared["runtimes"]
        ):
            continue
        workload = profile["workload"]
        lines.append(
            {
                "hash": record["artifact"]["hash"],
                "recipe": record["recipe"],
                "workload": "real" if workload["inputs"] == "real" else str(workload["length"]),
                "runtime": profile["runtime"],
                "machine": profile["hardware"]["id"],
                "started": record["provenance"]["started"],
                "profile": profile,
            }
        )
    columns = ["hash", "recipe", "workload", "runtime", "machine", "started", "profile"]
    return pd.DataFrame(lines, columns=columns).sort_values("started", ascending=False, kind="stable")


def _costs(
    found: dict[str, dict[str, Any]],
    ranked: list[str],
    scores: pd.DataFrame,
    profiles: pd.DataFrame,
    declared: dict[str, Any],
) -> None:
    """Add each ranked row's costs by axis: ratio, what it counts as, deviation in logarithms, whether it is reduced."""
    del scores
    machine = None
    if len(profiles):
        recipes = profiles.groupby("machine")["recipe"].nunique()
        machine = sorted(recipes[recipes == recipes.max()].index)[0]
    names = [
        "real" if each.get("inputs") == "real" else str(each["length"]) for each in declared["workloads"]
    ]
    for recipe in ranked:
        costs: dict[str, tuple[float, float, float, bool]] = {}
        times: dict[str, float] = {}
        base: dict[str, float] = {}
        tasks = found[recipe]["artifacts"]
        if recipe != "baseline":
            _add(costs, "size", [_size(seeds) for seeds in tasks.values()])
        for name, runtime in itertools.product(names, declared["runtimes"]):
            if recipe == "baseline":
                continue
            anywhere = [_find(profiles, seeds, name) for seeds in tasks.values()]
            _add(costs, f"flops-{name}", [_flops(each) for each in anywhere])
            here = [_find(profiles, seeds, name, runtime, machine) for seeds in tasks.values()]
            _add(costs, f"latency-{name}-{runtime}", [_latency(each) for each in here])
            _add(costs, f"memory-{name}-{runtime}", [_memory(each) for each in here])
            if f"latency-{name}-{runtime}" in costs:
                times[f"{name}-{runtime}"] = sum(np.log(each["latency"]["median_ms"]) for each in here)
            alone = [
                _find(profiles, seeds, name, runtime, machine)
                for seeds in found["baseline"]["artifacts"].values()
            ]
            lasted = [
                own["latency"]["baseline_median_ms"]
                if own is not None
                else each and each["latency"]["median_ms"]
                for own, each in zip(here, alone, strict=True)
            ]
            if all(lasted):
                base[f"{name}-{runtime}"] = np.mean(np.log(lasted))
        if len(declared["runtimes"]) > 1:
            for name in names:
                known = {key: value for key, value in times.items() if key.startswith(f"{name}-")}
                if known:
                    best = min(known, key=lambda key: known[key])
                    least = min(value for key, value in base.items() if key.startswith(f"{name}-"))
                    slower = float(np.exp(base[best] - least))
                    ratio, counted, *rest = costs[f"latency-{best}"]
                    costs[f"latency-{name}-best"] = (ratio * slower, counted * slower, *rest)
                    found[recipe][f"best-{name}"] = f"latency-{best}"
        found[recipe]["costs"] = costs
    axes = {key for recipe in ranked for key in found[recipe]["costs"]}
    if "baseline" in ranked:
        found["baseline"]["costs"] = dict.fromkeys(axes, (1.0, 1.0, 0.0, True))


def _add(costs: dict[str, tuple[float, float, float, bool]], key: str, by_task: list[Any]) -> None:
    """Add the geometric mean over tasks, unless a task has no figure."""
    if all(each is not None for each in by_task):
        ratios, counted, deviations, realised = (np.array(each) for each in zip(*by_task, strict=True))
        costs[key] = (
            float(np.exp(np.log(ratios).mean())),
            float(np.exp(np.log(counted).mean())),
            float(np.sqrt((deviations**2).sum()) / len(by_task)),
            bool(realised.any()),
        )


def _find(
    profiles: pd.DataFrame, seeds: pd.DataFrame, name: str, runtime: str = "", machine: str | None = None
) -> dict[str, Any] | None:
    """Find the newest profile of the first seed's artifact that has one."""
    for artifact in seeds["hash"]:
        own = profiles[(profiles["hash"] == artifact) & (profiles["workload"] == name)]
        if runtime:
            own = own[(own["runtime"] == runtime) & (own["machine"] == machine)]
        if len(own):
            return own.iloc[0]["profile"]  # type: ignore[no-any-return]
    return None


def _size(seeds: pd.DataFrame) -> tuple[float, float, float, bool]:
    ratio = seeds.iloc[0]["bytes"] / seeds.iloc[0]["bytes_base"]
    return ratio, ratio if ratio < 1 else max(ratio, 1.0), 0.0, ratio < 1


def _flops(profile: dict[str, Any] | None) -> tuple[float, float, float, bool] | None:
    if profile is None or not profile["baseline"]:
        return None
    ratio = profile["total"]["flops"] / profile["baseline"]["flops"]
    realised = profile["realised"]["flops"]
    return ratio, ratio if realised else max(ratio, 1.0), 0.0, realised


def _latency(profile: dict[str, Any] | None) -> tuple[float, float, float, bool] | None:
    if profile is None or not profile["latency"] or profile["latency"]["verdict"] == "none":
        return None
    latency = profile["latency"]
    ratio, (low, high) = 1 / latency["speedup"], latency["speedup_ci95"]
    floor = latency["aa_floor"]
    if floor is not None and low >= 1 - floor and high <= 1 + floor:
        return ratio, 1.0, 0.0, False
    deviation = (np.log(high) - np.log(low)) / (2 * Z95)
    realised = profile["realised"]["latency"]
    return ratio, ratio if realised else max(ratio, 1.0), deviation, realised


def _memory(profile: dict[str, Any] | None) -> tuple[float, float, float, bool] | None:
    if profile is None or not profile["baseline"] or not profile["total"]["peak_memory_bytes"]:
        return None
    ratio = profile["total"]["peak_memory_bytes"] / profile["baseline"]["peak_memory_bytes"]
    floor = profile.get("memory_floor")
    floor = MEMORY_FLOOR if floor is None else floor
    if abs(ratio - 1) <= floor:
        return ratio, 1.0, 0.0, False
    realised = profile["realised"]["memory"]
    return ratio, ratio if realised else max(ratio, 1.0), np.log(1 + floor) / Z95, realised


def _ranks(found: dict[str, dict[str, Any]], ranked: list[str]) -> None:
    """Compare all pairs of rows at once: a bootstrap of the largest studentised deviation."""
    replicates = np.stack([found[recipe]["replicates"] for recipe in ranked], axis=1)
    means = np.array([found[recipe]["drop"] for recipe in ranked])
    centred = replicates - replicates.mean(axis=0)
    errors = np.zeros((len(ranked), len(ranked)))
    largest = np.zeros(len(replicates))
    for first, second in itertools.combinations(range(len(ranked)), 2):
        deviation = centred[:, first] - centred[:, second]
        errors[first, second] = errors[second, first] = np.std(deviation, ddof=1)
        if errors[first, second] > 1e-12:
            largest = np.maximum(largest, abs(deviation) / errors[first, second])
    critical = np.percentile(largest, 95)
    gaps = means[:, None] - means[None, :]
    above = (gaps > critical * errors) & (gaps > 1e-12)
    for place, recipe in enumerate(ranked):
        found[recipe]["rank"] = [1 + int(above[:, place].sum()), len(ranked) - int(above[place].sum())]


def _fronts(found: dict[str, dict[str, Any]], ranked: list[str]) -> None:
    """Flag the rows that no other row dominates, on each axis, and count the resamples in which they are on it."""
    axes = sorted({key for recipe in ranked for key in found[recipe]["costs"]})
    for recipe in ranked:
        found[recipe] |= {"fronts": {}, "front_probabilities": {}}
    for axis in axes:
        rows = [recipe for recipe in ranked if axis in found[recipe]["costs"]]
        drops = np.array([found[recipe]["drop"] for recipe in rows])[None, :]
        counted = np.array([found[recipe]["costs"][axis][1] for recipe in rows])[None, :]
        replicates = np.stack([found[recipe]["replicates"] for recipe in rows], axis=1)
        drawn = np.stack([_drawn(found[recipe], recipe, axis, len(replicates)) for recipe in rows], axis=1)
        on, shares = _undominated(drops, counted)[0], _undominated(replicates, drawn).mean(axis=0)
        for place, recipe in enumerate(rows):
            found[recipe]["fronts"][axis] = bool(on[place])
            found[recipe]["front_probabilities"][axis] = float(shares[place])


def _drawn(row: dict[str, Any], recipe: str, axis: str, count: int) -> np.ndarray:
    _, counted, deviation, realised = row["costs"][axis]
    names = axis.split("-")
    key = row.get(f"best-{names[1]}", axis) if names[-1] == "best" else axis
    if not deviation:
        return np.full(count, counted)
    drawn = counted * np.exp(deviation * _normal(recipe, key, count=count))
    return drawn if realised else np.maximum(drawn, 1.0)


def _undominated(quality: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Flag in each replicate the points that no other dominates; all shapes are (replicates, points)."""
    beaten = np.zeros(quality.shape, dtype=bool)
    for other in range(quality.shape[1]):
        q, c = quality[:, [other]], cost[:, [other]]
        beaten |= (q >= quality) & (c <= cost) & ((q > quality) | (c < cost))
    return ~beaten
