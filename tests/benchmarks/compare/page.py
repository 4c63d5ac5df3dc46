"""docs/performance.md: the generated part, between two marks; what people write around it stays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from .charts import draw
from .results import Comparison, RowResult, Spread, number
from .row import Row
from .systems import KAFKA, KLAMM
from .table import ROWS

COLUMNS: Final = ("#", "work", "unit", "Klamm", "Apache Kafka", "ratio", "goal", "reached")
BEGIN: Final = "<!-- what follows is written by make bench-compare -->"
END: Final = "<!-- up to here -->"
METHOD: Final = """`make bench-compare` runs all of them, `make bench-compare ROWS="1 5" ROUNDS=5` some. In turns: first
Klamm, then Apache Kafka, then Klamm again; those with the same number of brokers share a cluster, which is new in
each round. Everything runs on one machine, over loopback, log folders on one disk. Klamm has its default settings: 3
controllers beside 3 brokers, or 1 beside 1. Apache Kafka runs in KRaft mode from its published jars, with the settings
of its config/server.properties, a heap of 1 GB and the collector of its start script; each node is broker and
controller, which is kinder to it than to give controllers processes of their own. Its own log, the log of the collector
and JMX are off. Before the first row that measures throughput, latency or processor time, a cluster is warmed up, as
Java needs it: 200,000 records of 1 KB are produced and consumed, at least 4 times, until that has not become a tenth
faster for two turns, for 30 s at most."""
TITLE: Final = """# Performance

Klamm measured beside Apache Kafka, in turns, on one machine.
"""


def publish(docs: Path, stored: Mapping[str, RowResult]) -> None:
    """Writes the page and the charts that it shows."""
    charts = draw(docs, stored)
    path = docs / "performance.md"
    before, after = TITLE, ""
    if path.exists():
        before, found, rest = path.read_text(encoding="utf-8").partition(BEGIN)
        if found:
            after = rest.partition(END)[2]
    content = f"{before.rstrip()}\n\n{BEGIN}\n\n{generated(stored, charts)}\n{END}\n{after.lstrip(chr(10))}"
    path.write_text(content, encoding="utf-8")


def generated(stored: Mapping[str, RowResult], charts: Mapping[str, str]) -> str:
    """The table, the charts (title by file), how each row is run, and on which machine."""
    parts = ["\n".join(_table(stored))]
    parts += [f"![{title}]({file})" for file, title in charts.items()]
    failed = [f"* row {key}: {error}" for key, result in stored.items() for error in result.errors]
    if failed:
        parts.append("\n".join(["Rounds that failed and do not count:", "", *failed]))
    parts.append("\n".join(_how(stored)))
    parts.append("\n".join(_environments(stored)))
    return "\n\n".join(parts) + "\n"


def cells(row: Row, result: RowResult) -> Iterator[tuple[str, ...]]:
    """A line of the table for each figure of a row."""
    if not result.figures:
        sides = tuple(result.missing.get(side, "failed") for side in (KLAMM, KAFKA))
        yield (row.key, row.title, row.unit, *sides, "", str(row.goal or ""), "not measured")
    for figure, samples in result.figures.items():
        compared = Comparison.of(figure, samples, row.goal_of(figure))
        yield (
            row.key,
            f"{row.title}: {figure}",
            row.unit,
            _side(compared.klamm, KLAMM, result),
            _side(compared.kafka, KAFKA, result),
            "" if compared.ratio is None else number(compared.ratio),
            str(compared.goal or ""),
            compared.verdict,
        )


def _side(spread: Spread | None, side: str, result: RowResult) -> str:
    return str(spread) if spread is not None else result.missing.get(side, "-")


def _table(stored: Mapping[str, RowResult]) -> Iterator[str]:
    yield "Median (least .. most) of all rounds. The ratio is Klamm's median by Apache Kafka's."
    yield ""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"| {' | '.join('---' for _ in COLUMNS)} |"
    for row in ROWS:
        if row.key in stored:
            for line in cells(row, stored[row.key]):
                yield f"| {' | '.join(line)} |"


def _how(stored: Mapping[str, RowResult]) -> Iterator[str]:
    yield "## How each row is run"
    yield ""
    yield METHOD
    for row in ROWS:
        if row.key in stored:
            result = stored[row.key]
            scaled = "" if result.scale == 1 else f" **Only {result.scale:g} of that work was done.**"
            yield ""
            yield f"**Row {row.key}, {row.title}** ({result.rounds} rounds). {row.how}{scaled}"


def _environments(stored: Mapping[str, RowResult]) -> Iterator[str]:
    yield "## Where and when"
    by_environment: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for key in (row.key for row in ROWS):
        if key in stored:
            what = tuple(stored[key].environment.items())
            by_environment.setdefault(what, []).append(key)
    for what, keys in by_environment.items():
        measured = sorted({stored[key].measured for key in keys})
        when = measured[0] if len(measured) == 1 else f"{measured[0]} to {measured[-1]}"
        yield ""
        yield f"Rows {', '.join(keys)}, {when}: {'; '.join(f'{name} {value}' for name, value in what)}."
