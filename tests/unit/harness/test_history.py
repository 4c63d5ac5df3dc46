"""The file of a history: what was written is read again, and what is damaged is told."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from harness.history import (
    CommittedOffset,
    CompactedLog,
    Entry,
    Fault,
    HistoryError,
    HistoryFile,
    HistoryWriter,
    KeyedRecord,
    LogEntry,
    Operation,
    Polled,
    Position,
    Rebalance,
    ReplicaLog,
    Sent,
    faults_of,
    from_line,
    to_line,
)
from harness.history_model import ModelCampaign

WHOLE: list[Entry] = [
    Operation(
        3, "kafka-python", "send", 5, 9, "unknown",
        sends=(Sent(0, 7, "ok", 3, 8), Sent(1, 8, "unknown"), Sent(1, 9, "failed")), error="KafkaTimeoutError: gave up",
    ),
    Operation(
        4, "klamm", "poll", 6, 7, "ok",
        polls=(Polled(0, 3, 7),), rebalances=(Rebalance((1,), (Position(0, 3), Position(2)), 1),),
    ),
    Operation(4, "klamm", "commit", 8, 9, "ok", positions=(Position(0, 4),), group="g"),
    Fault("kill", "broker 2", 3, None, "signal 9"),
    ReplicaLog(1, "t", 0, (LogEntry(0, 3, 1, "5f"),)),
    Operation(9, "klamm", "final-committed", 3, 4, "ok", positions=(Position(0, 7), Position(1)), group="g"),
    CompactedLog(1, "__consumer_offsets", 3, 8, 9, (KeyedRecord(4, "6b", "76"), KeyedRecord(5, "6c", None)),
                 (CommittedOffset("g", 0, 7),)),
]  # fmt: skip


def _write(path: Path, entries: list[Entry], facts: dict[str, str] | None = None) -> Path:
    with HistoryWriter(path, facts) as writer:
        for entry in entries:
            writer.append(entry)
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    history = HistoryFile(_write(tmp_path / "h.jsonl", WHOLE, {"seed": "17"}))
    assert list(history) == WHOLE
    assert list(history) == WHOLE, "it can be read once more"
    assert history.facts == {"seed": "17"}


def test_a_whole_campaign_is_read_again(tmp_path: Path) -> None:
    entries = ModelCampaign(Random(3)).run(200)
    assert list(HistoryFile(_write(tmp_path / "h.jsonl", entries))) == entries


def test_a_line_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    with HistoryWriter(tmp_path / "h.jsonl") as writer:
        for count, entry in enumerate(WHOLE, start=1):
            writer.append(entry)
            assert list(HistoryFile(tmp_path / "h.jsonl")) == WHOLE[:count]


def test_a_line_that_a_crash_cut_short_is_passed_over(tmp_path: Path) -> None:
    path = _write(tmp_path / "h.jsonl", WHOLE)
    whole = path.read_bytes()
    begin = len(whole) - len(to_line(WHOLE[-1]))
    for end in (begin, begin + 1, len(whole) - 1):
        path.write_bytes(whole[:end])
        assert list(HistoryFile(path)) == WHOLE[:-1]


def test_a_history_is_not_written_over_another(tmp_path: Path) -> None:
    path = _write(tmp_path / "h.jsonl", WHOLE)
    with pytest.raises(FileExistsError):
        HistoryWriter(path)
    assert list(HistoryFile(path)) == WHOLE


@pytest.mark.parametrize("text", ["", "\n", "hello\n", "[]\n", '{"format":"another"}\n'])
def test_another_file_is_no_history(tmp_path: Path, text: str) -> None:
    (tmp_path / "h.jsonl").write_text(text)
    with pytest.raises(HistoryError, match=r"h\.jsonl is no history: its first line is"):
        HistoryFile(tmp_path / "h.jsonl")


def test_another_version_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "h.jsonl").write_text('{"format":"klamm-history","version":2,"facts":{}}\n')
    with pytest.raises(HistoryError, match="a history of version 2; this reads 1"):
        HistoryFile(tmp_path / "h.jsonl")


def test_a_damaged_line_is_told_with_its_number(tmp_path: Path) -> None:
    path = _write(tmp_path / "h.jsonl", WHOLE)
    lines = path.read_text().splitlines(keepends=True)
    lines[2] = lines[2].replace("[", "", 1)
    path.write_text("".join(lines))
    with pytest.raises(HistoryError, match=r"h\.jsonl, line 3: not JSON"):
        list(HistoryFile(path))


@pytest.mark.parametrize(
    "damage",
    [
        {"kind": "sned"},
        {"outcome": "info"},
        {"sends": [[0, 7]]},
        {"sends": [[0, "7", "ok", 3, None]]},
        {"sends": [[0, 7, "info", 3, None]]},
        {"polls": [[0, 3, None]]},
        {"polls": 3},
        {"rebalances": [[[1], []]]},
        {"process": None},
        {"ended_ns": 7.5},
    ],
)
def test_what_is_no_operation_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(HistoryError, match="no entry"):
        from_line(json.dumps(json.loads(to_line(WHOLE[0])) | damage))


@pytest.mark.parametrize(
    "line", ["3", "null", "[]", '"kind"', "{}", '{"fault":"kill"}', '{"replica":1,"entries":[[1]]}']
)
def test_what_is_no_entry_is_refused(line: str) -> None:
    with pytest.raises(HistoryError, match="no entry"):
        from_line(line)


def test_the_end_of_a_fault_replaces_its_beginning() -> None:
    begun = Fault("kill", "broker 2", 3)
    over = Fault("kill", "broker 2", 3, 9, "was away 6 ns")
    other = Fault("pause", "broker 2", 1, 2)
    assert faults_of([begun, WHOLE[0], other, over]) == [other, over]
