"""Rows 1 to 3: records per second, produced and consumed by confluent-kafka; and how that changes with many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from . import loads
from .row import PARTITIONS, Sample, Work

KILOBYTE: Final = 1000
MANY_PARTITIONS: Final = (1, 10, 100, 1000)
MANY_CLIENTS: Final = (1, 10, 100)
CURVE_RECORDS: Final = 60_000
REPLICATED_CURVE_RECORDS: Final = 40_000


def produce(work: Work) -> Iterator[Sample]:
    """One broker, a topic of 6 partitions. One confluent-kafka producer in a process of its own, its defaults but
    acks=1, sends 600,000 records of 100 B, then 200,000 of 1 KB, to one partition after the other, 20,000 records
    each. Time is from the first record to the last ack; before, one record opens the connection. At the end the
    partitions' end offsets must add up to what was sent."""
    for size, records, name in ((100, 600_000, "100 B"), (KILOBYTE, 200_000, "1 KB")):
        topic, count = work.topic(), work.count(records)
        yield Sample(name, loads.produce(work.servers, topic, count, PARTITIONS, size, "1"))


def produce_replicated(work: Work) -> Iterator[Sample]:
    """Three brokers, a topic of 6 partitions with 3 replicas. As row 1, with acks=all: 400,000 records of 100 B,
    150,000 of 1 KB, 20,000 of 10 KB."""
    for size, records, name in ((100, 400_000, "100 B"), (KILOBYTE, 150_000, "1 KB"), (10 * KILOBYTE, 20_000, "10 KB")):
        topic, count = work.topic(PARTITIONS, 3), work.count(records)
        yield Sample(name, loads.produce(work.servers, topic, count, PARTITIONS, size, "all"))


def consume(work: Work) -> Iterator[Sample]:
    """One broker, a topic of 6 partitions that has just been written: 300,000 records of 1 KB, so they are in the page
    cache. confluent-kafka consumers with their defaults, but that one whose queue was full looks again after 10 ms:
    the default of a second would measure how long it sleeps, above all where the broker is quick. They are assigned to
    all partitions from the beginning: one process, then three that have two partitions each and are let go together.
    Time is from the first assignment to the last record; all records must arrive."""
    topic, count = work.topic(), work.count(300_000)
    loads.produce(work.servers, topic, count, PARTITIONS, KILOBYTE, "1")
    for consumers, name in ((1, "1 consumer"), (3, "3 consumers")):
        yield Sample(name, loads.consume(work.servers, topic, count + 1, PARTITIONS, processes=consumers))


# --- curves ----------------------------------------------------------------------------------------------------------


def produce_to_many_partitions(work: Work) -> Iterator[Sample]:
    """As row 1, 60,000 records of 1 KB, to topics of 1, 10, 100 and 1,000 partitions; where 20,000 records for each
    partition are more than there are, each gets its share of them in one go."""
    yield from _partition_curve(work, 1, "1", CURVE_RECORDS)


def produce_replicated_to_many_partitions(work: Work) -> Iterator[Sample]:
    """As row 2, 40,000 records of 1 KB, to topics of 1, 10, 100 and 1,000 partitions, as in the curve of row 1."""
    yield from _partition_curve(work, 3, "all", REPLICATED_CURVE_RECORDS)


def consume_from_many_partitions(work: Work) -> Iterator[Sample]:
    """As row 3 with one consumer: 60,000 records of 1 KB from topics of 1, 10, 100 and 1,000 partitions."""
    count = work.count(CURVE_RECORDS)
    for partitions in MANY_PARTITIONS:
        topic = work.topic(partitions)
        loads.produce(work.servers, topic, count, partitions, KILOBYTE, "1")
        yield _point(partitions, "partition", loads.consume(work.servers, topic, count + 1, partitions))
        work.delete_topics()


def produce_over_many_connections(work: Work) -> Iterator[Sample]:
    """As row 1, 60,000 records of 1 KB, by 1, 10 and 100 confluent-kafka producers in one process, each with
    connections of its own, that take turns after each 1,000 records."""
    yield from _connection_curve(work, 1, "1", CURVE_RECORDS)


def produce_replicated_over_many_connections(work: Work) -> Iterator[Sample]:
    """As row 2, 40,000 records of 1 KB, by 1, 10 and 100 producers as in the curve of row 1."""
    yield from _connection_curve(work, 3, "all", REPLICATED_CURVE_RECORDS)


def consume_over_many_connections(work: Work) -> Iterator[Sample]:
    """As row 3: 60,000 records of 1 KB in 100 partitions, read by 1, 10 and 100 consumers in one process, each with
    connections of its own and an equal share of the partitions."""
    count, partitions = work.count(CURVE_RECORDS), max(MANY_CLIENTS)
    topic = work.topic(partitions)
    loads.produce(work.servers, topic, count, partitions, KILOBYTE, "1")
    for clients in MANY_CLIENTS:
        rate = loads.consume(work.servers, topic, count + 1, partitions, clients=clients)
        yield _point(clients, "client", rate)


def _partition_curve(work: Work, replication_factor: int, acks: str, records: int) -> Iterable[Sample]:
    count = work.count(records)
    for partitions in MANY_PARTITIONS:
        topic = work.topic(partitions, replication_factor)
        yield _point(partitions, "partition", loads.produce(work.servers, topic, count, partitions, KILOBYTE, acks))
        work.delete_topics()


def _connection_curve(work: Work, replication_factor: int, acks: str, records: int) -> Iterable[Sample]:
    count = work.count(records)
    for clients in MANY_CLIENTS:
        topic = work.topic(PARTITIONS, replication_factor)
        rate = loads.produce(work.servers, topic, count, PARTITIONS, KILOBYTE, acks, clients)
        yield _point(clients, "client", rate)


def _point(x: int, of_what: str, value: float) -> Sample:
    return Sample(f"{x:,} {of_what}{'s' if x > 1 else ''}", value)
