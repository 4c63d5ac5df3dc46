"""The page and the charts that are made of results."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from benchmarks.compare import charts, page
from benchmarks.compare.charts import Bar, bars_of, panel_of
from benchmarks.compare.results import RowResult
from benchmarks.compare.rows_sdk import GOALS
from benchmarks.compare.systems import KAFKA, KLAMM
from benchmarks.compare.table import BY_KEY, ROWS, RUN_ORDER

SVG = "{http://www.w3.org/2000/svg}"


def row(figures: dict[str, tuple[list[float], list[float]]], **others: object) -> RowResult:
    sides = {figure: {KLAMM: klamm, KAFKA: kafka} for figure, (klamm, kafka) in figures.items()}
    fields: dict[str, object] = {"scale": 1.0, "rounds": 5, "figures": sides} | others
    return RowResult("2026-01-01", environment={"processor": "one & only"}, **fields)  # type: ignore[arg-type]


def everything() -> dict[str, RowResult]:
    stored = {key: row({"it": ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])}) for key in BY_KEY}
    for key in ("1p", "2p", "3p"):
        stored[key] = row({f"{x:,} partitions": ([10.0 * x], [5.0]) for x in (1, 10, 100, 1000)})
    for key in ("1c", "2c", "3c"):
        stored[key] = row({f"{x} clients": ([10.0 / x, 12.0 / x], [5.0]) for x in (1, 10, 100)})
    return stored


def test_every_row_has_its_place_and_tells_how_it_is_run() -> None:
    assert sorted(RUN_ORDER) == sorted(BY_KEY)
    assert len(BY_KEY) == len(ROWS)
    for each in ROWS:
        assert len(each.how) > 50
        assert "  " not in each.how
    assert len(GOALS) == 6


def test_a_line_has_medians_spread_ratio_goal_and_verdict() -> None:
    (line,) = page.cells(BY_KEY["1"], row({"100 B": ([3.0, 1.0, 2.0], [1.0, 1.0, 4.0])}))
    assert line == (
        "1", "produce, 1 broker, acks=1: 100 B", "records/s", "2 (1 .. 3)", "1 (1 .. 4)", "2", "at least 1.0", "yes"
    )  # fmt: skip


def test_where_java_is_missing_the_column_says_so() -> None:
    (line,) = page.cells(BY_KEY["1"], row({"100 B": ([3.0], [])}, missing={KAFKA: "there is no Java"}))
    assert line[3:] == ("3 (once)", "there is no Java", "", "at least 1.0", "not measured")
    (line,) = page.cells(BY_KEY["6"], row({}, missing={KAFKA: "there is no Java"}, errors=["klamm: it failed"]))
    assert line[3:] == ("failed", "there is no Java", "", "at most 0.2", "not measured")


def test_the_page_keeps_what_people_wrote_around_it(tmp_path: Path) -> None:
    page.publish(tmp_path, everything())
    path = tmp_path / "performance.md"
    written = path.read_text()
    assert written.startswith("# Performance\n")
    path.write_text("# Ours\n\nbefore\n\n" + written[written.index(page.BEGIN) :] + "\nafter\n")
    page.publish(tmp_path, {"1": row({"100 B": ([3.0], [2.0])}, scale=0.5)})
    again = path.read_text()
    assert again.startswith(f"# Ours\n\nbefore\n\n{page.BEGIN}\n")
    assert again.endswith(f"{page.END}\nafter\n")
    assert "Only 0.5 of that work was done" in again
    assert "Row 2," not in again
    page.publish(tmp_path, {"1": row({"100 B": ([3.0], [2.0])}, scale=0.5)})
    assert path.read_text() == again


def test_failures_and_the_machine_are_told() -> None:
    told = page.generated({"1": row({}, errors=["kafka: it failed"]), "2": row({"1 KB": ([1.0], [1.0])})}, {})
    assert "* row 1: kafka: it failed" in told
    assert "Rows 1, 2, 2026-01-01: processor one & only." in told


def test_charts_are_drawn_of_what_there_is(tmp_path: Path) -> None:
    assert set(charts.draw(tmp_path, everything())) == {
        "performance.svg", "performance-partitions.svg", "performance-clients.svg"
    }  # fmt: skip
    for file in tmp_path.iterdir():
        ElementTree.fromstring(file.read_text())
    assert charts.draw(tmp_path / "none", {}) == {}


def test_a_bar_tells_how_many_times_better() -> None:
    stored = {
        "1": row({"100 B": ([30.0], [20.0])}),
        "6": row({"start": ([1.0], [4.0])}),
        "12": row(
            {"produce beside kafka-python": ([4.0], [2.0]), "produce beside kafka-python at home": ([4.0], [2.0])}
        ),
        "8": row({"kill": ([1.0], [])}),
    }
    assert list(bars_of(stored)) == [
        Bar("1 produce, 1 broker, acks=1: 100 B", 1.5, 1.0),
        Bar("6 start of a 3-broker cluster: start", 4.0, 5.0),
        Bar("12 Python clients: produce beside kafka-python", 2.0, 1.0),
    ]


def test_bars_go_right_of_one_when_ahead_and_left_when_behind() -> None:
    document = ElementTree.fromstring(charts.bar_chart("a & b", [Bar("ahead", 4.0, 1.0), Bar("behind", 0.25, None)]))
    ahead, behind = document.iter(f"{SVG}rect")
    assert (ahead.get("class"), behind.get("class")) == ("klamm", "behind")
    assert float(ahead.get("x", 0)) == float(behind.get("x", 0)) + float(behind.get("width", 0))
    assert ahead.get("width") == behind.get("width")
    goals = [line for line in document.iter(f"{SVG}line") if line.get("class") == "goal"]
    assert [line.get("x1") for line in goals] == [ahead.get("x")]


def test_a_curve_goes_by_its_number() -> None:
    figures = {
        "1,000 partitions": ([1.0], [4.0]),
        "1 partition": ([2.0, 3.0, 4.0], []),
        "10 partitions": ([5.0], [6.0]),
    }
    panel = panel_of("1p", row(figures))
    assert [x for x, _ in panel.lines[KLAMM]] == [1, 10, 1000]
    assert [x for x, _ in panel.lines[KAFKA]] == [10, 1000]
    document = ElementTree.fromstring(charts.line_charts("curves", [panel, panel]))
    lines = [line.get("points", "").split() for line in document.iter(f"{SVG}polyline")]
    assert [len(points) for points in lines] == [3, 2, 3, 2]
    assert lines[0][1].split(",")[0] == lines[1][0].split(",")[0], "both sides' 10 partitions stand above each other"
