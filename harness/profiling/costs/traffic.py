"""The bytes that a pass has to move, and its roofline: the speed that the machine's ceilings allow.

The model of the traffic counts compulsory misses only:

- Each weight is read once in a pass, in the width in which the linear maps are executed (4, 2 or 1 bytes). The stored
  width does not matter: codes, bitmasks and groups of bits are decoded when the artifact is loaded. Weights that layers
  share are read once. Of an embedding table only the rows of the pass's tokens are read; they have at most as many
  bytes as the embedding's output.
- Each activation is written once and read once: twice the bytes of the tensors that eager's modules return. Scores of
  fused attention are never written and do not count.

Caches that keep activations, and runtimes that fuse operators, move less than this; weights that do not fit into caches
and are read again move more. The attained share can therefore exceed 1 if memory is the bound. An encoder whose rows
exit early reads different layers for different rows, and has no roofline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from harness.records.schema import Component, Precision, Profile

WIDTHS: Mapping[Precision, int] = MappingProxyType({"float32": 4, "bfloat16": 2, "int8": 1})
"""Bytes of a weight in each precision of execution."""
EMBEDDING = "embedding"


@dataclass(frozen=True)
class Traffic:
    """Bytes of one pass: weights read, and activations written and read."""

    weights: int
    activations: int

    @property
    def total(self) -> int:
        """Bytes of weights and activations together."""
        return self.weights + self.activations


@dataclass(frozen=True)
class Roofline:
    """One pass under a machine's ceilings.

    `intensity` is in FLOPs per byte. `attainable`, min(peak, intensity × copy), and `reached`, at the median latency,
    are in FLOP/s of matrix work. `bound` is "compute" or "memory": the ceiling that limits the pass.
    """

    traffic: Traffic
    intensity: float
    attainable: float
    reached: float
    bound: str

    @property
    def share(self) -> float:
        """The reached share of the attainable FLOP/s."""
        return self.reached / self.attainable


def traffic(components: Iterable[Component], executed: Precision = "float32") -> Traffic:
    """Count the bytes of one pass, by the model above, with linear maps executed in that precision."""
    weights = activations = 0
    for part in components:
        table = part.name == EMBEDDING  # stays in float32
        read = part.params * WIDTHS["float32" if table else executed]
        weights += min(read, part.activation_bytes) if table else read
        activations += 2 * part.activation_bytes
    return Traffic(weights, activations)


def attainable(peak: float, bandwidth: float, intensity: float) -> float:
    """Return the FLOP/s that a roofline allows: min(peak, intensity × bandwidth) (Williams et al. 2009, section 3)."""
    return min(peak, intensity * bandwidth)


def roofline(profile: Profile) -> Roofline | None:
    """Return the roofline of a profile; None without ceilings, latency or matrix work, or if rows exit early."""
    ceilings, latency, total = profile.ceilings, profile.latency, profile.total
    if ceilings is None or latency is None or total.mean_depth is not None or not total.flops:
        return None
    moved = traffic(profile.components, ceilings.executed)
    intensity = total.flops / moved.total
    peak = ceilings.matmul_flops[ceilings.executed]
    return Roofline(
        traffic=moved,
        intensity=intensity,
        attainable=attainable(peak, ceilings.copy_bytes, intensity),
        reached=total.flops / (latency.median_ms / 1e3),
        bound="compute" if intensity * ceilings.copy_bytes >= peak else "memory",
    )
