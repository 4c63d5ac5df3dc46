"""What users and their clients get wrong: each is told what is wrong, loses nothing, and disturbs nobody."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from harness.raw_client import CALL_SECONDS, NOW_MS, lying_batch, node_log, raw_leader, served_offsets
from harness.record_batches import record_batch
from klamm.client import (
    Admin,
    AsyncAdmin,
    AsyncProducer,
    ConfigResource,
    ConfigResourceType,
    Consumer,
    KafkaError,
    MessageSizeTooLargeError,
    NewTopic,
    Producer,
    TopicPartition,
)
from klamm.deploy.local import LocalCluster
from klamm.proto.broker_pb2 import FetchRequest, PartitionProduceRequest, ProduceRequest
from klamm.proto.errors import CorruptRecordError, ErrorCode

pytestmark = pytest.mark.integration

KLAMM = Path(sys.executable).parent / "klamm"
PATIENT_MS = 600_000
"""What the calls of a test are given where they must not need it: `CALL_SECONDS` is their deadline."""
_numbers = count()


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(brokers=3, controllers=1) as started:
        yield started
        for node in started.nodes():
            assert node.process == "running", node.node
            assert "Traceback" not in node_log(started, node.node), "a user's mistake made a stack trace"


@pytest.fixture(scope="module")
def admin(cluster: LocalCluster) -> Iterator[Admin]:
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as opened:
        yield opened


@pytest.fixture
def topic(admin: Admin) -> str:
    """A topic of one partition, one replica, with two records acked: offsets 0 and 1."""
    name = f"topic-{next(_numbers)}"
    admin.create_topics([NewTopic(name, 1, 3)])
    return name


def _refused(cluster: LocalCluster, topic: NewTopic) -> KafkaError:
    """The error, which must come long before the call's own time-out; and nothing was created."""

    async def main() -> KafkaError:
        async with AsyncAdmin(bootstrap_servers=cluster.bootstrap_servers) as admin:
            with pytest.raises(KafkaError) as caught:
                async with asyncio.timeout(CALL_SECONDS):
                    await admin.create_topics([topic], timeout_ms=PATIENT_MS)
            assert not caught.value.retriable
            assert topic.name not in await admin.list_topics()
            return caught.value

    return asyncio.run(main())


# --- topics --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "../etc", "ü", "nul\0", "tab\t", "x" * 250])
def test_invalid_topic_name(cluster: LocalCluster, name: str) -> None:
    error = _refused(cluster, NewTopic(name, 1, 1))
    assert error.error_code is ErrorCode.INVALID_TOPIC_EXCEPTION
    assert re.search(r"empty|'\.' or '\.\.'|illegal|ASCII|longer|long", str(error)), str(error)


def test_a_producer_of_an_invalid_topic_is_told_so(cluster: LocalCluster) -> None:
    async def main() -> None:
        patient = {"max_block_ms": PATIENT_MS, "delivery_timeout_ms": PATIENT_MS}
        async with AsyncProducer(bootstrap_servers=cluster.bootstrap_servers, **patient) as producer:
            with pytest.raises(KafkaError) as caught:
                async with asyncio.timeout(CALL_SECONDS):
                    await producer.send_and_wait("no such name!", b"value")
            assert caught.value.error_code is ErrorCode.INVALID_TOPIC_EXCEPTION
            assert "no such name!" in str(caught.value)

    asyncio.run(main())


@pytest.mark.parametrize("factor", [4, 0, -2, 32767])
def test_replication_factor_that_cannot_be(cluster: LocalCluster, factor: int) -> None:
    error = _refused(cluster, NewTopic("factor", 1, factor))
    assert error.error_code is ErrorCode.INVALID_REPLICATION_FACTOR
    if factor > 3:
        assert re.search(rf"{factor}.*3", str(error)), str(error)


@pytest.mark.parametrize("partitions", [0, -5, 1_000_000, 2**31 - 1])
def test_number_of_partitions_that_cannot_be(cluster: LocalCluster, partitions: int) -> None:
    error = _refused(cluster, NewTopic("partitions", partitions, 1))
    assert error.error_code is ErrorCode.INVALID_PARTITIONS
    assert "10000" in str(error)


def test_a_refused_topic_does_not_fail_its_neighbours(admin: Admin) -> None:
    with pytest.raises(KafkaError):
        admin.create_topics([NewTopic("bad name", 1, 1), NewTopic("good-neighbour", 1, 1)])
    assert "good-neighbour" in admin.list_topics()


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("retention.sm", "1", "retention.ms"),  # says what was meant
        ("no.such.thing", "1", "no.such.thing"),
        ("retention.ms", "soon", "retention.ms"),
        ("retention.ms", "", "retention.ms"),
        ("segment.bytes", "-7", "segment.bytes"),
        ("max.message.bytes", "99999999999999999999", "max.message.bytes"),
        ("min.insync.replicas", "0", "min.insync.replicas"),
        ("cleanup.policy", "shred", "cleanup.policy"),
        ("unclean.leader.election.enable", "perhaps", "unclean.leader.election.enable"),
        ("retention.ms\n", "1", "retention.ms"),
    ],
)
def test_configuration_that_cannot_be(
    cluster: LocalCluster, admin: Admin, topic: str, key: str, value: str, complaint: str
) -> None:
    error = _refused(cluster, NewTopic("configured", 1, 1, topic_configs={key: value}))
    assert error.error_code is ErrorCode.INVALID_CONFIG
    assert complaint in str(error)
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    before = admin.describe_configs([resource])
    with pytest.raises(KafkaError) as caught:
        altered = {key: value, "retention.bytes": "12345"}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, altered)])
    assert caught.value.error_code is ErrorCode.INVALID_CONFIG
    assert complaint in str(caught.value)
    assert admin.describe_configs([resource]) == before, "all of a resource is altered, or nothing"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["topics", "create", "a b"], "a b"),
        (["topics", "create", "t", "--partitions", "0"], "artitions"),
        (["topics", "create", "t", "--replication-factor", "4"], "eplication factor"),
        (["topics", "create", "t", "--config", "retention.sm=1"], "retention.ms"),
        (["topics", "describe", "no-such-topic"], "no-such-topic"),
    ],
)
def test_the_command_line_says_it_in_words(cluster: LocalCluster, arguments: list[str], complaint: str) -> None:
    done = subprocess.run(
        [str(KLAMM), *arguments, "--bootstrap-servers", cluster.bootstrap_servers],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode in (1, 2)
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) <= 8, "an answer, not a stack trace"
    assert "Traceback" not in done.stderr + done.stdout


# --- records -------------------------------------------------------------------------------------------------------


def test_record_above_max_message_bytes(cluster: LocalCluster, admin: Admin) -> None:
    admin.create_topics([NewTopic("small-messages", 1, 3, topic_configs={"max.message.bytes": "2000"})])
    with Producer(bootstrap_servers=cluster.bootstrap_servers, linger_ms=50) as producer:
        sizes = [100, 3_000, 1_500, 1_500, 5_000, 200]
        futures = [producer.send("small-messages", bytes(size), partition=0) for size in sizes]
        for size, future in zip(sizes, futures, strict=True):
            if size < 2_000:
                future.get(timeout=CALL_SECONDS)
            else:
                with pytest.raises(MessageSizeTooLargeError, match=r"max\.message\.bytes") as caught:
                    future.get(timeout=CALL_SECONDS)
                assert "2000" in str(caught.value)
        # What is too large for any request is refused before it is sent, by the argument's name.
        with pytest.raises(MessageSizeTooLargeError, match="max_request_size"):
            producer.send("small-messages", bytes(2_000_000)).get(timeout=CALL_SECONDS)
    with raw_leader(cluster, "small-messages") as broker:
        answer = broker.produce("small-messages", bytes(record_batch([bytes(2_000)], timestamps=NOW_MS)))
        assert answer.error_code == ErrorCode.MESSAGE_TOO_LARGE
        assert re.search(r"2\d\d\d bytes.*max\.message\.bytes.*2000", answer.error_message)
    with Consumer(bootstrap_servers=cluster.bootstrap_servers, consumer_timeout_ms=2_000) as consumer:
        consumer.assign([TopicPartition("small-messages", 0)])
        consumer.seek_to_beginning()
        assert [len(record.value) for record, _ in zip(consumer, range(4), strict=False)] == [100, 1_500, 1_500, 200]


_GOOD = bytes(record_batch([b"a", b"b", b"c"], timestamps=NOW_MS))


@pytest.mark.parametrize(
    ("records", "error", "complaint"),
    [
        (lying_batch(crc=0x12345678, sign=False), ErrorCode.CORRUPT_MESSAGE, "CRC"),
        (_GOOD[:-1] + bytes([_GOOD[-1] ^ 1]), ErrorCode.CORRUPT_MESSAGE, "CRC"),
        (lying_batch(batch_length=len(_GOOD)), ErrorCode.CORRUPT_MESSAGE, "bytes, of which"),
        (lying_batch(batch_length=len(_GOOD) - 13), ErrorCode.CORRUPT_MESSAGE, ""),
        (lying_batch(batch_length=0), ErrorCode.CORRUPT_MESSAGE, "length"),
        (lying_batch(batch_length=-1), ErrorCode.CORRUPT_MESSAGE, "length"),
        (lying_batch(batch_length=2**31 - 1), ErrorCode.MESSAGE_TOO_LARGE, "max.message.bytes"),
        (lying_batch(magic=0), ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT, "v0"),
        (lying_batch(magic=1), ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT, "v1"),
        (lying_batch(magic=3), ErrorCode.CORRUPT_MESSAGE, "magic 3"),
        (lying_batch(magic=-1), ErrorCode.CORRUPT_MESSAGE, "magic"),
        (lying_batch(record_count=0), ErrorCode.CORRUPT_MESSAGE, "records"),
        (lying_batch(record_count=-3), ErrorCode.CORRUPT_MESSAGE, "count"),
        (lying_batch(record_count=4), ErrorCode.CORRUPT_MESSAGE, "4 records"),
        (lying_batch(last_offset_delta=7), ErrorCode.CORRUPT_MESSAGE, "delta 7"),
        (lying_batch(last_offset_delta=-1), ErrorCode.CORRUPT_MESSAGE, "delta"),
        (lying_batch(record_count=10_000, last_offset_delta=9_999), ErrorCode.CORRUPT_MESSAGE, "can hold"),
        (lying_batch(attributes=7), ErrorCode.CORRUPT_MESSAGE, "compression 7"),
        (lying_batch(attributes=0x20), ErrorCode.INVALID_RECORD, "control"),
        (lying_batch(max_timestamp=2**62), ErrorCode.INVALID_TIMESTAMP, "timestamps"),
        (_GOOD + _GOOD, ErrorCode.CORRUPT_MESSAGE, "one batch"),
        (_GOOD + b"\0", ErrorCode.CORRUPT_MESSAGE, "one batch"),
        (_GOOD[:60], ErrorCode.CORRUPT_MESSAGE, "header"),
        (_GOOD[:-5], ErrorCode.CORRUPT_MESSAGE, "bytes, of which"),
        (b"", ErrorCode.CORRUPT_MESSAGE, "header"),
        (b"GET / HTTP/1.1\r\n\r\n" * 9, ErrorCode.CORRUPT_MESSAGE, "magic"),
    ],
)
def test_batch_that_is_not_what_its_header_says(
    cluster: LocalCluster, shared_topic: str, records: bytes, error: ErrorCode, complaint: str
) -> None:
    with raw_leader(cluster, shared_topic) as broker:
        assert broker.produce(shared_topic, _GOOD).error_code == 0
        end_offset = broker.end_offset(shared_topic)
        for acks in (-1, 1):
            answer = broker.produce(shared_topic, records, acks=acks)
            assert answer.error_code == error, answer
            assert complaint in answer.error_message
            assert answer.base_offset == -1
        assert broker.produce(shared_topic, _GOOD).base_offset == end_offset, "nothing of it was appended"
        assert served_offsets(broker.fetch(shared_topic, end_offset - 3).records)[:6] == [
            *range(end_offset - 3, end_offset + 3)
        ]


@pytest.fixture(scope="module")
def shared_topic(admin: Admin) -> str:
    admin.create_topics([NewTopic("raw", 1, 1, topic_configs={"message.timestamp.after.max.ms": "3600000"})])
    return "raw"


@pytest.mark.parametrize("compression", [0, 1, 2, 3, 4])
def test_record_count_that_lies_consistently_is_the_consumers_to_find(
    cluster: LocalCluster, admin: Admin, compression: int
) -> None:
    """A broker opens no batch, so five records announced and three sent pass it. A consumer must neither invent
    records nor drop the lie unsaid, and must be able to go on behind it.
    """
    name = f"lies-{compression}"
    admin.create_topics([NewTopic(name, 1, 1)])
    partition = TopicPartition(name, 0)
    values = [bytes(200), bytes(200), bytes(200)]
    lie = bytearray(record_batch(values, timestamps=NOW_MS, compression=compression))
    with raw_leader(cluster, name) as broker:
        assert broker.produce(name, _GOOD).base_offset == 0
        assert broker.produce(name, _with_counts(lie, 5)).base_offset == 3
        assert broker.produce(name, _with_counts(lie, 2)).base_offset == 8
        assert broker.produce(name, _GOOD).base_offset == 10
    with Consumer(bootstrap_servers=cluster.bootstrap_servers, auto_offset_reset="earliest") as consumer:
        consumer.assign([partition])
        assert _poll(consumer, 3) == [(0, b"a"), (1, b"b"), (2, b"c")]
        # Announced 5, held 3: the batch goes on to be read, and refused, until the consumer is told to go on.
        # Announced 2, held 3: what was announced is given; that there was more is said once.
        for base_offset, next_offset, tries in ((3, 8, 2), (8, 10, 1)):
            given: list[tuple[int, bytes]] = []
            for _ in range(tries):
                with pytest.raises(CorruptRecordError) as caught:
                    _poll(consumer, 10, given)
                assert f"{name}-0" in str(caught.value)
                assert f"offset {base_offset} " in str(caught.value)
                assert f"seek to {next_offset}" in str(caught.value)
            assert given == [(base_offset + index, bytes(200)) for index in range(min(3, next_offset - base_offset))]
            consumer.seek(partition, next_offset)
        assert _poll(consumer, 3) == [(10, b"a"), (11, b"b"), (12, b"c")]


def _with_counts(batch: bytearray, records: int) -> bytes:
    """Says so many records, in both places, and signs it."""
    import struct

    from crc32c import crc32c

    changed = bytearray(batch)
    struct.pack_into(">i", changed, 23, records - 1)
    struct.pack_into(">i", changed, 57, records)
    struct.pack_into(">I", changed, 17, crc32c(bytes(changed[21:])))
    return bytes(changed)


def _poll(consumer: Consumer, wanted: int, found: list[tuple[int, bytes]] | None = None) -> list[tuple[int, bytes]]:
    """So many records, or the consumer's error with those before it in `found`, within the deadline."""
    found = [] if found is None else found
    deadline = time.monotonic() + CALL_SECONDS
    while len(found) < wanted and time.monotonic() < deadline:
        for records in consumer.poll(timeout_ms=500, max_records=wanted).values():
            found += [(record.offset, record.value) for record in records]
    return found


# --- requests ------------------------------------------------------------------------------------------------------


def test_requests_that_make_no_sense(cluster: LocalCluster, shared_topic: str) -> None:
    import grpc

    with raw_leader(cluster, shared_topic) as broker:
        for partition in (-1, 1, 2**31 - 1):
            answer = broker.produce(shared_topic, _GOOD, partition=partition)
            assert answer.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            assert broker.fetch(shared_topic, partition=partition).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert broker.produce("", _GOOD).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert broker.produce(shared_topic, _GOOD, topic_id=bytes(16)).error_code == ErrorCode.UNKNOWN_TOPIC_ID
        for offset in (-1, -(2**63), 2**63 - 1):
            fetched = broker.fetch(shared_topic, offset)
            assert fetched.error_code == ErrorCode.OFFSET_OUT_OF_RANGE, offset
            assert not fetched.records
        assert broker.fetch(shared_topic, 0, max_bytes=-1).error_code == 0
        for acks in (2, -2):
            with pytest.raises(grpc.RpcError) as caught:
                broker.produce(shared_topic, _GOOD, acks=acks)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "acks" in caught.value.details()
        assert not broker.stub.Fetch(FetchRequest(max_wait_ms=10**9), timeout=CALL_SECONDS).partitions
        crowd = [PartitionProduceRequest(topic=shared_topic, partition=n) for n in range(10_001)]
        with pytest.raises(grpc.RpcError, match="10000"):
            broker.stub.Produce(ProduceRequest(acks=1, partitions=crowd), timeout=CALL_SECONDS)
