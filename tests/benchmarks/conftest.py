"""How large the timed suite is: as its figures are published, or tiny, to see that its code runs."""

from __future__ import annotations

from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Scale:
    """`model` is profiled, `trained` is trained; `cap_s` bounds the timing of one profile or A/A run."""

    model: str = "bert-base"
    half_its_layers: int = 6
    trained: str = "minilm-l6"
    cap_s: float = 20.0
    aa_runs: int = 20
    rounds: int = 5
    examples: int = 1024


TINY = Scale("bert-tiny", 1, "bert-tiny", cap_s=0.5, aa_runs=2, rounds=1, examples=64)


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> Scale:
    return TINY if request.config.getoption("--benchmark-tiny") else Scale()
