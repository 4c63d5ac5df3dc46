"""The page is well-formed and says what was found."""

from __future__ import annotations

from html.parser import HTMLParser

from soak.judge import judge
from soak.page import page, row, sparkline
from soak.sampler import METRICS

MINUTES_20 = 1200.0


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)


def test_a_chart_for_each_metric_that_was_recorded_and_a_line_for_each_life() -> None:
    leak = [(float(second), 1e8 + 1e5 * second) for second in range(0, 1200, 2)]
    lives = {
        "broker-1": [{"resident memory": leak, "tasks": [(0.0, 3.0), (2.0, 4.0)]}],
        "a<b": [{"tasks": [(9.0, 0.0)]}],
    }
    verdicts = judge(lives, MINUTES_20)
    text = page("soak & more", ["20 minutes"], lives, METRICS, [(60.0, 75.0)], verdicts)
    seen = Elements(text).seen
    assert (seen.count("svg"), seen.count("polyline"), seen.count("rect")) == (2, 3, 2)
    assert "a&lt;b" in text and "a<b" not in text and "soak &amp; more" in text
    assert text.count('class="rises"') == 1
    assert [row(each, "bytes")[-1] for each in verdicts] == ["RISES", "too short to judge", "too short to judge"]


def test_a_sparkline_goes_from_the_lowest_to_the_highest() -> None:
    assert sparkline([(0, 1), (1, 2), (2, 8)]) == "▁▂█"
    assert sparkline([(0, 5), (1, 5)]) == "▁▁"
    assert sparkline([]) == ""
    assert len(sparkline([(n, n) for n in range(1000)], width=10)) == 10
