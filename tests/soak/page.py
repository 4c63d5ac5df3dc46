"""What was recorded as one HTML page: a chart for each metric, a line for each process. Pure; needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Final

from soak.judge import Lives, Verdict
from soak.trend import Point

WIDTH: Final = 1100
HEIGHT: Final = 260
LEFT: Final = 80
BELOW: Final = 24
COLOURS: Final = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b",
    "#e377c2", "#7f7f7f", "#bcbd22", "#17becf", "#393b79", "#637939",
)  # fmt: skip
SPARKS: Final = "▁▂▃▄▅▆▇█"

_STYLE: Final = """
body { font: 14px sans-serif; margin: 2em; color: #222 } svg { background: #fafafa; display: block }
table { border-collapse: collapse } td, th { padding: .15em .8em; text-align: right }
td:first-child { text-align: left }
.rises { background: #fdd; font-weight: bold } .legend span { margin-right: 1.2em } text { font: 11px sans-serif }
"""


def number(value: float, unit: str) -> str:
    """With a unit that people read."""
    if unit == "bytes":
        return f"{value / 1e6:,.1f} MB"
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2g}"


def sparkline(points: Sequence[Point], width: int = 24) -> str:
    """The series in a few characters, from its lowest to its highest."""
    if not points:
        return ""
    values = [value for _, value in points]
    taken = [values[index * len(values) // width] for index in range(min(width, len(values)))] if values else []
    if len(values) <= width:
        taken = values
    low, high = min(taken), max(taken)
    if high == low:
        return SPARKS[0] * len(taken)
    return "".join(SPARKS[int((len(SPARKS) - 1) * (value - low) / (high - low))] for value in taken)


def row(verdict: Verdict, unit: str) -> tuple[str, ...]:
    """process, metric, how it was judged, level, rise in an hour, the same at least, verdict."""
    found = verdict.trend
    if found is None:
        return verdict.process, verdict.metric, verdict.how, "", "", "", "too short to judge"
    return (
        verdict.process,
        verdict.metric,
        verdict.how,
        number(found.level, unit),
        number(3600 * found.slope, unit),
        number(3600 * found.slope_low, unit),
        "RISES" if found.rises else "level",
    )


COLUMNS: Final = ("process", "metric", "judged by", "level", "slope per hour", "at least", "verdict")


def page(
    title: str,
    facts: Sequence[str],
    processes: Mapping[str, Lives],
    metrics: Mapping[str, str],
    marks: Sequence[Point],
    verdicts: Sequence[Verdict],
) -> str:
    """The whole page. `marks` are the times of restarts, from when to when; `metrics` has units."""
    names = list(processes)
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
    legend = "".join(f'<span style="color:{colours[name]}">&#9632; {html.escape(name)}</span>' for name in names)
    charts = []
    for metric, unit in metrics.items():
        lines = {name: [life[metric] for life in lives if life.get(metric)] for name, lives in processes.items()}
        if any(lines.values()):
            charts.append(f"<h2>{html.escape(metric)}</h2>{_chart(lines, colours, unit, marks)}")
    head = "".join(f"<th>{each}</th>" for each in COLUMNS)
    body = "".join(
        f'<tr class="{"rises" if each.rises else ""}">'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row(each, metrics.get(each.metric, "")))
        + "</tr>"
        for each in verdicts
    )
    listed = "".join(f"<li>{html.escape(fact)}</li>" for fact in facts)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(title)}</h1><ul>{listed}</ul><p class=legend>{legend}</p>{''.join(charts)}"
        f"<h2>verdicts</h2><table><tr>{head}</tr>{body}</table></html>\n"
    )


def _chart(
    lines: Mapping[str, Sequence[Sequence[Point]]], colours: Mapping[str, str], unit: str, marks: Sequence[Point]
) -> str:
    points = [point for lives in lines.values() for life in lives for point in life]
    last = max(second for second, _ in points) or 1.0
    high = 1.05 * max(value for _, value in points) or 1.0
    floor = HEIGHT - BELOW

    def x(second: float) -> float:
        return LEFT + (WIDTH - LEFT - 10) * second / last

    def y(value: float) -> float:
        return floor - (floor - 10) * value / high

    drawn = [f'<svg width="{WIDTH}" height="{HEIGHT}" role="img">']
    for began, ended in marks:
        width = max(1.0, x(ended) - x(began))
        drawn.append(f'<rect x="{x(began):.1f}" y="10" width="{width:.1f}" height="{floor - 10}" fill="#eee"/>')
    for share in (0, 0.25, 0.5, 0.75, 1):
        at = y(share * high / 1.05)
        label = number(share * high / 1.05, unit)
        drawn.append(f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{label}</text>')
    step = max(1, round(last / 60 / 10))
    drawn += [
        f'<text x="{x(60 * minute):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{minute} min</text>'
        for minute in range(0, int(last / 60) + 1, step)
    ]
    for name, lives in lines.items():
        for life in lives:
            path = " ".join(f"{x(second):.1f},{y(value):.1f}" for second, value in life)
            title = f"<title>{html.escape(name)}</title>"
            drawn.append(f'<polyline points="{path}" fill="none" stroke="{colours[name]}">{title}</polyline>')
    return "".join(drawn) + "</svg>"
