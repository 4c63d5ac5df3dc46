"""The charts of the comparison as plain SVG: how far ahead each figure is, and the curves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from .results import Comparison, RowResult, Spread, number
from .systems import KAFKA, KLAMM
from .table import ROWS

CURVES: Final = {
    "performance-partitions.svg": ("Records of 1 KB per second over the number of partitions", ("1p", "2p", "3p")),
    "performance-clients.svg": ("Records of 1 KB per second over the number of clients", ("1c", "2c", "3c")),
}
AHEAD: Final = ("performance.svg", "How many times better Klamm is than Apache Kafka")
PANELS: Final = {
    "1": "produce, acks=1",
    "2": "produce, RF 3, acks=all",
    "3": "consume",
}
NAMES: Final = {KLAMM: "Klamm", KAFKA: "Apache Kafka"}

# Readable on a light and on a dark page.
STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#444}.title{font-size:15px;font-weight:600}.end{text-anchor:end}"
    ".middle{text-anchor:middle}.axis{stroke:#999}.goal{stroke:#c60;stroke-width:2}.grid{stroke:#9995}"
    ".klamm{fill:#2a78d6;stroke:#2a78d6}.kafka{fill:#8a8f98;stroke:#8a8f98}.behind{fill:#c2504d}.line{fill:none;stroke-width:2}"
    "@media(prefers-color-scheme:dark){text{fill:#ccc}}"
)
BAR: Final = 16
LINE: Final = 24
LABELS: Final = 430
WIDTH: Final = 900
PANEL_WIDTH: Final = 300
PANEL_HEIGHT: Final = 240


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure: how many times better Klamm is, and how many it is to be, if there is a goal."""

    label: str
    times: float
    goal: float | None


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart of lines: the points of each side, the first number of a point is where it stands."""

    title: str
    lines: Mapping[str, Sequence[tuple[int, Spread]]]


def draw(folder: Path, stored: Mapping[str, RowResult]) -> dict[str, str]:
    """Writes those for which there is something; their titles by file name."""
    drawn = {}
    bars = list(bars_of(stored))
    if bars:
        file, title = AHEAD
        (folder / file).write_text(bar_chart(title, bars), encoding="utf-8")
        drawn[file] = title
    for file, (title, keys) in CURVES.items():
        panels = [panel_of(key, stored[key]) for key in keys if key in stored and stored[key].figures]
        if panels:
            (folder / file).write_text(line_charts(title, panels), encoding="utf-8")
            drawn[file] = title
    return drawn


def bars_of(stored: Mapping[str, RowResult]) -> Iterator[Bar]:
    """A bar for each figure that has a goal and both sides. Where less is better, the ratio is turned round."""
    for row in ROWS:
        for figure, samples in (stored[row.key].figures if row.key in stored else {}).items():
            compared = Comparison.of(figure, samples, row.goal_of(figure))
            if compared.ratio and compared.goal is not None:
                label, at_most = f"{row.key} {row.title}: {figure}", compared.goal.at_most
                ratio, goal = compared.ratio, compared.goal.ratio
                yield Bar(label, 1 / ratio if at_most else ratio, 1 / goal if at_most else goal)


def panel_of(key: str, result: RowResult) -> Panel:
    """The curve of a row; its figures begin with where they stand: "1,000 partitions"."""
    lines: dict[str, list[tuple[int, Spread]]] = {}
    for side in (KLAMM, KAFKA):
        points = [(_position(figure), Spread.of(samples[side])) for figure, samples in result.figures.items()]
        lines[side] = [(x, spread) for x, spread in sorted(points, key=lambda point: point[0]) if spread is not None]
    return Panel(PANELS[key[0]], {side: points for side, points in lines.items() if points})


def bar_chart(title: str, bars: Sequence[Bar]) -> str:
    """Bars from 1 to the right where Klamm is ahead, to the left where it is behind; a tick is the goal."""
    top, bottom = 50, 30
    height = top + LINE * len(bars) + bottom
    values = [value for bar in bars for value in (bar.times, bar.goal or 1.0)]
    low, high = min([0.5, *values]) / 1.1, max([2.0, *values]) * 1.6

    def x(value: float) -> float:
        return LABELS + (WIDTH - LABELS - 20) * math.log(value / low) / math.log(high / low)

    parts = [_text(10, 22, title, "title")]
    parts += [_text(10, 40, "To the right of 1: ahead. The tick is the goal. Logarithmic.")]
    for mark in _marks(low, high):
        parts.append(_line(x(mark), top, x(mark), height - bottom, "axis" if mark == 1 else "grid"))
        parts.append(_text(x(mark), height - bottom + 16, f"{mark:g}", "middle"))
    for place, bar in enumerate(bars):
        y = top + LINE * place + (LINE - BAR) / 2
        left, right = sorted((x(1.0), x(bar.times)))
        kind = "klamm" if bar.times >= 1 else "behind"
        parts.append(_text(LABELS - 10, y + BAR - 4, bar.label, "end"))
        parts.append(f'<rect class="{kind}" x="{left:.1f}" y="{y:.1f}" width="{right - left:.1f}" height="{BAR}"/>')
        if bar.goal is not None:
            parts.append(_line(x(bar.goal), y - 3, x(bar.goal), y + BAR + 3, "goal"))
        parts.append(_text(max(right, x(bar.goal or 1.0)) + 5, y + BAR - 4, number(bar.times)))
    return _document(WIDTH, height, title, parts)


def line_charts(title: str, panels: Sequence[Panel]) -> str:
    """Beside each other: both sides' medians, with a stroke from the least to the most."""
    top = 60
    parts = [_text(10, 22, title, "title")]
    for place, side in enumerate((KLAMM, KAFKA)):
        parts.append(f'<rect class="{side}" x="{10 + 90 * place}" y="32" width="12" height="12"/>')
        parts.append(_text(27 + 90 * place, 43, NAMES[side]))
    for place, panel in enumerate(panels):
        parts.append(f'<g transform="translate({PANEL_WIDTH * place},{top})">')
        parts += _panel(panel)
        parts.append("</g>")
    return _document(PANEL_WIDTH * len(panels), top + PANEL_HEIGHT, title, parts)


def _panel(panel: Panel) -> Iterator[str]:
    left, right, top, bottom = 60, PANEL_WIDTH - 15, 25, PANEL_HEIGHT - 30
    positions = sorted({x for points in panel.lines.values() for x, _ in points})
    most = max((spread.most for points in panel.lines.values() for _, spread in points), default=1.0) * 1.05

    def x(position: int) -> float:
        return left + (right - left) * (positions.index(position) + 0.5) / len(positions)

    def y(value: float) -> float:
        return bottom - (bottom - top) * value / most

    yield _text((left + right) / 2, 15, panel.title, "middle")
    for mark in _even_marks(most):
        yield _line(left, y(mark), right, y(mark), "axis" if mark == 0 else "grid")
        yield _text(left - 5, y(mark) + 4, number(mark), "end")
    for position in positions:
        yield _text(x(position), bottom + 18, f"{position:,}", "middle")
    for side, points in panel.lines.items():
        path = " ".join(f"{x(place):.1f},{y(spread.median):.1f}" for place, spread in points)
        yield f'<polyline class="{side} line" style="fill:none" points="{path}"/>'
        for place, spread in points:
            yield _line(x(place), y(spread.least), x(place), y(spread.most), side)
            yield f'<circle class="{side}" cx="{x(place):.1f}" cy="{y(spread.median):.1f}" r="3"/>'


def _marks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**power for power in decades for step in (1, 2, 5) if low <= step * 10.0**power <= high]


def _even_marks(most: float) -> list[float]:
    """From 0, two to five round numbers."""
    step = 10.0 ** math.floor(math.log10(most))
    while most / step < 2:
        step /= 2 if step / 10.0 ** math.floor(math.log10(step)) in (1, 2) else 2.5
    while most / step > 5:
        step *= 2
    return [step * place for place in range(math.floor(most / step) + 1)]


def _position(figure: str) -> int:
    return int(figure.split()[0].replace(",", ""))


def _text(x: float, y: float, what: str, kind: str = "") -> str:
    marked = f' class="{kind}"' if kind else ""
    return f'<text{marked} x="{x:.1f}" y="{y:.1f}">{escape(what)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _document(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" role="img">'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", *parts, "</svg>", ""])
