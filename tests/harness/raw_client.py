"""A client without manners: bare gRPC calls to brokers, batches with broken headers, and what processes weigh."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc
import psutil
from crc32c import crc32c
from klamm.deploy.local import LocalCluster
from klamm.proto.broker_pb2 import (
    FetchRequest,
    ListOffsetsRequest,
    PartitionFetchRequest,
    PartitionFetchResponse,
    PartitionListOffsetsRequest,
    PartitionListOffsetsResponse,
    PartitionProduceRequest,
    PartitionProduceResponse,
    ProduceRequest,
)
from klamm.proto.broker_pb2_grpc import BrokerStub
from klamm.proto.record_batch import batches, check_batch

from .record_batches import record_batch

CALL_SECONDS = 10.0
"""No call of a test may take longer: whatever a client sends, it is answered."""
NOW_MS = 1_700_000_000_000

_CRC_OFFSET, _CRC_START = 17, 21
HEADER_FIELDS = {
    "batch_length": (8, ">i"),
    "magic": (16, ">b"),
    "crc": (_CRC_OFFSET, ">I"),
    "attributes": (21, ">h"),
    "last_offset_delta": (23, ">i"),
    "max_timestamp": (35, ">q"),
    "record_count": (57, ">i"),
}


def lying_batch(values: Sequence[bytes] = (b"a", b"b", b"c"), *, sign: bool = True, **fields: int) -> bytes:
    """A batch whose header says what `fields` say; signed anew, so that nothing but the lie is wrong with it."""
    batch = record_batch(values, timestamps=NOW_MS)
    for name, value in fields.items():
        offset, form = HEADER_FIELDS[name]
        struct.pack_into(form, batch, offset, value)
    if sign:
        struct.pack_into(">I", batch, _CRC_OFFSET, crc32c(bytes(batch[_CRC_START:])))
    return bytes(batch)


class RawBroker:
    """One broker's gRPC door."""

    def __init__(self, address: str) -> None:
        options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
        self.channel = grpc.insecure_channel(address, options=(*options, ("grpc.use_local_subchannel_pool", 1)))
        self.stub = BrokerStub(self.channel)

    def produce(
        self, topic: str, records: bytes, *, partition: int = 0, acks: int = -1, topic_id: bytes = b""
    ) -> PartitionProduceResponse:
        entry = PartitionProduceRequest(
            topic=topic, topic_id=topic_id, partition=partition, current_leader_epoch=-1, records=records
        )
        request = ProduceRequest(request_id=1, acks=acks, timeout_ms=5_000, partitions=[entry])
        return self.stub.Produce(request, timeout=CALL_SECONDS).partitions[0]

    def fetch(
        self, topic: str, offset: int = 0, *, partition: int = 0, max_bytes: int = 1 << 20
    ) -> PartitionFetchResponse:
        request = FetchRequest(
            max_wait_ms=0, max_bytes=max_bytes, partitions=[fetch_partition(topic, offset, partition, max_bytes)]
        )
        return self.stub.Fetch(request, timeout=CALL_SECONDS).partitions[0]

    def end_offset(self, topic: str, partition: int = 0) -> int:
        """The high watermark as the leader says it."""
        answer = self._list_offsets(topic, partition)
        assert answer.error_code == 0, answer
        return int(answer.offset)

    def leads(self, topic: str, partition: int = 0) -> bool:
        """Answers only a leader's call."""
        return self._list_offsets(topic, partition).error_code == 0

    def _list_offsets(self, topic: str, partition: int) -> PartitionListOffsetsResponse:
        entry = PartitionListOffsetsRequest(topic=topic, partition=partition, current_leader_epoch=-1, timestamp=-1)
        return self.stub.ListOffsets(ListOffsetsRequest(partitions=[entry]), timeout=CALL_SECONDS).partitions[0]


def fetch_partition(topic: str, offset: int, partition: int, max_bytes: int) -> PartitionFetchRequest:
    return PartitionFetchRequest(
        topic=topic,
        partition=partition,
        current_leader_epoch=-1,
        fetch_offset=offset,
        partition_max_bytes=max_bytes,
        last_fetched_epoch=-1,
    )


@contextmanager
def raw_broker(cluster: LocalCluster, broker: int) -> Iterator[RawBroker]:
    """A connection to one broker, closed at the end."""
    raw = RawBroker(cluster.layout.node(broker).address)
    with raw.channel:
        yield raw


@contextmanager
def raw_leader(cluster: LocalCluster, topic: str, partition: int = 0) -> Iterator[RawBroker]:
    """A connection to the broker that leads now, and knows it: another one may have heard of it sooner."""
    what = f"a leader of {topic}-{partition}"
    leader = cluster.wait_until(lambda: cluster.leader_of(topic, partition), what=what)
    with raw_broker(cluster, leader) as raw:
        cluster.wait_until(lambda: raw.leads(topic, partition), what=f"broker {leader} to lead {topic}-{partition}")
        yield raw


def served_offsets(records: bytes) -> list[int]:
    """The offsets in fetched bytes, each batch checked by its CRC: what a broker serves is never damaged."""
    offsets: list[int] = []
    for position, _ in batches(records):
        header = check_batch(records, position)
        offsets += range(header.base_offset, header.next_offset)
    return offsets


def resident_bytes(cluster: LocalCluster, node: int | str) -> int:
    """What the node's process holds in memory now."""
    pid = cluster.pid_of(node)
    assert pid is not None, f"{node} is down"
    return int(psutil.Process(pid).memory_info().rss)


def node_log(cluster: LocalCluster, node: int | str) -> str:
    """All that the node has logged."""
    return cluster.layout.node(node).log_path.read_text(encoding="utf-8", errors="replace")
