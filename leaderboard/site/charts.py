"""The Pareto chart of a board as Vega-Lite, one specification for each cost axis."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Literal

from harness.common.errors import Code, SkylineError
from harness.common.lazy import lazy_imports
from leaderboard.boards.axes import Axis
from leaderboard.boards.board import Board
from leaderboard.boards.bootstrap import Drop
from leaderboard.boards.names import family_title
from leaderboard.boards.row import Row
from leaderboard.site.marks import mark
from leaderboard.tables import formatting

with lazy_imports():
    import altair
    import vl_convert

HEIGHT = 400
STATIC_WIDTH = 880
FLOOR = -10.0
"""Lower drops are not drawn until the reader asks for them."""
LABEL_LENGTH = 30
LOG_FROM = 8.0
"""The ratio of the largest to the smallest cost from which an axis is logarithmic."""


def drawn_axes(board: Board) -> list[Axis]:
    """List the axes on which a row other than the baseline has a drop and a cost, the board's own axis first."""
    found = [axis for axis in board.axes if any(not point["baseline"] for point in _points(board, axis))]
    return sorted(found, key=lambda axis: axis.key != board.axis)


def lowest(board: Board) -> float:
    """Compute where the vertical axis starts if all rows are drawn: a whole number of points."""
    return math.floor(min(_lows(board), default=-1.0) - 0.01)


def floor(board: Board) -> float:
    """Compute where the vertical axis starts at first: as `lowest`, but without rows below `FLOOR` if they are few."""
    lows = _lows(board)
    shown = [low for low in lows if low >= FLOOR]
    if 2 * len(shown) < len(lows):
        return lowest(board)
    return max(FLOOR, math.floor(min(shown, default=FLOOR) - 0.01))


def _lows(board: Board) -> list[float]:
    """List the lower end of each row's interval, or its drop if the drop itself is below `FLOOR`."""
    drops = [row.drop for row in board.rows if row.drop is not None]
    return [
        drop.mean if drop.mean < FLOOR or drop.ci95 is None else max(FLOOR, drop.ci95[0]) for drop in drops
    ]


def specification(board: Board, axis: Axis, *, alone: bool = False) -> dict[str, Any]:
    """Make the chart of average drop (points) against one cost as a Vega-Lite specification with its data inside.

    A page may set three parameters: `visible` (ids to draw, or null for all), `floor` (the lowest drop to draw) and
    the selection `pick` (by id). A chart that stands `alone`, outside the page, has a title and a legend, and draws
    only the front's intervals. Raises SkylineError (no-data) if no row has a drop and a cost on the
    axis.
    """
    points = _points(board, axis)
    if not points:
        raise SkylineError(
            f"no row of '{board.title}' has both a drop and a cost on the axis {axis.key}, so there is no front to "
            "draw; choose another board or another --axis",
            Code.NO_DATA,
        )
    families = sorted({str(point["family"]) for point in points}, key=lambda name: (name != "baseline", name))
    titles = [family_title(family) for family in families]
    legend = altair.Legend(title=None, orient="bottom", columns=4, symbolSize=110) if alone else None
    costs = [float(point["cost"]) for point in points]
    logarithmic = min(costs) > 0 and max(costs) / min(costs) >= LOG_FROM
    # Fixed, so that the axes stay in place while the reader filters.
    widths = [min(costs) * 0.85, max(costs) * 1.15] if logarithmic else [0.0, max(costs) * 1.06 or 1.0]
    x_scale = altair.Scale(type="log" if logarithmic else "linear", domain=widths, nice=False)
    high = max([0.0, *(float(point["drop"] if point["high"] is None else point["high"]) for point in points)])
    ceiling = high + max(0.2, 0.06 * (high - floor(board)))
    y_scale = altair.Scale(domain=[altair.ExprRef("floor"), ceiling], nice=False, zero=False)
    x = altair.X("cost:Q", title=axis.label, scale=x_scale, axis=altair.Axis(tickCount=6))
    y = altair.Y("drop:Q", title="Average drop (points)", scale=y_scale)
    colour = altair.Color(
        "family_title:N",
        scale=altair.Scale(domain=titles, range=[mark(family).colour for family in families]),
        legend=legend,
    )
    shape = altair.Shape(
        "family_title:N",
        scale=altair.Scale(domain=titles, range=[mark(family).path for family in families]),
        legend=legend,
    )
    pick = altair.selection_point(name="pick", fields=["id"], on="click", empty=False)
    drawn = altair.Chart(_data(points)).transform_filter(
        "(visible === null || indexof(visible, datum.id) >= 0) && datum.drop >= floor"
    )
    tooltip = [
        altair.Tooltip("title:N", title="Method"),
        altair.Tooltip("family_title:N", title="Family"),
        altair.Tooltip("drop_text:N", title="Drop (points)"),
        altair.Tooltip("cost_text:N", title=axis.title),
        altair.Tooltip("front_text:N", title="On the front"),
    ]
    zero = altair.Chart(_data([{"drop": 0}])).mark_rule(strokeDash=[4, 4], opacity=0.6).encode(y=y)
    has_bar = "isValid(datum.low) && datum.front" if alone else "isValid(datum.low)"
    bars = drawn.mark_rule(opacity=0.55, strokeWidth=1.5).encode(
        x=x, y=altair.Y("low_drawn:Q", scale=y_scale), y2="high:Q"
    )
    bars = bars.transform_calculate(low_drawn="max(datum.low, floor)").transform_filter(has_bar)
    symbols = drawn.mark_point(filled=True, strokeWidth=0.8, stroke="currentColor", opacity=1).encode(
        x=x,
        y=y,
        color=colour,
        shape=shape,
        size=altair.condition("datum.front", altair.value(190), altair.value(80)),
        strokeWidth=altair.condition(pick, altair.value(3.5), altair.value(0.8)),
        tooltip=tooltip,
        description=altair.Description("said:N"),
    )
    _place_labels(points, (widths[0], widths[1]), (floor(board), ceiling), logarithmic)
    labels = [
        drawn.mark_text(align=place.align, baseline="middle", dx=place.dx, dy=place.dy, fontSize=11)
        .encode(x=x, y=y, text="label:N")
        .transform_filter(f"datum.place === '{key}'")
        for key, place in PLACES.items()
        if any(point["place"] == key for point in points)
    ]
    intervals = [bars] if any(point["low"] is not None for point in points) else []
    layers = [
        zero,
        *_front_line(board, points, widths[1], x, y),
        *intervals,
        symbols.add_params(pick),
        *labels,
    ]
    chart = (
        altair.layer(*layers)
        .add_params(
            altair.param(name="visible", value=None),
            altair.param(name="floor", value=floor(board)),
        )
        .properties(width=STATIC_WIDTH, height=HEIGHT, background="transparent")
        .properties(
            description=f"{board.title}: average drop against {axis.label}, one mark for each row of the table"
        )
    )
    if alone:
        chart = chart.properties(title=_title(board, points))
    chart = _styled(chart)
    specification: dict[str, Any] = chart.to_dict()
    return specification


@cache
def vega_bundle() -> str:
    """Bundle Vega, Vega-Lite and Vega-Embed in one script that needs no network and is safe in a script element."""
    text: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # the stub forgets the default
    return re.sub(r"</(?=script)", r"<\\/", text, flags=re.IGNORECASE)


def _title(board: Board, points: list[dict[str, Any]]) -> Any:
    """Make the title of a chart outside the page; the subtitle says how to read the chart."""
    below = sum(point["drop"] < floor(board) for point in points)
    bars = "; bars are their 95 % intervals" if any(point["low"] is not None for point in points) else ""
    lines = [f"Up and to the left is better. Large marks are on the Pareto front{bars}."]
    if below:
        bottom = formatting.number(floor(board), 0)
        lines.append(f"{below} of the {len(points)} compared rows are below {bottom} points and not drawn.")
    return altair.TitleParams(board.title, subtitle=lines, anchor="start", offset=12)


def _points(board: Board, axis: Axis) -> list[dict[str, Any]]:
    return [
        _point(row, row.drop, axis, row.costs.by_axis[axis.key] * axis.scale)
        for row in board.rows
        if row.drop is not None and axis.key in row.costs.by_axis
    ]


@dataclass(frozen=True)
class Place:
    """How a label is aligned, and its distance from its mark in pixels."""

    align: Literal["left", "right", "center"]
    dx: int
    dy: int


Box = tuple[float, float, float, float]

PLACES: Mapping[str, Place] = MappingProxyType(
    {
        "right-above": Place("left", 11, -9),
        "left-above": Place("right", -11, -9),
        "right-below": Place("left", 11, 12),
        "left-below": Place("right", -11, 12),
        "above": Place("center", 0, -18),
        "below": Place("center", 0, 20),
    }
)


def _place_labels(
    points: list[dict[str, Any]],
    widths: tuple[float, float],
    heights: tuple[float, float],
    logarithmic: bool,
) -> None:
    """Give each row on the front, and the baseline, the first place where its label covers no mark or label.

    Places are computed for the picture's width. A label that fits nowhere is left out; the table names its row.
    """
    costs = [math.log(point["cost"]) if logarithmic else float(point["cost"]) for point in points]
    start, end = (math.log(end) for end in widths) if logarithmic else widths
    width, (bottom, top) = STATIC_WIDTH - 70, heights
    spots = [
        (
            width * (cost - start) / (end - start),
            HEIGHT * (top - float(point["drop"])) / (top - bottom),
        )
        for cost, point in zip(costs, points, strict=True)
    ]
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in spots]
    for point, (x, y) in zip(points, spots, strict=True):
        if not (point["front"] or point["baseline"]) or point["drop"] < bottom:
            continue
        length = 6.4 * len(point["label"])
        for key, place in PLACES.items():
            left = x + place.dx - {"left": 0, "right": length, "center": length / 2}[place.align]
            box = (left, y + place.dy - 7, left + length, y + place.dy + 7)
            free = not any(_cover(box, other) for other in taken)
            if free and min(box) >= 0 and box[2] <= width + 20 and box[3] <= HEIGHT:
                point["place"] = key
                taken.append(box)
                break


def _cover(first: Box, second: Box) -> bool:
    """Check whether two boxes (left, top, right, bottom) touch."""
    return first[0] <= second[2] and second[0] <= first[2] and first[1] <= second[3] and second[1] <= first[3]


def _point(row: Row, drop: Drop, axis: Axis, cost: float) -> dict[str, Any]:
    front = row.fronts.get(axis.key)
    on_front, share = (False, None) if front is None else (front.on, front.probability)
    front_text = ("yes" if on_front else "no") + (
        f", in {100 * share:.0f} % of resamples" if share is not None else ""
    )
    cost_text = f"{formatting.number(cost, axis.decimals)} {axis.unit}"
    drop_text = formatting.points(drop.mean, drop.ci95)
    label = row.recipe if len(row.recipe) <= LABEL_LENGTH else row.recipe[: LABEL_LENGTH - 1] + "…"
    return {
        "id": row.id,
        "title": row.title,
        "label": label,
        "family": row.family,
        "family_title": family_title(row.family),
        "drop": drop.mean,
        "low": drop.ci95[0] if drop.ci95 else None,
        "high": drop.ci95[1] if drop.ci95 else None,
        "cost": cost,
        "front": on_front,
        "place": "",
        "baseline": row.baseline,
        "drop_text": drop_text,
        "cost_text": cost_text,
        "front_text": front_text,
        "said": f"{row.title}: drop {drop_text} points, {axis.title} {cost_text}, on the front: {front_text}",
    }


def _front_line(board: Board, points: list[dict[str, Any]], edge: float, x: Any, y: Any) -> list[Any]:
    """Draw the staircase through the front, up to the right edge.

    A published board has no such line, because its rows compete on different tasks.
    """
    steps = sorted(
        ({"cost": point["cost"], "drop": point["drop"]} for point in points if point["front"]),
        key=lambda step: (step["cost"], step["drop"]),
    )
    if board.kind == "published" or not steps:
        return []
    steps.append({"cost": edge, "drop": steps[-1]["drop"]})
    line = (
        altair.Chart(_data(steps))
        .mark_line(interpolate="step-after", strokeWidth=2.5, opacity=0.5, stroke="currentColor")
        .transform_filter("datum.drop >= floor")
        .encode(x=x, y=y)
    )
    return [line]


def _data(values: list[dict[str, Any]]) -> Any:
    return altair.Data(values=values)  # type: ignore[no-untyped-call]


def _styled(chart: Any) -> Any:
    """Draw text and lines in the colour of the surrounding text, so that the chart fits a dark page."""
    ink = "currentColor"
    axis = {
        "labelColor": ink,
        "titleColor": ink,
        "domainColor": ink,
        "tickColor": ink,
        "gridColor": ink,
        "gridOpacity": 0.12,
        "labelFontSize": 12,
        "titleFontSize": 13,
        "titleFontWeight": "normal",
        "titlePadding": 10,
    }
    font = "system-ui, sans-serif"
    return (
        chart.configure(font=font)
        .configure_axis(**axis)
        .configure_view(stroke=None)
        .configure_rule(color=ink)
        .configure_text(color=ink)
        .configure_legend(labelColor=ink, labelFontSize=12, offset=14)
        .configure_title(color=ink, subtitleColor=ink, fontSize=16, subtitleFontSize=12, subtitlePadding=6)
    )
