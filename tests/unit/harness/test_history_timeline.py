"""The timeline is one file that stands alone, shows every operation, fault and anomaly, and stays small."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import pytest
from harness import history_picture
from harness.history import Entry, Fault, HistoryFile, HistoryWriter, Operation, Outcome, Sent
from harness.history_by_hand import SECOND_NS, HandMade
from harness.history_checker import check
from harness.history_model import ModelCampaign
from harness.history_picture import gather, runs
from harness.history_timeline import write_timeline

OUTCOMES: tuple[Outcome, ...] = ("ok", "unknown", "failed")


def _drawn(tmp_path: Path, entries: list[Entry]) -> str:
    path = tmp_path / "timeline.html"
    write_timeline(entries, check(entries), path)
    return path.read_text()


def _plot(page: str) -> ElementTree.Element:
    """The picture itself: it is well-formed, or this raises."""
    svg = page[page.index('<div class="scroll"><svg') + len('<div class="scroll">') :]
    return ElementTree.fromstring(svg[: svg.index("</svg>") + len("</svg>")])


def _titles(page: str) -> list[str]:
    return [title.text or "" for title in _plot(page).iter("title")]


def test_it_stands_alone(tmp_path: Path) -> None:
    page = _drawn(tmp_path, ModelCampaign(Random(1)).run(300))
    assert "<script" not in page
    assert re.findall(r'(?:src|href)="(?!#)', page) == []
    assert "url(" not in page
    assert page.startswith("<!doctype html>")


def test_each_anomaly_leads_to_what_shows_it(tmp_path: Path) -> None:
    history = HandMade()
    history.send(1, (100, 0), (101, 1), (102, 2))
    history.send(1, (103, 2))
    history.read_all(0, (2, 103))
    page = _drawn(tmp_path, history.entries)
    assert "lost-write" in page and "inconsistent-offsets" in page
    targets = set(re.findall(r'href="#([^"]+)"', page))
    ids = re.findall(r'id="([^"]+)"', page)
    assert {"entry-0", "entry-1", "mark-0", "mark-1"} <= targets
    assert targets <= set(ids)
    assert len(ids) == len(set(ids))


def test_every_fault_has_its_name_and_its_times(tmp_path: Path) -> None:
    history = HandMade()
    for offset in range(20):
        history.send(1, (100 + offset, offset))
    history.entries += [
        Fault("kill", "broker 2", 3 * SECOND_NS, 6 * SECOND_NS, "signal 9"),
        Fault("cut", "<2 | 1>", 4 * SECOND_NS),
    ]
    page = _drawn(tmp_path, history.entries)
    texts = [text.text for text in _plot(page).iter("text")]
    assert "kill broker 2" in texts
    assert "cut <2 | 1>" in texts
    assert any("kill broker 2, from 3.000 s to 6.000 s\nsignal 9" in title for title in _titles(page))
    assert any("cut <2 | 1>, from 4.000 s to the end" in title for title in _titles(page))


def test_many_short_faults_are_drawn_without_their_names(tmp_path: Path) -> None:
    history = HandMade()
    for offset in range(20):
        history.send(1, (100 + offset, offset))
    history.entries += [Fault("kill", f"broker {n}", 3 * SECOND_NS + n, 3 * SECOND_NS + n) for n in range(40)]
    history.entries += [Fault("cut", "broker 1", 4 * SECOND_NS, 16 * SECOND_NS)]
    page = _drawn(tmp_path, history.entries)
    texts = [text.text for text in _plot(page).iter("text")]
    assert "cut broker 1" in texts
    assert "kill broker 7" not in texts
    assert sum("kill broker 7, from 3.000 s" in title for title in _titles(page)) == 1


def test_long_operations_have_bars_and_short_ones_are_counted(tmp_path: Path) -> None:
    entries: list[Entry] = [
        Operation(
            1, "klamm", "send", 0, 5 * SECOND_NS, "unknown", (Sent(0, 100, "unknown"),), error="TimeoutError: <late>"
        )
    ]
    entries += [Operation(2, "klamm", "poll", n, n, "ok") for n in range(0, 100_000, 1_000)]
    entries.append(Operation(2, "klamm", "poll", 10 * SECOND_NS, 10 * SECOND_NS, "failed"))
    titles = _titles(_drawn(tmp_path, entries))
    assert any("process 1 (klamm) send: unknown" in title and "TimeoutError: <late>" in title for title in titles)
    assert any(title.endswith(": 100 poll ok") for title in titles)
    assert any(title.endswith(": 1 poll failed") for title in titles)


def test_every_operation_is_counted_once() -> None:
    entries = ModelCampaign(Random(4), processes=5).run(600)
    picture = gather(entries, check(entries))
    shown = 0
    for lane in picture.processes.values():
        for track in (lane.sends, lane.others):
            shown += len(track.bars) + sum(sum(run.counts.values()) for run in runs(track))
    assert shown == sum(isinstance(entry, Operation) for entry in entries)
    assert sum(picture.acked_by_column()) == check(entries).statistics.sent["ok"]


def test_processes_that_follow_one_another_share_a_lane() -> None:
    entries: list[Entry] = []
    for process in range(100):
        for began_s in range(10):
            began_ns = (process // 10 * 10 + began_s) * SECOND_NS
            entries.append(Operation(process, "klamm", "poll", began_ns, began_ns + SECOND_NS // 2, "ok"))
    lanes = gather(entries, check(entries)).lanes()
    assert [len(lane) for lane in lanes] == [10] * 10
    for lane in lanes:
        assert all(one.ended_ns <= two.began_ns for one, two in pairwise(lane))


def test_a_long_history_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations of all outcomes in every column: nothing can be drawn as one."""
    monkeypatch.setattr(history_picture, "CELLS_MAX", 1_000)
    entries: list[Entry] = []
    random = Random(2)
    for n in range(4_000):
        began_ns = n * SECOND_NS // 10
        outcome = random.choice(OUTCOMES)
        entries.append(Operation(n % 4, "klamm", "poll", began_ns, began_ns + 1, outcome))
    verdict = check(entries)
    picture = gather(entries, verdict)
    drawn = [run for lane in picture.processes.values() for run in runs(lane.others)]
    assert len(drawn) <= 1_000
    assert sum(sum(run.counts.values()) for run in drawn) == len(entries)
    write_timeline(entries, verdict, tmp_path / "timeline.html")
    assert (tmp_path / "timeline.html").stat().st_size < 300_000


def test_an_empty_history_has_a_page(tmp_path: Path) -> None:
    assert "No anomaly" in _drawn(tmp_path, [])


def test_facts_of_the_file_are_on_the_page(tmp_path: Path) -> None:
    with HistoryWriter(tmp_path / "h.jsonl", {"seed": "17 & more"}) as writer:
        writer.append(Operation(1, "klamm", "poll", 0, 1, "ok"))
    history = HistoryFile(tmp_path / "h.jsonl")
    write_timeline(history, check(history), tmp_path / "timeline.html")
    assert "seed <b>17 &amp; more</b>" in (tmp_path / "timeline.html").read_text()
