"""The words around the picture of a timeline: what was asked for, the verdict, the anomalies, the figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

from harness.history import Operation, to_line
from harness.history_checker import Verdict
from harness.history_findings import MEANINGS, Anomaly
from harness.history_picture import Picture, described
from harness.history_statistics import Gap, Statistics

COLOURS = {"ok": "#62b58f", "unknown": "#f2a81d", "failed": "#cf3e5c", "gap": "#b3405a", "mark": "#7b1fa2"}
SECOND_NS = 1_000_000_000
SHOWN_OF_AN_ENTRY = 1_500  # characters

STYLE = f"""
:root {{ color-scheme: light }}
body {{ font: 14px/1.45 system-ui, sans-serif; color: #1d2330; background: #fff; margin: 24px }}
h1 {{ font-size: 22px; margin: 0 0 4px }} h2 {{ font-size: 16px; margin: 28px 0 8px }}
.facts {{ color: #5b6475; margin: 0 0 14px }} .facts b {{ color: #1d2330; font-weight: 600 }}
.verdict {{ padding: 10px 14px; border-radius: 6px; font-weight: 600; background: #e2f4ea; color: #14613b }}
.verdict.bad {{ background: #fbe3e8; color: #8d1533 }} .verdict.half {{ background: #fdf1d6; color: #7a5200 }}
table {{ border-collapse: collapse; margin: 4px 0 }} .tables {{ display: flex; gap: 36px; flex-wrap: wrap }}
th, td {{ text-align: right; padding: 2px 10px; border-bottom: 1px solid #e4e7ee; font-variant-numeric: tabular-nums }}
th {{ font-weight: 600; color: #5b6475 }} th:first-child, td:first-child, .words td, .words th {{ text-align: left }}
.words td {{ vertical-align: top }} td.name {{ white-space: nowrap; font-weight: 600; color: {COLOURS["mark"]} }}
code {{ font: 12px ui-monospace, monospace; word-break: break-all }} tr:target {{ background: #f3e6f8 }}
.picture {{ display: flex; border: 1px solid #dfe3ea; border-radius: 6px; overflow: hidden }}
.picture > svg {{ flex: none; background: #f7f8fa }} .scroll {{ overflow-x: auto; flex: 1 }}
svg {{ display: block; font: 11px system-ui, sans-serif }} svg text {{ fill: #1d2330 }}
.grid {{ stroke: #d9dee7; stroke-width: 1 }} svg .tick {{ fill: #8a93a5; font-size: 10px }}
.lane {{ fill: #8a93a5; fill-opacity: .1 }} .acks {{ fill: #7fa7d9; stroke: #3f6fae; stroke-width: .7 }}
.ok {{ fill: {COLOURS["ok"]} }} .unknown {{ fill: {COLOURS["unknown"]} }} .failed {{ fill: {COLOURS["failed"]} }}
.own {{ stroke: #fff; stroke-width: .6 }} .crash {{ stroke: #1d2330; stroke-width: 2 }}
.longest {{ fill: {COLOURS["gap"]}; fill-opacity: .16; stroke: {COLOURS["gap"]}; stroke-dasharray: 3 2 }}
svg .gap {{ fill: {COLOURS["gap"]}; font-weight: 600 }} svg .process {{ font-size: 8px; fill: #39414f }}
.mark {{ fill: {COLOURS["mark"]}; stroke: #fff; stroke-width: 1.5 }}
a:target .mark {{ stroke: #000; stroke-width: 2.5 }}
.legend span {{ display: inline-block; width: 12px; height: 12px; margin: 0 5px -1px 16px; border-radius: 2px }}
"""


def page(picture: Picture, verdict: Verdict, facts: Mapping[str, str], svg: str) -> str:
    """The whole file."""
    parts = [
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Fault campaign</title>'
        f"<style>{STYLE}</style></head><body>\n<h1>Fault campaign</h1>\n",
        _facts(facts, verdict.statistics),
        _said(verdict),
        _anomalies(verdict),
        _legend(),
        svg,
        _figures(verdict.statistics),
        _entries(picture),
        "</body></html>\n",
    ]
    return "".join(parts)


def _facts(facts: Mapping[str, str], statistics: Statistics) -> str:
    lasted_s = (statistics.ended_ns - statistics.began_ns) / SECOND_NS
    known = {**facts, "lasted": f"{lasted_s:,.1f} s"}
    return (
        f'<p class="facts">{" · ".join(f"{escape(name)} <b>{escape(fact)}</b>" for name, fact in known.items())}</p>\n'
    )


def _said(verdict: Verdict) -> str:
    sent = verdict.statistics.sent
    records = f"{sent['ok']:,} records acked, {sent['unknown']:,} unknown, {sent['failed']:,} failed"
    if verdict.anomalies:
        counts = ", ".join(f"{count:,} {name.value}" for name, count in verdict.counts.most_common())
        return f'<p class="verdict bad">Anomalies: {counts}. {records}.</p>\n'
    if verdict.unchecked:
        return f'<p class="verdict half">No anomaly in what was judged. {records}.</p>\n'
    return f'<p class="verdict">No anomaly. {records}.</p>\n'


def _anomalies(verdict: Verdict) -> str:
    rows = [(_name(anomaly), escape(anomaly.description), _links(anomaly)) for anomaly in verdict.anomalies]
    rows += [("not judged", escape(reason), "") for reason in verdict.unchecked]
    if not rows:
        return ""
    lines = "".join(f'<tr><td class="name">{a}</td><td>{b}</td><td>{c}</td></tr>\n' for a, b, c in rows)
    kept = len(verdict.anomalies)
    more = verdict.counts.total() - kept
    rest = f"<p>{more:,} more are counted and not listed.</p>" if more else ""
    return f'<h2>Anomalies</h2><table class="words">{lines}</table>{rest}\n'


def _name(anomaly: Anomaly) -> str:
    return f'<span title="{escape(MEANINGS[anomaly.name])}">{escape(anomaly.name.value)}</span>'


def _links(anomaly: Anomaly) -> str:
    return " ".join(f'<a href="#entry-{number}">{number}</a>' for number in anomaly.entries)


def _legend() -> str:
    words = {"ok": "ok", "unknown": "unknown", "failed": "failed", "mark": "shows an anomaly"}
    spans = "".join(f'<span style="background:{COLOURS[name]}"></span>{text}' for name, text in words.items())
    return (
        '<h2>Timeline</h2><p class="legend">In each lane sends above, polls and all else below; where operations are '
        f"too short for a bar of their own, the worst of them gives the colour:{spans}</p>\n"
    )


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    heads = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    return f"<div><h2>{escape(caption)}</h2><table><tr>{heads}</tr>\n{lines}</table></div>\n"


def _figures(statistics: Statistics) -> str:
    sent = statistics.sent
    general = [
        ("records acked", f"{sent['ok']:,}"),
        ("records unknown", f"{sent['unknown']:,}"),
        ("records failed", f"{sent['failed']:,}"),
        ("records polled", f"{statistics.polled:,}"),
        ("acked and never polled", f"{statistics.unseen:,}"),
        ("client processes", f"{statistics.processes:,}"),
    ]
    if statistics.worst_lag is not None:
        general.append(("worst realtime lag", f"{statistics.worst_lag.lag_ns / SECOND_NS:.2f} s"))
    gaps = [gap for gap in (statistics.longest_gap,) if gap is not None]
    gaps += [gap for _, gap in sorted(statistics.longest_gaps.items())]
    faults = [
        (kind, f"{count.count:,}", f"{count.lasted_ns / SECOND_NS:,.1f} s")
        for kind, count in sorted(statistics.faults.items())
    ]
    return (
        '<div class="tables">'
        + _table("Operations", ("client", "operation", "ok", "failed", "unknown"), _operations(statistics))
        + _table("Figures", ("", ""), general)
        + _table("Longest time without an ack", ("partition", "length", "from"), _gaps(gaps, statistics))
        + _table("Faults", ("kind", "times", "in all"), faults)
        + "</div>"
    )


def _operations(statistics: Statistics) -> Iterator[tuple[str, ...]]:
    counts: dict[tuple[str, str], Counter[str]] = {}
    for (client, kind, outcome), count in statistics.operations.items():
        counts.setdefault((client, kind), Counter())[outcome] += count
    for (client, kind), outcomes in sorted(counts.items()):
        yield client, kind, *(f"{outcomes[outcome]:,}" for outcome in ("ok", "failed", "unknown"))


def _gaps(gaps: Iterable[Gap], statistics: Statistics) -> Iterator[tuple[str, ...]]:
    for gap in gaps:
        began_s = (gap.began_ns - statistics.began_ns) / SECOND_NS
        where = "any" if gap.partition is None else str(gap.partition)
        yield where, f"{gap.length_ns / SECOND_NS:.2f} s", f"{began_s:,.2f} s"


def _entries(picture: Picture) -> str:
    """What the anomalies point to, whole."""
    if not picture.shown:
        return ""
    lines = []
    for number, entry in sorted(picture.shown.items()):
        raw = to_line(entry).rstrip()
        cut = raw if len(raw) <= SHOWN_OF_AN_ENTRY else raw[:SHOWN_OF_AN_ENTRY] + " …"
        link, words = str(number), ""
        if isinstance(entry, Operation):
            link = f'<a href="#mark-{number}">{number}</a>'
            words = f"{escape(described(entry))}<br>"
        lines.append(f'<tr id="entry-{number}"><td>{link}</td><td>{words}<code>{escape(cut)}</code></td></tr>\n')
    return f'<h2>Entries that show anomalies</h2><table class="words">{"".join(lines)}</table>\n'
