"""The choice of a protocol's learning rates from records on held-out training data.

    python -m harness.runs.protocols.rates float32-1 profiles

prints the scores at each rate and the table `rates` that follows from them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean

import pandas as pd

from harness.records.schema import Record
from harness.records.store import read_records
from harness.runs.protocols import Protocol, family_of, load_protocol


def held_out_scores(records: Iterable[Record], protocol: Protocol) -> dict[str, dict[float, float]]:
    """Return the mean held-out score of each family's recipes by learning rate, for the rates of the grid."""
    found: dict[str, dict[float, list[float]]] = {}
    for record in records:
        if record.quality is None or record.cell.get("split") != "held-out":
            continue
        rate = record.cell["budget"]["recipe"].get("learning_rate")
        family = family_of(record.recipe)
        if record.cell.get("protocol") != protocol.name or family is None or rate not in protocol.grid:
            continue
        score = record.quality.scores[record.quality.metric]
        found.setdefault(family, {}).setdefault(rate, []).append(score)
    return {
        family: {rate: fmean(scores) for rate, scores in sorted(rates.items())}
        for family, rates in sorted(found.items())
    }


def chosen_rates(scores: Mapping[str, Mapping[float, float]], protocol: Protocol) -> dict[str, float]:
    """Return the rate with the highest score by family, the lowest of equal ones, where the whole grid was tried."""
    return {
        family: max(sorted(rates), key=lambda rate: rates[rate])
        for family, rates in scores.items()
        if set(rates) == set(protocol.grid)
    }


def main(name: str, profiles: str) -> None:
    """Print the scores by family and rate, and the chosen rates as TOML."""
    protocol = load_protocol(name)
    scores = held_out_scores(read_records(Path(profiles))[0], protocol)
    print(pd.DataFrame(scores).T.round(1).to_string())
    print("\n[rates]")
    for family, rate in chosen_rates(scores, protocol).items():
        print(f"{family} = {rate:g}")


if __name__ == "__main__":
    main(*sys.argv[1:])
