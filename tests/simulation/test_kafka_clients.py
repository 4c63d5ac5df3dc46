"""A whole simulated cluster with clients of Kafka's protocol alone: aiokafka over the simulated TCP."""

from __future__ import annotations

import pytest
from simulator.kafka_run import run_kafka_clients

CALM = ("calm",) * 4
FAULTS = (
    "kill_broker", "reset", "restart", "cut", "mend", "pause_broker", "stop_broker", "restart", "isolate", "mend",
)  # fmt: skip


def test_nothing_fails_where_nothing_happens() -> None:
    ledger = run_kafka_clients(1, CALM).ledger
    assert ledger.sends and all(send.acked_s is not None for send in ledger.sends)
    read = [poll for poll in ledger.polls if poll.consumer == "reader"]
    assert read and [poll.offset for poll in read] == list(range(len(read)))
    assert ledger.commits and any(poll.consumer != "reader" for poll in ledger.polls)
    assert {owned.consumer for owned in ledger.owned if owned.generation > 0} == {"member-0", "member-1"}


@pytest.mark.parametrize("seed", range(3))
def test_rules_hold_while_everything_fails(seed: int) -> None:
    ledger = run_kafka_clients(seed, FAULTS, crashes=2).ledger
    assert ledger.polls and ledger.owned
    acked = {(send.place, send.offset): send.value for send in ledger.sends if send.strong and send.offset is not None}
    assert acked
    for poll in ledger.polls:
        assert acked.get((poll.place, poll.offset), poll.value) == poll.value
