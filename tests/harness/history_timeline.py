"""The timeline of a campaign: one HTML file, the picture as inline SVG, without a script and without a link outside.

Time runs to the right. On top lie the faults, each with its name, and their shadows fall through everything below; then
the acked records per second, the times without an ack of each partition, and a lane for each client process: sends in
its upper half, all else in its lower, coloured by outcome. What is small says what it is when the pointer rests on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

from harness.history import Entry, Fault, HistoryFile, Operation
from harness.history_checker import Verdict
from harness.history_picture import Picture, ProcessLane, Run, Track, gather, runs
from harness.history_timeline_page import COLOURS, page

WIDTH_MIN, WIDTH_MAX, WIDTH_OF_A_SECOND = 1_200, 6_000, 5  # of the plot
NAMED_FAULT_ROWS_MAX = 24  # with more, only the faults that last have room for their names
LABELS = 190
LANE, FAULT_ROW, GAP_ROW, ACKS, AXIS, SPACE = 18, 15, 13, 70, 20, 14
LETTER = 6.2  # the width of a letter of a label
SECOND_NS = 1_000_000_000
FAULT_COLOURS = ("#5b6abf", "#b0653a", "#3a8a9e", "#8e5aa8", "#7d8a2e", "#a8476f", "#4f7f5b", "#836b4f")
STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600)


def write_timeline(history: Iterable[Entry], verdict: Verdict, path: Path) -> None:
    """Writes the page of a history and what the checker said of it, in place of any that was there."""
    facts = history.facts if isinstance(history, HistoryFile) else {}
    picture = gather(history, verdict)
    path.write_text(page(picture, verdict, facts, _Drawing(picture, verdict).svg()), encoding="utf-8")


class _Placed(NamedTuple):
    fault: Fault
    row: int
    colour: str


class _Drawing:
    def __init__(self, picture: Picture, verdict: Verdict) -> None:
        self._picture = picture
        self._verdict = verdict
        self._span_ns = max(1, picture.ended_ns - picture.began_ns)
        self._width = min(WIDTH_MAX, max(WIDTH_MIN, WIDTH_OF_A_SECOND * self._span_ns // SECOND_NS))
        self._all_named = True
        self._faults = self._place_faults()
        if any(placed.row >= NAMED_FAULT_ROWS_MAX for placed in self._faults):
            self._all_named = False
            self._faults = self._place_faults()
        self._y_of_process: dict[int, int] = {}
        self._plot: list[str] = []
        self._labels: list[str] = []

    def svg(self) -> str:
        """The labels and, beside them in a box that scrolls, the plot."""
        y = AXIS
        y = self._draw_faults(y) + SPACE
        y = self._draw_acks(y) + SPACE
        y = self._draw_gaps(y) + SPACE
        y = self._draw_lanes(y)
        marks = list(self._marks())
        behind = [*self._grid(y), *self._shadows(y)]
        height = y + AXIS
        return (
            f'<div class="picture"><svg width="{LABELS}" height="{height}">{"".join(self._labels)}</svg>'
            f'<div class="scroll"><svg width="{self._width}" height="{height}">'
            f"{''.join(behind)}{''.join(self._plot)}{''.join(marks)}</svg></div></div>\n"
        )

    def _x(self, time_ns: int) -> float:
        inside = min(max(time_ns, self._picture.began_ns), self._picture.ended_ns) - self._picture.began_ns
        return round(inside * self._width / self._span_ns, 1)

    def _at(self, time_ns: int) -> str:
        return f"{(time_ns - self._picture.began_ns) / SECOND_NS:.3f} s"

    def _label(self, y: float, text: str, title: str = "") -> None:
        short = text if len(text) <= 29 else text[:28] + "…"
        self._labels.append(
            f'<text x="{LABELS - 8}" y="{y}" text-anchor="end">{escape(short)}{_title(title or text)}</text>'
        )

    def _rect(self, x: float, y: float, width: float, height: float, style: str, title: str = "") -> str:
        size = f'x="{x:g}" y="{y:g}" width="{max(width, 0.8):.4g}" height="{height:g}"'
        return f"<rect {size} {style}>{_title(title)}</rect>" if title else f"<rect {size} {style}/>"

    def _grid(self, bottom: int) -> Iterator[str]:
        step_s = next((step for step in STEPS_S if step * self._width >= 90 * self._span_ns / SECOND_NS), STEPS_S[-1])
        for tick in range(int(self._span_ns / SECOND_NS / step_s) + 1):
            x = self._x(self._picture.began_ns + int(tick * step_s * SECOND_NS))
            yield f'<path d="M{x} {AXIS - 5}V{bottom}" class="grid"/>'
            for y in (AXIS - 8, bottom + 14):
                yield f'<text x="{x + 2}" y="{y}" class="tick">{_clock(tick * step_s)}</text>'

    def _place_faults(self) -> list[_Placed]:
        """Each in the first row where it and its name do not lie over another's."""
        kinds = sorted({fault.kind for fault in self._picture.faults})
        ends: list[float] = []
        placed = []
        for fault in self._picture.faults:
            begin = self._x(fault.began_ns)
            room = LETTER * len(_name(fault)) if self._all_named else 0
            end = max(self._x(self._until(fault)), begin + 8 + room)
            row = next((row for row, taken in enumerate(ends) if taken <= begin), len(ends))
            if row == len(ends):
                ends.append(end)
            ends[row] = end
            placed.append(_Placed(fault, row, FAULT_COLOURS[kinds.index(fault.kind) % len(FAULT_COLOURS)]))
        return placed

    def _until(self, fault: Fault) -> int:
        return self._picture.ended_ns if fault.ended_ns is None else fault.ended_ns

    def _draw_faults(self, y: int) -> int:
        for fault, row, colour in self._faults:
            x, top = self._x(fault.began_ns), y + row * FAULT_ROW
            name = _name(fault)
            end = "the end" if fault.ended_ns is None else self._at(fault.ended_ns)
            title = f"{name}, from {self._at(fault.began_ns)} to {end}\n{fault.detail}"
            width = self._x(self._until(fault)) - x
            style = f'fill="{colour}" fill-opacity=".45"'
            self._plot.append(self._rect(x, top + 1, max(2, width), FAULT_ROW - 2, style, title))
            text_x = min(x + 3, self._width - LETTER * len(name) - 3)
            if self._all_named or width >= LETTER * len(name):
                self._plot.append(f'<text x="{text_x:g}" y="{top + 11}">{escape(name)}{_title(title)}</text>')
        rows = 1 + max((placed.row for placed in self._faults), default=0)
        self._label(y + 11, f"{len(self._faults)} faults")
        return y + rows * FAULT_ROW

    def _shadows(self, bottom: int) -> Iterator[str]:
        for fault, row, colour in self._faults:
            x, top = self._x(fault.began_ns), AXIS + (row + 1) * FAULT_ROW
            width = max(1, self._x(self._until(fault)) - x)
            yield self._rect(x, top, width, bottom - top, f'fill="{colour}" fill-opacity=".07"')

    def _draw_acks(self, y: int) -> int:
        counts = self._picture.acked_by_column()
        seconds = self._picture.column_ns / SECOND_NS
        rates = [count / seconds for count in counts]
        highest = max(rates, default=0.0) or 1.0
        step = self._width * self._picture.column_ns / self._span_ns
        points = [f"0 {y + ACKS}"]
        for column, rate in enumerate(rates):
            height = y + ACKS - ACKS * rate / highest
            points += [f"{column * step:.1f} {height:.1f}", f"{(column + 1) * step:.1f} {height:.1f}"]
        points.append(f"{self._width} {y + ACKS}")
        self._plot.append(f'<path d="M{"L".join(points)}Z" class="acks"/>')
        self._label(y + 11, "acked records a second")
        self._label(y + 26, f"up to {highest:,.0f}")
        gap = self._verdict.statistics.longest_gap
        if gap is not None:
            x, width = self._x(gap.began_ns), self._x(gap.ended_ns) - self._x(gap.began_ns)
            said = f"longest time without an ack: {gap.length_ns / SECOND_NS:.2f} s"
            title = f"{said}, from {self._at(gap.began_ns)} to {self._at(gap.ended_ns)}"
            self._plot.append(self._rect(x, y, width, ACKS, 'class="longest"', title))
            text_x = min(x + 3, self._width - LETTER * len(said))
            self._plot.append(f'<text x="{text_x:g}" y="{y + 11}" class="gap">{said}</text>')
        return y + ACKS

    def _draw_gaps(self, y: int) -> int:
        least_ns = max(SECOND_NS, self._span_ns // self._width)
        for partition, gaps in self._picture.gaps(least_ns).items():
            self._label(y + 10, f"partition {partition} without acks")
            self._plot.append(self._rect(0, y, self._width, GAP_ROW - 3, 'class="lane"'))
            for gap in gaps:
                x = self._x(gap.began_ns)
                title = f"partition {partition}: {gap.length_ns / SECOND_NS:.2f} s without an ack from "
                title += self._at(gap.began_ns)
                style = f'fill="{COLOURS["gap"]}" fill-opacity="{min(1, 0.2 + gap.length_ns / 15 / SECOND_NS):.2g}"'
                self._plot.append(self._rect(x, y, self._x(gap.ended_ns) - x, GAP_ROW - 3, style, title))
            y += GAP_ROW
        return y

    def _draw_lanes(self, y: int) -> int:
        client = ""
        for lane in self._picture.lanes():
            if lane[0].client != client and client:
                y += SPACE // 2
            client = lane[0].client
            numbers = ", ".join(str(process.process) for process in lane)
            self._label(y + 12, f"{client} {numbers}", f"{client}, processes {numbers}" if len(lane) > 1 else "")
            self._plot.append(self._rect(0, y, self._width, LANE - 2, 'class="lane"'))
            for process in lane:
                self._y_of_process[process.process] = y
                self._draw_process(process, y, named=len(lane) > 1)
            y += LANE
        return y

    def _draw_process(self, process: ProcessLane, y: int, *, named: bool) -> None:
        half = LANE // 2 - 1
        for track, top in ((process.sends, y), (process.others, y + half)):
            self._draw_track(process, track, top, half - 0.5)
        if process.crashed:
            x = self._x(process.ended_ns)
            title = f"process {process.process} was thrown away at {self._at(process.ended_ns)}"
            self._plot.append(f'<path d="M{x} {y - 1}v{LANE}" class="crash">{_title(title)}</path>')
        if named:
            x = self._x(process.began_ns)
            self._plot.append(f'<text x="{x + 2}" y="{y + 7}" class="process">{process.process}</text>')

    def _draw_track(self, process: ProcessLane, track: Track, y: float, height: float) -> None:
        for run in runs(track):
            x = self._x(self._column_began_ns(run.first))
            width = self._x(self._column_began_ns(run.last + 1)) - x
            style = f'class="{run.outcome}"'
            self._plot.append(self._rect(x, y, width, height, style, self._run_title(process, run)))
        for bar in track.bars:
            x = self._x(bar.began_ns)
            width = self._x(bar.ended_ns) - x
            title = f"{bar.title}\nfrom {self._at(bar.began_ns)} to {self._at(bar.ended_ns)}"
            self._plot.append(self._rect(x, y, width, height, f'class="{bar.outcome} own"', title))

    def _column_began_ns(self, column: int) -> int:
        return self._picture.began_ns + column * self._picture.column_ns

    def _run_title(self, process: ProcessLane, run: Run) -> str:
        counts = ", ".join(f"{count} {what}" for what, count in sorted(run.counts.items()))
        return f"process {process.process}, from {self._at(self._column_began_ns(run.first))}: {counts}"

    def _marks(self) -> Iterator[str]:
        """A diamond on each operation that shows an anomaly."""
        names: dict[int, list[str]] = {}
        for anomaly in self._verdict.anomalies:
            for number in anomaly.entries:
                if anomaly.name.value not in names.setdefault(number, []):
                    names[number].append(anomaly.name.value)
        for number, entry in self._picture.shown.items():
            if isinstance(entry, Operation):
                x = self._x((entry.began_ns + entry.ended_ns) // 2)
                y = self._y_of_process[entry.process] + LANE / 2 - 1
                title = f"entry {number}: {', '.join(names[number])}"
                yield (
                    f'<a href="#entry-{number}" id="mark-{number}"><path d="M{x} {y - 7}l6 7l-6 7l-6 -7Z" class="mark">'
                    f"{_title(title)}</path></a>"
                )


def _name(fault: Fault) -> str:
    return f"{fault.kind} {fault.target}"


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""


def _clock(seconds: float) -> str:
    """`5.5s`, `90s` or, from ten minutes on, `12:30`."""
    return f"{seconds:g}s" if seconds < 600 else f"{int(seconds) // 60}:{int(seconds) % 60:02}"
