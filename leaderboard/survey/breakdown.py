"""What each component of a base model costs: the survey's breakdown (Ganesh et al. 2021, Figure 3), measured here.

Size is what the component's tensors take in the artifact, FLOPs the matrix work of one pass. Run-time memory is all
that one pass touches: the component's weights, and the tensors that its modules put out, every layer's counted. Layers
use the same memory one after the other, so that the process's peak is lower than the sum; scores of fused attention
are never written and not in it. Latency is the component's share of a plain pass times that pass's median; what the
shares leave of the whole stands in a row of its own.
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
"""What the survey's figure calls the components; it has no head."""
RESIDUAL = "residual"
RESIDUAL_TITLE = "Between the components"
DEVICES = ("cpu", "cuda")
WORKLOAD = Workload(batch=1, length=256)
"""The survey's: one sentence of 256 tokens."""


@dataclass(frozen=True)
class PublishedLatency:
    """A whole pass of BERT-base at `WORKLOAD`, as the survey's Figure 3 gives it."""

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
    """One cost of the whole and of each component (and, of a latency, of the residual), in one unit."""

    title: str
    unit: str
    digits: int
    parts: dict[str, float]
    whole: float

    def share(self, name: str) -> float | None:
        """Percent of the whole; None for a component that has no such figure."""
        return 100 * self.parts[name] / self.whole if name in self.parts and self.whole else None


@dataclass(frozen=True)
class Breakdown:
    """A base model's costs by component: size, FLOPs, run-time memory, and the latency on each device that was
    measured.
    """

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
        """All of them, in the figure's order."""
        return [self.size, self.flops, self.memory, *self.latency.values()]


def breakdown_of(
    records: Iterable[Record], model: str = "bert-base", workload: Workload = WORKLOAD
) -> Breakdown:
    """The breakdown of a base model at a workload, from the latest profile of its baseline on each device under eager,
    the only runtime whose components can be told apart. Raises SkylineError where there is none.
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
            f"the baseline of {model} was not profiled at {workload} under eager yet; `skyline run first-result` does "
            "so for bert-base",
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
    """Run-time memory of a component: its weights, and the tensors that its modules put out in one pass."""
    return part.weight_bytes + part.activation_bytes


def _latency(profile: Profile, device: str) -> Amounts:
    parts = {part.name: float(part.latency_ms or 0.0) for part in profile.components}
    whole = float(profile.total.latency_ms or 0.0)
    return Amounts(
        f"Latency on {device.upper()}", "ms", 1, {**parts, RESIDUAL: whole - sum(parts.values())}, whole
    )


def breakdown_table(made: Breakdown) -> Table:
    """One row a component, with absolute figures and percent of the whole; then the whole, and what the survey
    published of it.
    """
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
    """What the table and the chart call a component, or the residual."""
    return RESIDUAL_TITLE if name == RESIDUAL else COMPONENT_TITLES.get(name, name)


def _row(made: Breakdown, name: str, title: str) -> list[Value]:
    row: list[Value] = [title]
    for amounts in (made.size, made.flops, made.memory, *(made.latency.get(device) for device in DEVICES)):
        known = amounts is not None and name in amounts.parts
        row += [amounts.parts[name], amounts.share(name)] if amounts is not None and known else [None, None]
    return row


def _notes(made: Breakdown) -> list[str]:
    notes = [
        "run-time memory: the weights, and every tensor that the component's modules put out in one pass; layers reuse "
        "it, so that the peak of a process is lower",
        "latency: the component's share of an uninstrumented pass times its median; what the shares leave stands below",
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
