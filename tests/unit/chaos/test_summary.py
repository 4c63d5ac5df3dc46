"""The table of a campaign says what its history says."""

from __future__ import annotations

from chaos.summary import as_text
from harness.history import Entry, Fault, Operation, Polled, Sent
from harness.history_checker import check

SECOND = 1_000_000_000


def send(process: int, client: str, began_s: int, *sent: Sent) -> Operation:
    outcomes = {one.outcome for one in sent}
    outcome = outcomes.pop() if len(outcomes) == 1 else "unknown"
    return Operation(process, client, "send", began_s * SECOND, (began_s + 1) * SECOND, outcome, sends=sent)


HISTORY: list[Entry] = [
    Fault("kill -9 of a broker", "broker-1", 2 * SECOND, None),
    send(1, "klamm", 1, Sent(0, 11, "ok", 0), Sent(1, 12, "ok", 0)),
    send(1, "klamm", 3, Sent(0, 13, "unknown")),
    send(2, "kafka-python", 1, Sent(0, 21, "failed")),
    send(1, "klamm", 20, Sent(0, 14, "ok", 2), Sent(1, 15, "unknown")),
    Operation(2, "kafka-python", "poll", 21 * SECOND, 22 * SECOND, "ok", polls=(Polled(0, 0, 11),)),
    Fault("kill -9 of a broker", "broker-1", 2 * SECOND, 6 * SECOND),
    Fault("disk full", "broker-2", 8 * SECOND, 9 * SECOND),
]


def lines_of(text: str) -> dict[str, list[str]]:
    """The rows by their first words, numbers as they stand."""
    return {line[:42].strip(): line[42:].split() for line in text.splitlines() if line.startswith("  ")}


def test_faults_operations_and_records_are_counted() -> None:
    text = as_text(check(HISTORY).statistics, {"disk full": 2, "slow link": 1}, ["orders-0", "visits-0"])
    rows = lines_of(text)
    assert rows["kill -9 of a broker"] == ["1", "4", "0"]
    assert rows["disk full"] == ["1", "1", "2"]
    assert rows["slow link"] == ["0", "0", "1"]
    assert rows["send"] == ["1", "1", "2", "4"]
    assert rows["send, klamm"] == ["1", "0", "2", "3"]
    assert rows["poll, kafka-python"] == ["1", "0", "0", "1"]
    assert "records sent 6: acked 3, failed 1, unknown 2" in text
    assert "records polled 1, acked and never polled 2" in text


def test_the_longest_silence_is_named() -> None:
    text = as_text(check(HISTORY).statistics, {}, ["orders-0", "visits-0"])
    assert "longest time without any ack 19.0 s" in text
    assert "longest time without an ack of one partition 19.0 s (" in text


def test_an_empty_history_has_a_table() -> None:
    assert "records sent 0" in as_text(check([]).statistics, {}, [])
