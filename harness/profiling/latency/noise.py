"""Measures how well this machine's timings repeat: A/A runs of a model against itself, alone or next to a busy process.

    python -m harness.profiling.latency.noise --runs 20 --length 128 [--load-duty 0.5 --load-period-ms 100] [--json]

Every run times two copies of one artifact by the procedure of profiles, so each ratio should be 1 and each interval
should contain 1.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from tabulate import tabulate

from harness.common.errors import SkylineError
from harness.common.hardware import hardware
from harness.common.lazy import lazy_imports
from harness.models.artifacts import save_artifact
from harness.models.checkpoints import load_model
from harness.profiling.inputs import Inputs, make_workload
from harness.profiling.latency.pairs import Plan
from harness.records.schema import Latency
from harness.runtimes import Execution

with lazy_imports():
    from harness.profiling.latency import paired


def run_pairs(folder: Path, inputs: Inputs, runs: int, plan: Plan) -> Iterator[tuple[Latency, float]]:
    """Yield the latency and the wall seconds of A/A runs, each in a fresh process and with its own order of pairs."""
    same = Execution(folder)
    for number in range(runs):
        began = time.perf_counter()
        found = paired.measure_speed(
            same, same, inputs, plan=replace(plan, seed=plan.seed + number), components=False
        )
        yield found.latency, time.perf_counter() - began


def summary(runs: Sequence[Latency]) -> dict[str, Any]:
    """Summarise A/A runs: ratios of runs with a verdict, half-widths of all intervals, intervals that contain 1.

    Ratios are given by their distance from 1; distances and half-widths are in per cent.
    """
    off = [100 * abs(run.speedup - 1) for run in runs if run.speedup is not None]
    widths = [_half_width_pct(*run.speedup_ci95) for run in runs if run.speedup_ci95 is not None]
    return {
        "runs": len(runs),
        "no_verdict": sum(run.verdict == "none" for run in runs),
        "holds_one": sum(_holds_one(run) for run in runs),
        "worst_ratio_pct": max(off, default=None),
        "median_half_width_pct": statistics.median(widths) if widths else None,
        "worst_half_width_pct": max(widths, default=None),
    }


def _half_width_pct(low: float, high: float) -> float:
    return 100 * (high - low) / (high + low)


def _holds_one(run: Latency) -> bool:
    return run.speedup_ci95 is not None and run.speedup_ci95[0] <= 1 <= run.speedup_ci95[1]


@contextmanager
def busy_process(duty: float, period_ms: float) -> Iterator[None]:
    """Keep another process computing for the share `duty` of every period. It ends with the block or this process."""
    if duty == 0:
        yield
        return
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_keep_busy, args=(duty, period_ms / 1000), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _keep_busy(duty: float, period_s: float) -> None:
    parent = multiprocessing.parent_process()
    while parent is not None and parent.is_alive():
        began = time.perf_counter()
        while time.perf_counter() - began < duty * period_s:
            pass
        time.sleep((1 - duty) * period_s)


def main(
    runs: Annotated[int, typer.Option(min=1, help="A/A runs")] = 20,
    model: Annotated[str, typer.Option(help="base model")] = "bert-base",
    length: Annotated[int, typer.Option(help="tokens a sequence")] = 128,
    batch: Annotated[int, typer.Option(help="sequences a pass")] = 1,
    cap: Annotated[float, typer.Option(min=0.1, help="seconds a run may take")] = 20.0,
    load_duty: Annotated[
        float, typer.Option(min=0, max=1, help="share of time another process computes")
    ] = 0.0,
    load_period_ms: Annotated[float, typer.Option(min=1, help="period of that process")] = 100.0,
    seed: int = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object instead of a table")] = False,
) -> None:
    """Time a model against itself several times, and print how far the ratios are from 1."""
    inputs = Inputs.of(make_workload(length, batch))
    found: list[tuple[Latency, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "artifact"
        encoder = load_model(model)
        encoder.check_length(length)
        save_artifact(encoder, folder)
        del encoder
        with busy_process(load_duty, load_period_ms):
            for number, run in enumerate(
                run_pairs(folder, inputs, runs, Plan(cap_s=cap, seed=seed)), start=1
            ):
                found.append(run)
                if not as_json:
                    typer.echo(f"\r{number}/{runs}", nl=False, err=True)
    facts = summary([latency for latency, _ in found])
    if as_json:
        data = [{**latency.model_dump(mode="json"), "wall_s": wall} for latency, wall in found]
        where = hardware().model_dump(mode="json")
        typer.echo(json.dumps({"runs": data, "summary": facts, "hardware": where}, indent=1))
        return
    rows = [
        (
            number,
            "none" if run.speedup is None else f"{run.speedup:.4f}",
            "" if run.speedup_ci95 is None else "{:.4f} … {:.4f}".format(*run.speedup_ci95),
            run.samples,
            run.disturbed,
            run.used,
            f"{run.median_ms:.1f}",
            "" if run.aa_floor is None else f"{100 * run.aa_floor:.2f}",
            run.stopped_by,
            f"{wall:.1f}",
        )
        for number, (run, wall) in enumerate(found, start=1)
    ]
    headers = ["run", "ratio", "95 %", "pairs", "disturbed", "used", "ms", "floor %", "stopped by", "s"]
    typer.echo("\r" + tabulate(rows, headers=headers))
    typer.echo(tabulate(facts.items(), floatfmt=".3f"))


if __name__ == "__main__":
    try:
        typer.run(main)
    except SkylineError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
