"""A profile as text contains every figure of the object, in the units that the headings name."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from harness.common.hardware import Hardware
from harness.models.config import COMPONENTS
from harness.profiling.report import facts, print_profile, profile_markdown, totals
from harness.records.schema import Component, Profile, Total, Workload
from tests.support.paired_latency import paired_latency

TOTAL = Total(
    params=109_483_778,
    flops=22_350_000_000,
    macs=11_175_000_000,
    elementwise_flops=120_000_000,
    weight_bytes=110_000_000,
    activation_bytes=33_000_000,
    latency_ms=42.0,
    disk_bytes=110_004_000,
    peak_memory_bytes=250_000_000,
    residual_pct=4.7619,
)
BASE = TOTAL.model_copy(
    update={
        "disk_bytes": 440_016_000,
        "weight_bytes": 440_000_000,
        "latency_ms": 84.0,
        "peak_memory_bytes": 500_000_000,
    }
)
LATENCY = paired_latency(
    median_ms=42.0,
    p10_ms=40.5,
    baseline_median_ms=84.0,
    samples=57,
    disturbed=3,
    speedup=2.004,
    speedup_ci95=(1.981, 2.027),
    aa_floor=0.013,
)
PROFILE = Profile(
    recipe="dynamic-int8",
    model="bert-base",
    weights="random (seed 0)",
    runtime="eager",
    device="cpu",
    workload=Workload(batch=1, length=256),
    components=[
        Component(
            name=name,
            params=1_234_567 * number,
            flops=10**9 * number,
            elementwise_flops=0,
            weight_bytes=5_000_000 * number,
            activation_bytes=1_500_000 * number,
            latency_ms=2.0 * (number - 1) + 2 / 3 * 2.5,
        )
        for number, name in enumerate(COMPONENTS, 1)
    ],
    total=TOTAL,
    latency=LATENCY,
    baseline=BASE,
    realised={"disk": True, "parameters": False, "flops": False, "latency": True, "memory": True},
    hardware=Hardware(id="x-2c", processor="Processor X", cores=2, memory_gib=8),
    versions={"torch": "2.13.0", "python": "3.11.9"},
)


def printed(profile: Profile, width: int = 80) -> str:
    file = io.StringIO()
    print_profile(profile, Console(file=file, width=width))
    return file.getvalue()


def cells(text: str, row: str) -> list[str]:
    """Return the cells of the Markdown row with that name."""
    [line] = [line for line in text.splitlines() if line.startswith(f"| {row} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_components() -> None:
    text = profile_markdown(PROFILE)
    assert cells(text, "attention_in") == [
        "attention_in",
        "2.469",
        "2,000.0",
        "10.00",
        "3.00",
        "3.67",
        "8.7 %",
    ]
    assert cells(text, "total") == ["total", "109.484", "22,350.0", "110.00", "33.00", "42.00", "100.0 %"]
    # The pass takes 42 ms and the components 30 + 10 ms: a residual of 2 ms, or 4.76 %.
    assert cells(text, "residual")[5:] == ["2.00", "4.8 %"]


def test_costs_beside_the_baseline() -> None:
    text = profile_markdown(PROFILE)
    assert cells(text, "disk") == ["disk", "110.00 MB", "440.02 MB", "25.0 %", "yes"]
    assert cells(text, "parameters") == ["parameters", "109,483,778", "109,483,778", "100.0 %", "no"]
    assert cells(text, "multiply-adds (MACs)") == [
        "multiply-adds (MACs)",
        "11,175.00 M",
        "11,175.00 M",
        "100.0 %",
        "",
    ]
    assert cells(text, "median latency") == ["median latency", "42.00 ms", "84.00 ms", "50.0 %", "yes"]
    assert cells(text, "peak resident memory") == [
        "peak resident memory",
        "250.00 MB",
        "500.00 MB",
        "50.0 %",
        "yes",
    ]
    assert "accelerator" not in text


def test_latency_in_words() -> None:
    assert facts(PROFILE)[:4] == [
        "speedup 2.00 × the baseline, 95 % interval 1.981 to 2.027",
        "median 42.00 ms, p10 40.50 ms, baseline's 84.00 ms",
        "57 pairs on 2 threads, until the interval was narrow; disturbed by others: 3 (left out)",
        "noise floor: the baseline against itself is within ± 1.3 %",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"verdict": "none", "speedup": None}, "no verdict, 95 % interval 1.981 to 2.027 is too wide"),
        (
            {"verdict": "none", "speedup": None, "speedup_ci95": None},
            "no verdict, there were too few",
        ),
        ({"used": "all"}, "disturbed by others: 3 (used too"),
        ({"stopped_by": "time"}, "until time was up"),
    ],
)
def test_verdicts(changes: dict[str, object], words: str) -> None:
    latency = LATENCY.model_copy(update=changes)
    lines = facts(PROFILE.model_copy(update={"latency": latency}))
    assert any(words in line for line in lines)
    assert ("× the baseline" in lines[0]) == (latency.verdict == "measured")


def test_what_was_not_measured_says_so() -> None:
    bare = PROFILE.model_copy(
        update={
            "latency": None,
            "baseline": None,
            "components": [c.model_copy(update={"latency_ms": None}) for c in PROFILE.components],
            "total": TOTAL.model_copy(update={"latency_ms": None, "uncounted_operators": ["fft", "sort_by"]}),
            "realised": {},
        }
    )
    text = profile_markdown(bare)
    assert cells(text, "disk") == ["disk", "110.00 MB", "–", "–", ""]
    assert cells(text, "attention")[5:] == ["–", "–"]
    assert "residual" not in text
    assert "latency was not measured" in text
    assert "FLOPs leave out fft, sort_by: the figures are too low" in text


def test_accelerator_memory_shows_where_there_is_one() -> None:
    total = TOTAL.model_copy(update={"accelerator_memory_bytes": 1_000_000})
    rows = {row[0]: row for row in totals(PROFILE.model_copy(update={"total": total})).rows}
    assert rows["peak accelerator memory"][1:3] == ("1.00 MB", "–")


def test_the_terminal_loses_no_figure() -> None:
    text = printed(PROFILE)
    for figure in (
        "109.484",
        "22,350.0",
        "110.00 MB",
        "440.02 MB",
        "42.00 ms",
        "25.0 %",
        "1.981 to 2.027",
        "yes",
        "no",
    ):
        assert figure in text
    for name in COMPONENTS:
        assert name in text
    assert "…" not in text
    assert "…" not in printed(PROFILE, 40)
    assert "\x1b" not in text


def test_a_recipe_s_marks_stay_text() -> None:
    recipe = "kd-logits:layers=3 + magnitude > dynamic-int8"
    odd = PROFILE.model_copy(update={"recipe": recipe, "model": "[bold]x[/bold]"})
    assert "[bold]x[/bold]" in printed(odd, 200)
    assert recipe in profile_markdown(odd)
