"""The costs that methods claim to reduce and profiles measure."""

from __future__ import annotations

from typing import Literal

COSTS = ("disk", "parameters", "flops", "latency", "memory")
Cost = Literal["disk", "parameters", "flops", "latency", "memory"]
