"""A cluster that is not one: real gRPC servers over partitions in memory, and faults on demand.

It keeps the rules that a client can see (epochs, sequences, duplicates, offsets) and none of those behind them: each
partition has one log that all brokers share, as if replication took no time. Everything runs on one event loop.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from harness.fake_group_coordinator import FakeGroupCalls, FakeGroups
from klamm.proto import broker_pb2 as pb
from klamm.proto import broker_pb2_grpc, command_pb2, controller_pb2
from klamm.proto.errors import ErrorCode, KafkaError
from klamm.proto.identifiers import GRPC_MESSAGE_BYTES_MAX
from klamm.proto.record_batch import check_produced_batch, parse_header, set_offset_and_epoch

MESSAGE_BYTES_MAX = 1_048_588


@dataclass
class ProduceFault:
    """What happens to the next batches: `times` of them, of any partition or of one."""

    error: ErrorCode | None = None  # the answer
    append: bool = False  # written all the same
    break_stream: bool = False  # instead of an answer
    held: asyncio.Event | None = None  # it happens once this is set
    times: int = 1
    partition: int | None = None
    hint: bool = True
    message: str = ""


@dataclass
class StoredBatch:
    base_offset: int
    next_offset: int
    epoch: int
    max_timestamp: int
    data: bytes


@dataclass
class ProducerEntry:
    epoch: int
    batches: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=5))  # first, last, base offset


class FakePartition:
    """One log, one leader; `replicas` is only told."""

    def __init__(self, topic: str, partition: int, leader: int, replicas: list[int]) -> None:
        self.topic = topic
        self.partition = partition
        self.leader: int | None = leader
        self.leader_epoch = 0
        self.partition_epoch = 0
        self.replicas = replicas
        self.log_start_offset = 0
        self.end_offset = 0
        self.batches: list[StoredBatch] = []
        self.producers: dict[int, ProducerEntry] = {}
        self.epoch_starts: dict[int, int] = {0: 0}
        self.grown = asyncio.Condition()
        self.appends = 0
        self.duplicates = 0

    def append(self, data: bytes, message_bytes_max: int) -> tuple[ErrorCode, int]:
        try:
            header = check_produced_batch(data, size_bytes_max=message_bytes_max)
        except KafkaError as error:
            return error.error_code, -1
        if header.producer_id >= 0:
            error_code, offset = self._check_sequence(header)
            if error_code is not None:
                return error_code, offset
        stored = bytearray(data)
        set_offset_and_epoch(stored, self.end_offset, self.leader_epoch)
        base = self.end_offset
        self.end_offset += header.record_count
        self.batches.append(StoredBatch(base, self.end_offset, self.leader_epoch, header.max_timestamp, bytes(stored)))
        self.appends += 1
        if header.producer_id >= 0:
            entry = self.producers[header.producer_id]
            entry.batches.append((header.base_sequence, header.last_sequence, base))
        return ErrorCode.NONE, base

    def _check_sequence(self, header: Any) -> tuple[ErrorCode | None, int]:
        entry = self.producers.get(header.producer_id)
        if entry is None:
            self.producers[header.producer_id] = ProducerEntry(header.producer_epoch)
            return None, -1
        if header.producer_epoch < entry.epoch:
            return ErrorCode.INVALID_PRODUCER_EPOCH, -1
        if header.producer_epoch > entry.epoch:
            if header.base_sequence != 0:
                return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1
            self.producers[header.producer_id] = ProducerEntry(header.producer_epoch)
            return None, -1
        for first, last, base in entry.batches:
            if (first, last) == (header.base_sequence, header.last_sequence):
                self.duplicates += 1
                return ErrorCode.NONE, base
        if entry.batches and header.base_sequence != (entry.batches[-1][1] + 1) & 0x7FFFFFFF:
            return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1
        return None, -1

    def truncate_to(self, offset: int) -> None:
        """Loses the end of the log, as an unclean election does; the new leader has another epoch."""
        self.batches = [batch for batch in self.batches if batch.next_offset <= offset]
        self.end_offset = self.batches[-1].next_offset if self.batches else self.log_start_offset
        for entry in self.producers.values():
            kept = [known for known in entry.batches if known[2] < self.end_offset]
            entry.batches = deque(kept, maxlen=5)
        self.leader_epoch += 1
        self.epoch_starts[self.leader_epoch] = self.end_offset

    def values(self) -> list[bytes | None]:
        """Every value in the log, in order."""
        from klamm.proto.record_codec import read_batch

        return [record.value for batch in self.batches for record in read_batch(batch.data)]

    def read(self, offset: int, max_bytes: int) -> bytes:
        found: list[bytes] = []
        size = 0
        for batch in self.batches:
            if batch.next_offset > offset:
                if found and size + len(batch.data) > max_bytes:
                    break
                found.append(batch.data)
                size += len(batch.data)
        return b"".join(found)

    def end_of_epoch(self, epoch: int) -> tuple[int, int]:
        """The largest epoch not above `epoch`, and where it ends."""
        known = max(candidate for candidate in self.epoch_starts if candidate <= epoch)
        later = [start for candidate, start in self.epoch_starts.items() if candidate > known]
        return known, min(later, default=self.end_offset)


class FakeCluster:
    """Start it, make topics, hurt it, stop it."""

    def __init__(self, brokers: int = 3) -> None:
        self.cluster_id = "fake-cluster"
        self.brokers = [FakeBroker(self, broker_id) for broker_id in range(brokers)]
        self.topics: dict[str, tuple[uuid.UUID, list[FakePartition]]] = {}
        self.faults: list[ProduceFault] = []
        self.fetch_faults: list[tuple[ErrorCode, int]] = []
        self.metadata_offset = 1
        self.next_producer_id = 1000
        self.message_bytes_max = MESSAGE_BYTES_MAX
        self.auto_create = False
        self.requests: list[Any] = []
        self.groups = FakeGroups()
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> FakeCluster:
        self._ticking = asyncio.get_running_loop().create_task(self.groups.tick_forever())
        for broker in self.brokers:
            await broker.start()
        return self

    async def stop(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        for broker in self.brokers:
            await broker.stop()

    async def __aenter__(self) -> FakeCluster:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"127.0.0.1:{broker.port}" for broker in self.brokers)

    def create_topic(self, name: str, partitions: int = 1) -> list[FakePartition]:
        ids = [broker.broker_id for broker in self.brokers]
        made = []
        for number in range(partitions):
            replicas = ids[number % len(ids) :] + ids[: number % len(ids)]
            made.append(FakePartition(name, number, replicas[0], replicas))
        self.topics[name] = (uuid.uuid4(), made)
        self.metadata_offset += 1
        return made

    def partition(self, topic: str, partition: int = 0) -> FakePartition:
        return self.topics[topic][1][partition]

    def move_leader(self, topic: str, partition: int, to: int | None) -> None:
        found = self.partition(topic, partition)
        found.leader = to
        if to is not None:
            found.leader_epoch += 1
            found.epoch_starts[found.leader_epoch] = found.end_offset
        self.metadata_offset += 1

    def fault_for(self, partition: int) -> ProduceFault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.partition in (None, partition):
                fault.times -= 1
                return fault
        return None


class FakeBroker(FakeGroupCalls, broker_pb2_grpc.BrokerServicer):
    """One gRPC server. `alive` and `running` are cleared by `kill` and `pause`."""

    def __init__(self, cluster: FakeCluster, broker_id: int) -> None:
        self.cluster = cluster
        self.broker_id = broker_id
        self.port = 0
        self.alive = False
        self.running = asyncio.Event()
        self.running.set()
        self.waiting = 0  # produce requests that came while it was paused and are not looked at yet
        self.metadata_snapshot: pb.MetadataResponse | None = None  # told instead of the truth, when set
        self._server: Any = None

    async def start(self) -> None:
        self._server = grpc.aio.server(
            options=(
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", GRPC_MESSAGE_BYTES_MAX),
                ("grpc.max_send_message_length", GRPC_MESSAGE_BYTES_MAX),
            )
        )
        broker_pb2_grpc.add_BrokerServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()
        self.alive = True

    async def stop(self) -> None:
        self.running.set()
        if self._server is not None:
            server, self._server = self._server, None
            self.alive = False
            await server.stop(None)

    async def kill(self) -> None:
        """All connections break; leaders stay where they are until the test moves them."""
        await self.stop()
        self.cluster.metadata_offset += 1

    def pause(self) -> None:
        """As SIGSTOP: connections stay, nothing is answered."""
        self.running.clear()

    def resume(self) -> None:
        self.running.set()

    # --- produce ----------------------------------------------------------------------------------------------

    async def Produce(self, request: pb.ProduceRequest, context: Any) -> pb.ProduceResponse:
        response = await self._produce(request)
        if response is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "connection dropped")
        return response

    async def ProduceStream(
        self, requests: AsyncIterator[pb.ProduceRequest], context: Any
    ) -> AsyncIterator[pb.ProduceResponse]:
        async for request in requests:
            response = await self._produce(request)
            if response is None:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "connection dropped")
            yield response

    async def _produce(self, request: pb.ProduceRequest) -> pb.ProduceResponse | None:
        self.waiting += 1
        try:
            await self.running.wait()
        finally:
            self.waiting -= 1
        self.cluster.requests.append(request)
        answers = []
        broken = False
        for entry in request.partitions:
            fault = self.cluster.fault_for(entry.partition)
            if fault is not None and fault.held is not None:
                await fault.held.wait()
            if fault is None or fault.append or (fault.error is None and not fault.break_stream):
                answer = await self._append(entry)
            else:
                answer = self._answer(entry, ErrorCode.NONE)
            if fault is not None and fault.error is not None:
                answer = self._answer(entry, fault.error, message=fault.message)
            broken |= fault is not None and fault.break_stream
            answers.append(answer)
        return None if broken else pb.ProduceResponse(request_id=request.request_id, partitions=answers)

    async def _append(self, entry: pb.PartitionProduceRequest) -> pb.PartitionProduceResponse:
        code, partition = self._led_partition(entry.topic, entry.partition, entry.current_leader_epoch)
        if code is ErrorCode.NONE and entry.topic_id and entry.topic_id != self.cluster.topics[entry.topic][0].bytes:
            code = ErrorCode.INCONSISTENT_TOPIC_ID
        if code is not ErrorCode.NONE or partition is None:
            return self._answer(entry, code)
        code, base = partition.append(entry.records, self.cluster.message_bytes_max)
        async with partition.grown:
            partition.grown.notify_all()
        return self._answer(entry, code, base)

    def _answer(
        self, entry: pb.PartitionProduceRequest, code: ErrorCode, base: int = -1, message: str = ""
    ) -> pb.PartitionProduceResponse:
        answer = pb.PartitionProduceResponse(
            topic=entry.topic,
            partition=entry.partition,
            error_code=code,
            error_message=message,
            base_offset=base,
            log_append_time_ms=-1,
            log_start_offset=0,
        )
        self._hint(answer, entry.topic, entry.partition, code)
        return answer

    def _hint(self, answer: Any, topic: str, number: int, code: ErrorCode) -> None:
        if code in (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH):
            partition = self.cluster.partition(topic, number)
            if partition.leader is not None:
                leader = self.cluster.brokers[partition.leader]
                answer.current_leader.leader_id = leader.broker_id
                answer.current_leader.leader_epoch = partition.leader_epoch
                answer.current_leader.host = "127.0.0.1"
                answer.current_leader.port = leader.port

    def _led_partition(self, topic: str, number: int, epoch: int) -> tuple[ErrorCode, FakePartition | None]:
        known = self.cluster.topics.get(topic)
        if known is None or number >= len(known[1]):
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None
        partition = known[1][number]
        if partition.leader != self.broker_id:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER, partition
        if 0 <= epoch < partition.leader_epoch:
            return ErrorCode.FENCED_LEADER_EPOCH, partition
        if epoch > partition.leader_epoch:
            return ErrorCode.UNKNOWN_LEADER_EPOCH, partition
        return ErrorCode.NONE, partition

    async def InitProducerId(self, request: pb.InitProducerIdRequest, context: Any) -> pb.InitProducerIdResponse:
        await self.running.wait()
        self.cluster.next_producer_id += 1
        return pb.InitProducerIdResponse(producer_id=self.cluster.next_producer_id, producer_epoch=0)

    # --- fetch ------------------------------------------------------------------------------------------------

    async def Fetch(self, request: pb.FetchRequest, context: Any) -> pb.FetchResponse:
        await self.running.wait()
        self.cluster.requests.append(request)
        deadline = asyncio.get_running_loop().time() + request.max_wait_ms / 1000
        while True:
            answers = [self._fetch(entry) for entry in request.partitions]
            size = sum(len(answer.records) for answer in answers)
            remaining = deadline - asyncio.get_running_loop().time()
            special = any(answer.error_code or answer.diverging_epoch_end_offset >= 0 for answer in answers)
            if size >= max(1, request.min_bytes) or special or remaining <= 0:
                return pb.FetchResponse(partitions=answers)
            await asyncio.sleep(min(0.005, remaining))

    def _fetch(self, entry: pb.PartitionFetchRequest) -> pb.PartitionFetchResponse:
        code, partition = self._led_partition(entry.topic, entry.partition, entry.current_leader_epoch)
        if self.cluster.fetch_faults:
            fault, times = self.cluster.fetch_faults.pop(0)
            if times > 1:
                self.cluster.fetch_faults.insert(0, (fault, times - 1))
            code = fault
        elif code is ErrorCode.NONE and entry.topic_id not in (b"", self.cluster.topics[entry.topic][0].bytes):
            code = ErrorCode.INCONSISTENT_TOPIC_ID
        answer = pb.PartitionFetchResponse(
            topic=entry.topic,
            partition=entry.partition,
            diverging_epoch_end_offset=-1,
            diverging_epoch=-1,
            high_watermark=-1,
        )
        if partition is not None:
            answer.high_watermark = answer.last_stable_offset = partition.end_offset
            answer.log_start_offset = partition.log_start_offset
        if code is ErrorCode.NONE and partition is not None:
            if entry.last_fetched_epoch >= 0:
                epoch, end_offset = partition.end_of_epoch(entry.last_fetched_epoch)
                if epoch < entry.last_fetched_epoch or end_offset < entry.fetch_offset:
                    answer.diverging_epoch, answer.diverging_epoch_end_offset = epoch, end_offset
                    return answer
            if not partition.log_start_offset <= entry.fetch_offset <= partition.end_offset:
                code = ErrorCode.OFFSET_OUT_OF_RANGE
            else:
                answer.records = partition.read(entry.fetch_offset, entry.partition_max_bytes)
        answer.error_code = code
        self._hint(answer, entry.topic, entry.partition, code)
        return answer

    async def ListOffsets(self, request: pb.ListOffsetsRequest, context: Any) -> pb.ListOffsetsResponse:
        await self.running.wait()
        return pb.ListOffsetsResponse(partitions=[self._list_offset(entry) for entry in request.partitions])

    def _list_offset(self, entry: pb.PartitionListOffsetsRequest) -> pb.PartitionListOffsetsResponse:
        code, partition = self._led_partition(entry.topic, entry.partition, entry.current_leader_epoch)
        answer = pb.PartitionListOffsetsResponse(
            topic=entry.topic, partition=entry.partition, error_code=code, timestamp=-1, offset=-1, leader_epoch=-1
        )
        if code is not ErrorCode.NONE or partition is None:
            return answer
        answer.leader_epoch = partition.leader_epoch
        if entry.timestamp == -1:
            answer.offset = partition.end_offset
        elif entry.timestamp == -2:
            answer.offset = partition.log_start_offset
        else:
            from klamm.proto.record_codec import read_batch

            for batch in partition.batches:
                for number, record in enumerate(read_batch(batch.data)):
                    if record.timestamp >= entry.timestamp:
                        answer.offset, answer.timestamp = batch.base_offset + number, record.timestamp
                        return answer
        return answer

    # --- metadata and administration -----------------------------------------------------------------------------

    async def GetMetadata(self, request: pb.MetadataRequest, context: Any) -> pb.MetadataResponse:
        await self.running.wait()
        self.cluster.requests.append(request)
        if self.metadata_snapshot is not None:
            return self.metadata_snapshot
        cluster = self.cluster
        names = list(cluster.topics) if request.all_topics else list(request.topics)
        if cluster.auto_create and request.allow_auto_topic_creation:
            for name in names:
                if name not in cluster.topics:
                    cluster.create_topic(name)
        return pb.MetadataResponse(
            cluster_id=cluster.cluster_id,
            controller_id=0,
            brokers=[broker.description() for broker in cluster.brokers if broker.alive],
            topics=[self._describe(name) for name in names],
            metadata_end_offset=cluster.metadata_offset,
        )

    def description(self) -> pb.BrokerDescription:
        return pb.BrokerDescription(broker_id=self.broker_id, host="127.0.0.1", port=self.port, broker_epoch=1)

    def _describe(self, name: str) -> pb.TopicDescription:
        known = self.cluster.topics.get(name)
        if known is None:
            legal = name and all(letter.isalnum() or letter in "._-" for letter in name)
            code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if legal else ErrorCode.INVALID_TOPIC_EXCEPTION
            return pb.TopicDescription(name=name, error_code=code)
        return pb.TopicDescription(
            name=name,
            topic_id=known[0].bytes,
            partitions=[
                pb.PartitionDescription(
                    partition=partition.partition,
                    leader_id=-1 if partition.leader is None else partition.leader,
                    leader_epoch=partition.leader_epoch,
                    error_code=ErrorCode.LEADER_NOT_AVAILABLE if partition.leader is None else 0,
                    replicas=partition.replicas,
                    isr=partition.replicas,
                    partition_epoch=partition.partition_epoch,
                )
                for partition in known[1]
            ],
        )

    async def DescribeCluster(self, request: pb.DescribeClusterRequest, context: Any) -> pb.DescribeClusterResponse:
        await self.running.wait()
        return pb.DescribeClusterResponse(
            cluster_id=self.cluster.cluster_id,
            broker_id=self.broker_id,
            brokers=[broker.description() for broker in self.cluster.brokers],
            quorum=controller_pb2.DescribeQuorumResponse(controller_id=0, active_controller_id=0, ready=True),
            metadata_end_offset=self.cluster.metadata_offset,
        )

    async def CreateTopics(self, request: pb.CreateTopicsRequest, context: Any) -> pb.CreateTopicsResponse:
        await self.running.wait()
        self.cluster.requests.append(request)
        created = []
        for topic in request.command.topics:
            if topic.name in self.cluster.topics:
                created.append(command_pb2.CreatedTopic(name=topic.name, error_code=ErrorCode.TOPIC_ALREADY_EXISTS))
                continue
            if not request.command.validate_only:
                self.cluster.create_topic(topic.name, max(1, topic.num_partitions))
            created.append(command_pb2.CreatedTopic(name=topic.name, num_partitions=max(1, topic.num_partitions)))
        return pb.CreateTopicsResponse(result=command_pb2.CreateTopicsResult(topics=created))

    async def DeleteTopics(self, request: pb.DeleteTopicsRequest, context: Any) -> pb.DeleteTopicsResponse:
        await self.running.wait()
        outcomes = []
        for topic in request.command.topics:
            found = self.cluster.topics.pop(topic.name, None)
            self.cluster.metadata_offset += 1
            code = ErrorCode.NONE if found else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            outcomes.append(command_pb2.TopicOutcome(name=topic.name, error_code=code))
        return pb.DeleteTopicsResponse(result=command_pb2.DeleteTopicsResult(topics=outcomes))


def stored_headers(partition: FakePartition) -> list[Any]:
    """The headers of every stored batch."""
    return [parse_header(batch.data) for batch in partition.batches]
