"""The costs of each component of a base model: the survey's breakdown (Ganesh et al. 2021, Figure 3), measured.

Size is the bytes of the component's tensors in the artifact, FLOPs are the matrix products of one pass. Run-time memory
is the component's weights plus the outputs of its modules in one pass, summed over layers. Layers reuse memory, so the
process's peak is lower than the sum; fused attention never writes its scores, so they are not included. Latency is the
component's share of an uninstrumented pass times the median of that pass; the rest of the pass has a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from harness.common.errors import Code, SkylineError
from harness.recipes.recipe import BASELINE
from harness.records.schema import Component, Profile, Record, Workload
from leaderboard.boards.record_selection import newest
from leaderboard.tables.model import Column, Table, Value

COMPONENT_TITLES: Mapping[str, str] = MappingProxyType(
    {
        "embedding": "Embedding layer",
        "attention_in": "Linear layers before attention",
        "attention": "Multi-head attention",
        "attention_out": "Linear layer after attention",
        "ffn": "Feed-forward sub-units",
        "head": "Pooler and classifier",
    }
)
"""Titles of the components, as in the survey's figure. The figure has no head."""
RESIDUAL = "residual"
RESIDUAL_TITLE = "Between the components"
DEVICES = ("cpu", "cuda")
WORKLOAD = Workload(batch=1, length=256)
"""The survey's workload: one sentence of 256 tokens."""


@dataclass(frozen=True)
class PublishedLatency:
    """The latency of a whole pass of BERT-base at `WORKLOAD` in the survey's Figure 3."""

    processor: str
    ms: float


PUBLISHED: Mapping[str, PublishedLatency] = MappingProxyType(
    {
        "cpu": PublishedLatency("Xeon E5-1620 CPU", 750.9),
        "cuda": PublishedLatency("Titan X GPU", 57.1),
    }
)
SOURCE = "Ganesh et al. 2021, Figure 3"

COLUMNS = (
    Column("component", "Component"),
    Column("size_mb", "Size", "MB"),
    Column("size_pct", "Size", "%"),
    Column("gflops", "FLOPs", "G", digits=2),
    Column("flops_pct", "FLOPs", "%"),
    Column("memory_mb", "Run-time memory", "MB"),
    Column("memory_pct", "Memory", "%"),
    Column("cpu_ms", "CPU", "ms", digits=2),
    Column("cpu_pct", "CPU", "%", digits=2),
    Column("cuda_ms", "CUDA", "ms", digits=2),
    Column("cuda_pct", "CUDA", "%", digits=2),
)


@dataclass(frozen=True)
class Amounts:
    """One cost of the whole model and of each component (latency: also of the residual), in `unit`."""

    title: str
    unit: str
    digits: int
    parts: dict[str, float]
    whole: float

    def share(self, name: str) -> float | None:
        """Compute a component's percent of the whole; None if the component has no figure."""
        return 100 * self.parts[name] / self.whole if name in self.parts and self.whole else None


@dataclass(frozen=True)
class Breakdown:
    """A base model's costs by component: size, FLOPs, run-time memory, and latency by device."""

    model: str
    workload: Workload
    names: tuple[str, ...]
    size: Amounts
    flops: Amounts
    memory: Amounts
    latency: dict[str, Amounts]
    profiles: dict[str, Profile]

    @property
    def costs(self) -> list[Amounts]:
        """All costs, in the figure's order."""
        return [self.size, self.flops, self.memory, *self.latency.values()]


def breakdown_of(
    records: Iterable[Record], model: str = "bert-base", workload: Workload = WORKLOAD
) -> Breakdown:
    """Break down a base model's costs at a workload, from the latest eager profile of its baseline on each device.

    Only eager can measure components. Raises SkylineError (no-data) if there is no such profile.
    """
    found, _ = newest(records)
    profiles: dict[str, Profile] = {}
    for record in sorted(found, key=lambda record: record.provenance.started):
        profile = record.profile
        if profile is None or record.recipe != BASELINE or record.task is not None or record.model != model:
            continue
        timed = bool(profile.components) and all(part.latency_ms is not None for part in profile.components)
        if profile.executed_by == "eager" and profile.workload == workload and timed:
            profiles[profile.device.partition(":")[0]] = profile
    if not profiles:
        raise SkylineError(
            f"the baseline of {model} was not profiled at {workload} under eager yet; for bert-base, run "
            "`skyline run runtimes`",
            Code.NO_DATA,
        )
    profiles = {device: profiles[device] for device in DEVICES if device in profiles}
    first = next(iter(profiles.values()))
    parts, total = first.components, first.total
    return Breakdown(
        model=model,
        workload=workload,
        names=tuple(part.name for part in parts),
        size=Amounts(
            "Size", "MB", 1, {part.name: part.weight_bytes / 1e6 for part in parts}, total.weight_bytes / 1e6
        ),
        flops=Amounts(
            "FLOPs", "GFLOPs", 2, {part.name: part.flops / 1e9 for part in parts}, total.flops / 1e9
        ),
        memory=Amounts(
            "Run-time memory",
            "MB",
            1,
            {part.name: touched_bytes(part) / 1e6 for part in parts},
            (total.weight_bytes + total.activation_bytes) / 1e6,
        ),
        latency={device: _latency(profile, device) for device, profile in profiles.items()},
        profiles=profiles,
    )


def touched_bytes(part: Component) -> int:
    """Compute the run-time memory of a component in bytes: its weights and its modules' outputs in one pass."""
    return part.weight_bytes + part.activation_bytes


def _latency(profile: Profile, device: str) -> Amounts:
    parts = {part.name: float(part.latency_ms or 0.0) for part in profile.components}
    whole = float(profile.total.latency_ms or 0.0)
    return Amounts(
        f"Latency on {device.upper()}", "ms", 1, {**parts, RESIDUAL: whole - sum(parts.values())}, whole
    )


def breakdown_table(made: Breakdown) -> Table:
    """Make the table: a row for each component, for the whole model, and for the survey's whole model."""
    rows = [_row(made, name, part_title(name)) for name in made.names]
    rows.append(_row(made, RESIDUAL, RESIDUAL_TITLE))
    whole: list[Value] = ["Whole model"]
    for amounts in (made.size, made.flops, made.memory, *(made.latency.get(device) for device in DEVICES)):
        whole += [None, None] if amounts is None else [amounts.whole, 100.0]
    rows.append(whole)
    if made.workload == WORKLOAD and made.model == "bert-base":
        theirs: list[Value] = [f"Whole model ({SOURCE})", *[None] * 6]
        for device in DEVICES:
            theirs += [PUBLISHED[device].ms, None]
        rows.append(theirs)
    return Table.of(
        name="breakdown",
        title=f"Where {made.model} spends its costs, at (batch, length) = {made.workload}",
        columns=COLUMNS,
        rows=rows,
        notes=_notes(made),
    )


def part_title(name: str) -> str:
    """Return the title of a component, or of the residual."""
    return RESIDUAL_TITLE if name == RESIDUAL else COMPONENT_TITLES.get(name, name)


def _row(made: Breakdown, name: str, title: str) -> list[Value]:
    row: list[Value] = [title]
    for amounts in (made.size, made.flops, made.memory, *(made.latency.get(device) for device in DEVICES)):
        known = amounts is not None and name in amounts.parts
        row += [amounts.parts[name], amounts.share(name)] if amounts is not None and known else [None, None]
    return row


def _notes(made: Breakdown) -> list[str]:
    notes = [
        "run-time memory: the weights and all outputs of the component's modules in one pass; layers reuse memory, so "
        "the peak of a process is lower",
        "latency: the component's share of an uninstrumented pass times the median of that pass; "
        f"{RESIDUAL_TITLE.lower()}: the rest of the pass",
    ]
    for device, profile in made.profiles.items():
        place = profile.hardware.accelerator or profile.hardware.processor
        threads = f", {profile.latency.threads} threads" if profile.latency and device == "cpu" else ""
        notes.append(f"{device.upper()}: {place}{threads}, torch {profile.versions.get('torch', 'unknown')}")
    notes += [f"{device.upper()}: not measured here" for device in DEVICES if device not in made.profiles]
    if made.workload == WORKLOAD and made.model == "bert-base":
        said = ", ".join(f"{each.ms:g} ms on a {each.processor}" for each in PUBLISHED.values())
        notes.append(f"{SOURCE}: {said}")
    return notes
