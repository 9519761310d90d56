"""Bytes that a pass has to move, and the roofline over them: what a machine's ceilings allow it to compute.

The model of the traffic is that of compulsory misses:

- Each weight is read once a pass, in the width in which the linear maps are executed (4, 2 or 1 bytes), not in that in
  which it is stored: what is stored as codes, bitmasks or groups of bits is decoded when the artifact is loaded.
  Weights that layers share are read once. Of embedding tables only the rows of the pass's tokens are read, which are
  no more bytes than the embedding puts out.
- Each activation is written once and read once: twice the bytes of the tensors that eager's modules put out. Scores of
  fused attention are never written and not among them.

Caches that keep activations, and runtimes that fuse operators, move less than this; weights that do not fit and are
read again, more. The attained share can therefore lie above 1 where memory is the bound. An encoder whose rows leave
early reads other layers for other rows, and has no figure here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from harness.records.schema import Component, Precision, Profile

WIDTHS: Mapping[Precision, int] = MappingProxyType({"float32": 4, "bfloat16": 2, "int8": 1})
"""Bytes of a weight as it is executed."""
EMBEDDING = "embedding"


@dataclass(frozen=True)
class Traffic:
    """Bytes that one pass reads of weights, and writes and reads of activations."""

    weights: int
    activations: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.activations


@dataclass(frozen=True)
class Roofline:
    """One pass under a machine's ceilings.

    `intensity` in FLOPs a byte; `attainable` and `reached` in FLOP/s, of matrix work: min(peak, intensity × copy) and
    what the median latency gives. `share` is reached / attainable, `bound` the ceiling that the pass is under.
    """

    traffic: Traffic
    intensity: float
    attainable: float
    reached: float
    bound: str

    @property
    def share(self) -> float:
        """How much of what is attainable the pass reaches."""
        return self.reached / self.attainable


def traffic(components: Iterable[Component], executed: Precision = "float32") -> Traffic:
    """The bytes of one pass, by the model above, of an artifact whose linear maps are executed in that precision."""
    weights = activations = 0
    for part in components:
        stays = part.name == EMBEDDING
        read = part.params * WIDTHS["float32" if stays else executed]
        weights += min(read, part.activation_bytes) if stays else read
        activations += 2 * part.activation_bytes
    return Traffic(weights, activations)


def attainable(peak: float, bandwidth: float, intensity: float) -> float:
    """FLOP/s under a roofline: min(peak, intensity × bandwidth) (Williams et al. 2009, section 3)."""
    return min(peak, intensity * bandwidth)


def roofline(profile: Profile) -> Roofline | None:
    """The roofline of a profile; None without ceilings, a latency or matrix work, and where rows leave early."""
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
