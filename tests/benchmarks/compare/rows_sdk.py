"""Row 12: Klamm's SDK beside the Python clients for Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from . import loads
from .row import PARTITIONS, Goal, Sample, Work
from .systems import KAFKA, KLAMM, Klamm

SDK_CLIENT: Final = loads.BENCHMARKS / "compare" / "sdk_client.py"
PEERS: Final = ("kafka-python", "aiokafka", "confluent-kafka")
RECORDS: Final = {"klamm": 150_000, "kafka-python": 40_000, "aiokafka": 40_000, "confluent-kafka": 150_000}
SIZE: Final = 100
AT_HOME: Final = " at Apache Kafka"
GOALS: Final = {
    f"{what} beside {peer}": Goal(0.7 if peer == "confluent-kafka" else 1.0)
    for what in ("produce", "consume")
    for peer in PEERS
}


def sdk(work: Work) -> Iterator[Sample]:
    """One broker, 6 partitions, records of 100 B. Each client in a process of its own, used as its documentation shows:
    a call of send (produce) for each record and a flush at the end, acks=all, idempotent, linger 5 ms, else its
    defaults; then polls of up to 5,000 records from all partitions from the beginning. Klamm's SDK (150,000 records)
    speaks gRPC with a Klamm broker; its peers, kafka-python (40,000), aiokafka (40,000) and confluent-kafka (150,000),
    stand in the column of Apache Kafka. They speak with a broker of Klamm's, too; in the lines "at Apache Kafka", which
    have no goal, with one of Kafka's. Before the records that are timed a tenth as many are sent. All must be there,
    and be read."""
    if isinstance(work.cluster, Klamm):
        for what, rate in _rates(work, "klamm", work.cluster.local.bootstrap_servers).items():
            for peer in PEERS:
                yield Sample(f"{what} beside {peer}", rate, KLAMM)
                yield Sample(f"{what} beside {peer}{AT_HOME}", rate, KLAMM)
    where = "" if work.cluster.name == KLAMM else AT_HOME
    for peer in PEERS:
        for what, rate in _rates(work, peer, work.servers).items():
            yield Sample(f"{what} beside {peer}{where}", rate, KAFKA)


def _rates(work: Work, client: str, servers: str) -> dict[str, float]:
    topic, count = work.topic(), work.count(RECORDS[client])
    seconds = {}
    for what in ("produce", "consume"):
        (seconds[what],) = loads.run(SDK_CLIENT, what, client, servers, topic, count, PARTITIONS, SIZE)
    loads.check_count(work.servers, topic, PARTITIONS, count + count // 10)
    work.note(f"{client} done")
    return {"produce": count / seconds["produce"], "consume": (count + count // 10) / seconds["consume"]}
