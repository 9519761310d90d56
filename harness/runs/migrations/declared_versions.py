"""Record format 1 to 2: fingerprints over source files become fingerprints over declared versions.

Until format 2 a record's fingerprint hashed the source of the files that define its methods, so a renamed module made
it stale and an edited helper did not. `source_hashes.json` holds those hashes as they were when the last record of
format 1 was up to date. A record whose fingerprint is the one that these give was up to date, and is stamped anew;
any other stays as it is and counts as stale. All that a fingerprint is made of comes from the record: its cell, the
versions of its packages, its hardware. The content of a task is that of the scores on it.

    python -m harness.runs.migrations.declared_versions profiles

The formulas are written out here, so that this file goes on meaning what it meant.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.common.files import write_atomically
from harness.common.hashing import digest
from harness.models.architectures import architecture
from harness.recipes.recipe import Recipe
from harness.records.schema import Record, parse_record
from harness.runtimes import get_runtime

TRAINING, EVALUATION, PROFILING = 2, 1, 1
"""The result versions at the time."""
SOURCES = Path(__file__).with_name("source_hashes.json")

Json = dict[str, Any]


def old_methods(ids: list[str]) -> dict[str, str]:
    """The source hash of each file behind some methods, by module, as format 1 had them."""
    known = json.loads(SOURCES.read_text(encoding="utf-8"))
    modules = {module for each in ids for module in known["methods"][each]}
    return {module: known["modules"][module] for module in sorted(modules)}


def new_methods(ids: list[str]) -> dict[str, int]:
    """The version of each method, as format 2 has them: all began with 1."""
    return dict.fromkeys(ids, 1)


def artifact_stamp(recipe: Recipe, record: Json, data: str, methods: Any) -> str:
    """The fingerprint of a record's artifact; `methods` gives what tells one version of a method from another."""
    cell, versions = record["cell"], record["provenance"]["versions"]
    budget = cell.get("budget") or {"baseline": {}, "recipe": {}}
    if recipe.is_baseline:
        trained_on = cell.get("trained_on", "cpu")
        return digest(
            {
                **({} if trained_on == "cpu" else {"device": trained_on.partition(":")[0]}),
                "origin": origin(record),
                "data": data,
                "seed": cell["seed"],
                "budget": budget["baseline"],
                "training": TRAINING,
                "torch": versions["torch"].partition("+")[0],
                "tokenizers": versions["tokenizers"],
            }
        )
    assert recipe.parent is not None
    parent = artifact_stamp(recipe.parent, record, data, methods)
    if recipe.start is not None and not recipe.stages:
        return digest({"parent": parent, "architecture": architecture(recipe.start).model_dump(mode="json")})
    stage = recipe.stages[-1]
    return digest(
        {
            "parent": parent,
            "stage": [(call.id, asdict(call.options)) for call in stage.calls],
            "methods": methods([call.id for call in stage.calls]),
            "budget": budget["recipe"] if stage.trains else None,
        }
    )


def origin(record: Json) -> str:
    """What identified the base model: MiniLM's weights, or the name of a model of random weights."""
    weights = record["provenance"]["weights"]
    return weights if weights.startswith("sha256:") else f"random:{record['model']}"


def stamp(record: Json, contents: Mapping[str, str], methods: Any) -> str:
    """The fingerprint of a record."""
    cell = record["cell"]
    data = contents[cell["task"]] if cell.get("task") else "none"
    parts: Json = {"artifact": artifact_stamp(Recipe.parse(cell["recipe"]), record, data, methods)}
    if record["kind"] == "quality":
        return digest({**parts, "evaluation": EVALUATION})
    if (rows := cell["workload"].get("task")) is not None:
        parts["rows"] = contents[rows]
    packages = {name: metadata.version(name) for name in get_runtime(cell["runtime"]).packages}
    return digest(
        {
            **parts,
            "profiling": PROFILING,
            "torch": record["provenance"]["versions"]["torch"],
            "hardware": record["provenance"]["hardware"]["id"],
            **packages,
        }
    )


def migrated(record: Json, contents: Mapping[str, str]) -> Record | None:
    """A record in format 2; None where it was stale."""
    if record["provenance"]["fingerprint"] != stamp(record, contents, old_methods):
        return None
    calls = Recipe.parse(record["cell"]["recipe"]).calls
    measured = {"evaluation": EVALUATION} if record["kind"] == "quality" else {"profiling": PROFILING}
    provenance = {
        **record["provenance"],
        "fingerprint": stamp(record, contents, new_methods),
        "declared": {"training": TRAINING, **new_methods([call.id for call in calls]), **measured},
    }
    return parse_record(json.dumps({**record, "format": 2, "provenance": provenance}), "a record")


def main(profiles: Path) -> None:
    """Stamp the records of format 1 under `profiles` anew, and say how many were, and which were stale."""
    paths = sorted((profiles / "measured").glob("*/*.json"))
    records = {path: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    contents = {
        each["task"]: each["provenance"]["data"] for each in records.values() if each["kind"] == "quality"
    }
    old = {path: record for path, record in records.items() if record["format"] == 1}
    done = 0
    for path, record in old.items():
        new = migrated(record, contents)
        if new is None:
            print(f"stale, left as it is: {path}")
        else:
            write_atomically(path, new.to_json())
            done += 1
    print(f"{done} of {len(old)} records of format 1 stamped anew")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
