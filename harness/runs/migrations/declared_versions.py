"""Record format 1 to 2: fingerprints over source files become fingerprints over declared versions.

In format 1 a record's fingerprint hashed the source files of its methods. A renamed module made the record stale, and
an edited helper did not. `source_hashes.json` holds the hashes from the time when the last records of format 1 were up
to date. A record whose fingerprint agrees with these hashes was up to date and gets a new fingerprint. Any other record
is left unchanged and counts as stale. The fingerprint is computed from the record alone (cell, package versions,
hardware). The fingerprint of a task's data comes from the quality records on that task.

    python -m harness.runs.migrations.declared_versions profiles

The formulas are copied here, so that later changes of the harness do not change this migration.
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
"""The harness's result versions when the migration was written."""
SOURCES = Path(__file__).with_name("source_hashes.json")

Json = dict[str, Any]


def old_methods(ids: list[str]) -> dict[str, str]:
    """Return format 1's identity of methods: the source hash of each module that they use."""
    known = json.loads(SOURCES.read_text(encoding="utf-8"))
    modules = {module for each in ids for module in known["methods"][each]}
    return {module: known["modules"][module] for module in sorted(modules)}


def new_methods(ids: list[str]) -> dict[str, int]:
    """Return format 2's identity of methods: the version of each. All methods began with version 1."""
    return dict.fromkeys(ids, 1)


def artifact_stamp(recipe: Recipe, record: Json, data: str, methods: Any) -> str:
    """Return the fingerprint of a record's artifact. `methods` is `old_methods` or `new_methods`."""
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
    """Return the identity of the base model: the hash of MiniLM's weights, or the name of a model of random weights."""
    weights = record["provenance"]["weights"]
    return weights if weights.startswith("sha256:") else f"random:{record['model']}"


def stamp(record: Json, contents: Mapping[str, str], methods: Any) -> str:
    """Return the fingerprint of a record. `contents` maps tasks to the fingerprints of their data."""
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
    """Return a record in format 2, or None if it was stale."""
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
    """Migrate the records of format 1 under `profiles`. Print the stale ones, and how many were migrated."""
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
            print(f"stale, left unchanged: {path}")
        else:
            write_atomically(path, new.to_json())
            done += 1
    print(f"{done} of {len(old)} records of format 1 migrated")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
