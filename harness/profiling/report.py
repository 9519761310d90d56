"""Prints a profile as tables for the terminal, or as Markdown."""

from __future__ import annotations

from dataclasses import dataclass

from harness.common.lazy import lazy_imports
from harness.records.schema import Agreement, Latency, Profile, Total

with lazy_imports():
    import rich.box
    import rich.console
    import rich.table
    import rich.text
    import tabulate

NONE = "–"


@dataclass(frozen=True)
class Table:
    """A table as text: the first column names the rows, the others hold numbers."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]


def print_profile(profile: Profile, console: rich.console.Console | None = None) -> None:
    """Print the components of a profile, its costs with the baseline's, and the verdict on its latency."""
    console = console or rich.console.Console()
    console.print(rich.text.Text(_subject(profile), style="bold"))
    for table in (components(profile), totals(profile)):
        drawn = rich.table.Table(
            title=rich.text.Text(table.title), title_justify="left", box=rich.box.SIMPLE_HEAD, pad_edge=False
        )
        for place, heading in enumerate(table.headings):
            drawn.add_column(rich.text.Text(heading), justify="right" if place else "left", overflow="fold")
        for row in table.rows:
            drawn.add_row(*(rich.text.Text(cell) for cell in row), style="bold" if row[0] == "total" else "")
        console.print(drawn)
    for line in facts(profile):
        console.print(rich.text.Text(f"· {line}"))


def profile_markdown(profile: Profile) -> str:
    """Return what `print_profile` prints, as Markdown."""
    parts = [f"**{_subject(profile).replace('|', '/')}**"]
    for table in (components(profile), totals(profile)):
        align = ["left", *["right"] * (len(table.headings) - 1)]
        body = tabulate.tabulate(
            table.rows, headers=table.headings, tablefmt="pipe", colalign=align, disable_numparse=True
        )
        parts.append(f"{table.title}\n\n{body}")
    parts.append("\n".join(f"- {line}" for line in facts(profile)))
    return "\n\n".join(parts) + "\n"


def _subject(profile: Profile) -> str:
    workload = profile.workload
    return (
        f"{profile.recipe} on {profile.model}, (batch, length) = {workload} of {workload.inputs} inputs, "
        f"{profile.executed_by} on {profile.device}"
    )


def components(profile: Profile) -> Table:
    """Return one row for each component, one for the residual and one for the total.

    The residual is the latency of a plain pass, less the sum of the components' times.
    """
    total = profile.total
    rows = [
        _line(c.name, c.params, c.flops, c.weight_bytes, c.activation_bytes, c.latency_ms, total.latency_ms)
        for c in profile.components
    ]
    times = [c.latency_ms for c in profile.components if c.latency_ms is not None]
    if times and total.latency_ms is not None:
        rest = total.latency_ms - sum(times)
        rows.append(("residual", "", "", "", "", _ms(rest), _share(rest, total.latency_ms)))
    t = total
    rows.append(
        _line("total", t.params, t.flops, t.weight_bytes, t.activation_bytes, t.latency_ms, t.latency_ms)
    )
    headings = ("component", "params M", "MFLOPs", "weights MB", "activ. MB", "ms", "time")
    return Table("Components", headings, rows)


def _line(
    name: str, params: int, flops: int, weights: int, activations: int, ms: float | None, whole: float | None
) -> tuple[str, ...]:
    return (
        name,
        f"{params / 1e6:,.3f}",
        f"{flops / 1e6:,.1f}",
        _mb(weights),
        _mb(activations),
        _ms(ms),
        _share(ms, whole),
    )


def totals(profile: Profile) -> Table:
    """Return each cost of the artifact and of the baseline, their ratio, and whether the saving is realised."""
    own, base = profile.total, profile.baseline
    flags = {str(cost): flag for cost, flag in profile.realised.items()}

    def line(
        name: str, unit: str, figure: float | None, reference: float | None, cost: str = ""
    ) -> tuple[str, ...]:
        known = figure is not None and reference
        share = f"{100 * (figure or 0) / (reference or 1):.1f} %" if known else NONE
        realised = {True: "yes", False: "no"}.get(flags[cost], NONE) if cost in flags else ""
        return (name, _figure(figure, unit), _figure(reference, unit), share, realised)

    def of(total: Total | None, name: str) -> float | None:
        return None if total is None else getattr(total, name)

    wanted = (
        ("disk", "MB", "disk_bytes", "disk"),
        ("weights", "MB", "weight_bytes", ""),
        ("activations of one pass", "MB", "activation_bytes", ""),
        ("parameters", "", "params", "parameters"),
        ("FLOPs of matrix work", "M", "flops", "flops"),
        ("multiply-adds (MACs)", "M", "macs", ""),
        ("other element operations", "M", "elementwise_flops", ""),
        ("median latency", "ms", "latency_ms", "latency"),
        ("peak resident memory", "MB", "peak_memory_bytes", "memory"),
        ("peak accelerator memory", "MB", "accelerator_memory_bytes", ""),
    )
    rows = [
        line(name, unit, of(own, key), of(base, key), cost)
        for name, unit, key, cost in wanted
        if key != "accelerator_memory_bytes" or own.accelerator_memory_bytes is not None
    ]
    return Table("Costs", ("cost", "this", "baseline", "of baseline", "realised"), rows)


def facts(profile: Profile) -> list[str]:
    """Return what the tables do not say, one line each: verdicts, uncounted operators, machine, versions, weights."""
    lines = latency_lines(profile.latency) if profile.latency is not None else ["latency was not measured"]
    if profile.over_eager is not None:
        lines.append(f"against the baseline under eager: {latency_lines(profile.over_eager)[0]}")
    if profile.memory_floor is not None:
        lines.append(f"peaks of memory differ by up to {100 * profile.memory_floor:.2g} % by chance")
    if profile.agreement is not None:
        lines.append(f"against the same artifact under eager: {agreement_line(profile.agreement)}")
    if profile.total.uncounted_operators:
        lines.append(
            f"FLOPs leave out {', '.join(profile.total.uncounted_operators)}: the figures are too low"
        )
    place = profile.hardware.accelerator or profile.hardware.processor
    lines.append(f"{place}, {profile.hardware.cores} cores, {profile.hardware.memory_gib} GiB")
    lines.append(", ".join(f"{name} {version}" for name, version in sorted(profile.versions.items())))
    lines.append(f"weights: {profile.weights}")
    return lines


def agreement_line(found: Agreement) -> str:
    """Say how far a runtime's answers are from eager's."""
    return (
        f"{100 * found.equal:.4g} % of the predictions of {found.rows} rows are equal, "
        f"logits differ by up to {found.largest_difference:.2g}"
    )


def latency_lines(latency: Latency) -> list[str]:
    """Say the speedup with its interval and verdict, and how it was sampled."""
    interval = latency.speedup_ci95
    between = "no interval" if interval is None else f"95 % interval {interval[0]:.3f} to {interval[1]:.3f}"
    if latency.verdict == "none" or latency.speedup is None:
        verdict = f"speedup: no verdict, {between} is too wide to tell"
        if interval is None:
            verdict = "speedup: no verdict, there were too few undisturbed pairs for an interval"
    else:
        verdict = f"speedup {latency.speedup:.2f} × the baseline, {between}"
    spread = [
        f"{name} {value:.2f} ms"
        for name, value in (("p10", latency.p10_ms), ("p90", latency.p90_ms))
        if value is not None
    ]
    spread = [
        f"median {latency.median_ms:.2f} ms",
        *spread,
        f"baseline's {latency.baseline_median_ms:.2f} ms",
    ]
    left_out = (
        "left out"
        if latency.used == "undisturbed"
        else "used too, since too few others gave a narrow interval"
    )
    why = {
        "precision": "the interval was narrow",
        "time": "time was up",
        "samples": "their number was reached",
    }
    lines = [
        verdict,
        ", ".join(spread),
        f"{latency.samples} pairs on {latency.threads} threads, until {why[latency.stopped_by]}; "
        f"disturbed by others: {latency.disturbed} ({left_out})",
    ]
    if latency.aa_floor is not None:
        lines.append(f"noise floor: the baseline against itself is within ± {100 * latency.aa_floor:.1f} %")
    return lines


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return NONE
    if unit in ("MB", "M"):
        return f"{value / 1e6:,.2f} {unit}"
    return f"{value:,.2f} ms" if unit == "ms" else f"{value:,.0f}"


def _mb(count: int) -> str:
    return f"{count / 1e6:,.2f}"


def _ms(value: float | None) -> str:
    return NONE if value is None else f"{value:,.2f}"


def _share(value: float | None, whole: float | None) -> str:
    return NONE if value is None or not whole else f"{100 * value / whole:.1f} %"
