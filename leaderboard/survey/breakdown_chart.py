"""The chart of a breakdown: one bar for each cost, divided by component."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from harness.common.lazy import lazy_imports
from leaderboard.survey.breakdown import RESIDUAL, Amounts, Breakdown, part_title

with lazy_imports():
    import altair

COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "embedding": "#E69F00",
        "attention_in": "#56B4E9",
        "attention": "#0072B2",
        "attention_out": "#CC79A7",
        "ffn": "#009E73",
        "head": "#999999",
        RESIDUAL: "#DDDDDD",
    }
)
"""Colours of Okabe & Ito's (2008) set, which readers with any colour vision tell apart; greys for the rest."""
OTHER = "#F0E442"
DARK, LIGHT = "#111111", "#FFFFFF"
WIDTH, BAR = 660, 46
ROOM, GAP = 215, 40
"""Pixels for the bars' names, and between columns of the legend. A reader's font may be wider than ours."""
SHORTEST_LABEL = 4.0
"""Percent from which a segment shows its figure."""


def specification(made: Breakdown) -> dict[str, Any]:
    """Make the chart as a Vega-Lite specification with its data inside, its text in `currentColor`.

    A latency's residual is drawn if it is positive. If the components together took longer than the whole pass, the
    bar is longer than 100 %.
    """
    ink = "currentColor"
    segments = [segment for amounts in made.costs for segment in _segments(amounts, made)]
    names = (
        [*made.names, RESIDUAL] if any(s["part"] == part_title(RESIDUAL) for s in segments) else made.names
    )
    titles = [part_title(name) for name in names]
    bars = [_bar_title(amounts) for amounts in made.costs]
    longest = max([100.0, *(float(segment["end"]) for segment in segments)])
    base = altair.Chart(altair.Data(values=segments))  # type: ignore[no-untyped-call]
    y = altair.Y(
        "bar:N",
        sort=bars,
        title=None,
        axis=altair.Axis(labelLimit=300, minExtent=ROOM, ticks=False, domain=False),
    )
    scale = altair.Scale(domain=[0, longest], nice=False)
    boxes = base.mark_bar().encode(
        x=altair.X(
            "start:Q", title="Share of the whole (%)", scale=scale, axis=altair.Axis(tickCount=5, grid=False)
        ),
        x2="end:Q",
        y=y,
        color=altair.Color(
            "part:N",
            scale=altair.Scale(domain=titles, range=[COLOURS.get(name, OTHER) for name in names]),
            legend=altair.Legend(
                title=None,
                orient="top",
                columns=3,
                labelLimit=260,
                symbolType="square",
                symbolSize=170,
                columnPadding=GAP,
            ),
        ),
        description=altair.Description("said:N"),
    )
    figures = (
        base.transform_filter(f"datum.share >= {SHORTEST_LABEL}")
        .mark_text(fontSize=13)
        .encode(
            x=altair.X("middle:Q", scale=scale), y=y, text="label:N", color=altair.Color("ink:N", scale=None)
        )
    )
    chart = (
        altair.layer(boxes, figures)
        .resolve_scale(color="independent")
        .properties(width=WIDTH, height=BAR * len(bars), background="transparent")
        .properties(description=f"Costs of {made.model} by component at (batch, length) = {made.workload}")
        .configure(font="system-ui, sans-serif")
        .configure_axis(
            labelColor=ink, titleColor=ink, domainColor=ink, tickColor=ink, labelFontSize=13, titleFontSize=13
        )
        .configure_axisX(titleFontWeight="normal", titlePadding=10)
        .configure_legend(labelColor=ink, labelFontSize=13, offset=14)
        .configure_view(stroke=None)
        .configure_scale(bandPaddingInner=0.3)
    )
    found: dict[str, Any] = chart.to_dict()
    return found


def _bar_title(amounts: Amounts) -> str:
    return f"{amounts.title}: {amounts.whole:,.{amounts.digits}f} {amounts.unit}"


def _segments(amounts: Amounts, made: Breakdown) -> list[dict[str, Any]]:
    """Divide a bar into its components, each from `start` to `end` in percent of the whole."""
    found, start = list[dict[str, Any]](), 0.0
    for name in (*made.names, RESIDUAL):
        share = amounts.share(name)
        if share is None or share <= 0:
            continue
        part, figure = part_title(name), f"{amounts.parts[name]:,.{amounts.digits}f} {amounts.unit}"
        found.append(
            {
                "bar": _bar_title(amounts),
                "part": part,
                "start": start,
                "end": start + share,
                "middle": start + share / 2,
                "share": share,
                "label": f"{share:.0f} %",
                "ink": ink_on(COLOURS.get(name, OTHER)),
                "said": f"{amounts.title}, {part}: {figure}, {share:.1f} %",
            }
        )
        start += share
    return found


def ink_on(colour: str) -> str:
    """Choose `DARK` or `LIGHT` for text on a background, whichever has the higher contrast."""
    return max((DARK, LIGHT), key=lambda ink: contrast(ink, colour))


def contrast(first: str, second: str) -> float:
    """Compute the contrast ratio of two colours #RRGGBB, from 1 to 21 (WCAG 2.2, relative luminance)."""
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
