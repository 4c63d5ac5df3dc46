"""The rows of the comparison, by the numbers of its table, and the curves of the first three."""

from __future__ import annotations

from typing import Final

from . import rows_cost, rows_many, rows_sdk, rows_throughput, rows_time
from .row import Goal, Row

RATE: Final = "records/s"
AS_FAST: Final = Goal(1.0)
AS_GOOD: Final = Goal(1.0, at_most=True)
FIFTH: Final = Goal(0.2, at_most=True)
HALF_THE_TIME: Final = Goal(0.5, at_most=True)

# Rows that share a cluster run in this order: those that want a new one, or break it, have one alone.
ROWS: Final = (
    Row("1", "produce, 1 broker, acks=1", 1, RATE, AS_FAST, rows_throughput.produce),
    Row("2", "produce, 3 brokers, RF 3, acks=all", 3, RATE, AS_FAST, rows_throughput.produce_replicated),
    Row("3", "consume from page cache", 1, RATE, AS_FAST, rows_throughput.consume),
    Row("4", "latency at 1,000 records/s, RF 3, acks=all", 3, "ms", AS_GOOD, rows_time.latency),
    Row("5", "one-record requests", 1, "requests/s", Goal(0.5), rows_time.one_record_requests),
    Row("6", "start of a 3-broker cluster", 3, "s", FIFTH, rows_time.start, needs_warmth=False),
    Row("7", "resident memory of the 3-broker cluster", 3, "MB", FIFTH, rows_cost.memory),
    Row("8", "kill -9 of a leader", 3, "s", FIFTH, rows_time.leader_failover, needs_warmth=False),
    Row(
        "9",
        "kill -9 of the active controller",
        3,
        "s",
        HALF_THE_TIME,
        rows_time.controller_failover,
        needs_warmth=False,
    ),
    Row("10", "5,000 partitions", 3, "s", AS_GOOD, rows_many.many_partitions, alone=True, needs_warmth=False, rounds=1),
    Row("11", "processor time, RF 3", 3, "CPU s/GB", AS_GOOD, rows_cost.cpu),
    Row("12", "Python clients", 1, RATE, None, rows_sdk.sdk, goals=rows_sdk.GOALS),
    Row("1p", "row 1 over partitions", 1, RATE, None, rows_throughput.produce_to_many_partitions, rounds=3),
    Row("2p", "row 2 over partitions", 3, RATE, None, rows_throughput.produce_replicated_to_many_partitions, rounds=3),
    Row("3p", "row 3 over partitions", 1, RATE, None, rows_throughput.consume_from_many_partitions, rounds=3),
    Row("1c", "row 1 over clients", 1, RATE, None, rows_throughput.produce_over_many_connections, rounds=3),
    Row("2c", "row 2 over clients", 3, RATE, None, rows_throughput.produce_replicated_over_many_connections, rounds=3),
    Row("3c", "row 3 over clients", 1, RATE, None, rows_throughput.consume_over_many_connections, rounds=3),
)
BY_KEY: Final = {row.key: row for row in ROWS}

RUN_ORDER: Final = ("6", "7", "11", "1", "3", "2", "4", "5", "12", "1p", "3p", "2p", "1c", "3c", "2c", "8", "9", "10")
"""First those that look at a new cluster, last those that kill its nodes."""


def in_run_order(keys: set[str]) -> list[Row]:
    """These rows as they are to run."""
    return [BY_KEY[key] for key in RUN_ORDER if key in keys]
