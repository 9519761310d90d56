"""Data tests that contributed records must pass before a board shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from harness.records.schema import Quality, Record

CORRELATIONS = frozenset({"matthews_correlation", "pearson", "spearman"})


def check_records(records: Iterable[Record]) -> list[str]:
    """Return one line for each problem in these records. A line begins with the record's key.

    The problems are: several records of one cell, missing provenance, scores outside their range, fractions in place
    of points (100 times too small), intervals and replicates that do not fit the score, figures that contradict the
    status, and profiles of another artifact than the scored one.
    """
    held = list(records)
    counts = Counter(record.key for record in held)
    found = [f"{key}: {count} records of one cell; keep one" for key, count in counts.items() if count > 1]
    for record in held:
        problems = [*_status(record), *_provenance(record), *_sizes(record)]
        if record.quality is not None:
            problems += _quality(record.quality)
        found += [f"{record.key}: {problem}" for problem in problems]
    return found + _artifacts(held)


def _status(record: Record) -> list[str]:
    payload = record.quality if record.kind == "quality" else record.profile
    if record.status == "ok":
        found = [] if payload is not None else [f"status ok without a {record.kind}"]
        if record.kind == "quality" and (record.task is None or record.seed is None):
            found.append("quality without task or seed")
        return found
    found = [] if record.reason.strip() else [f"status {record.status} without a reason"]
    return found + ([f"status {record.status} with figures"] if payload is not None else [])


def _provenance(record: Record) -> list[str]:
    provenance = record.provenance
    values: Mapping[str, object] = {
        "fingerprint": provenance.fingerprint,
        "skyline": provenance.skyline,
        "versions": provenance.versions,
        "hardware.id": provenance.hardware.id,
        "started": provenance.started,
    }
    if record.status == "ok":
        values = {**values, "weights": provenance.weights}
        if record.kind == "quality":
            values = {**values, "data": provenance.data}
    return [f"provenance lacks '{name}'" for name, value in values.items() if not value]


def _quality(quality: Quality) -> list[str]:
    if quality.metric not in quality.scores:
        return [f"the primary metric '{quality.metric}' has no score"]
    found = []
    for metric, score in quality.scores.items():
        low = -100.0 if metric in CORRELATIONS else 0.0
        if not low <= score <= 100.0:
            found.append(f"{metric} {score:g} lies outside {low:g} to 100 points")
        elif metric not in CORRELATIONS and 0.0 < score <= 1.0:
            found.append(f"{metric} {score:g} looks like a fraction; scores are in points, 0 to 100")
        interval = quality.ci95.get(metric)
        if interval is not None and not interval[0] <= score <= interval[1]:
            found.append(f"{metric} {score:g} lies outside its interval [{interval[0]:g}, {interval[1]:g}]")
    return found + _replicates(quality)


def _replicates(quality: Quality) -> list[str]:
    """Compare the mean of the replicates with the score. They differ only by a part of the replicates' spread."""
    if not quality.replicates:
        return ["no replicates: the score cannot be paired with the baseline's"]
    values = np.asarray(quality.replicates)
    score, mean = quality.scores[quality.metric], float(values.mean())
    allowed = max(0.5, float(values.std()))
    if abs(mean - score) > allowed:
        return [f"the replicates' mean {mean:.2f} is far from the score {score:.2f}"]
    return []


def _sizes(record: Record) -> list[str]:
    facts, profile = record.artifact, record.profile
    if record.status == "ok" and facts is None:
        return ["no artifact: a record with status ok must name what it measured"]
    found = []
    if facts is not None:
        if facts.disk_bytes < facts.weight_bytes:
            found.append(
                f"{facts.disk_bytes} bytes on disk are less than its {facts.weight_bytes} bytes of weights"
            )
        if facts.nonzero_params > facts.params:
            found.append("it has more non-zero parameters than parameters")
        if profile is not None and profile.total.disk_bytes != facts.disk_bytes:
            found.append(
                f"its profile says {profile.total.disk_bytes} bytes on disk, its artifact {facts.disk_bytes}"
            )
    return found


def _artifacts(records: Sequence[Record]) -> list[str]:
    """Find profiles of another artifact than the one that was scored for the same cell."""
    scored = {
        (record.recipe, record.model, record.task, record.seed): record
        for record in records
        if record.quality is not None and record.artifact is not None
    }
    found = []
    for record in records:
        if record.profile is None or record.artifact is None or record.task is None:
            continue
        other = scored.get((record.recipe, record.model, record.task, record.seed))
        if other is None or other.artifact is None or other.artifact.hash == record.artifact.hash:
            continue
        found.append(
            f"{record.key}: profiled artifact {record.artifact.hash[:12]}, but {other.key} scored "
            f"{other.artifact.hash[:12]} for the same cell"
        )
    return found
