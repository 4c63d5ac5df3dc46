"""What a running cluster says of itself, asked over gRPC of whichever nodes answer.

A view only: it changes nothing, and a node that does not answer in time is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Final, TypeVar

import grpc

from ..proto.broker_pb2 import (
    DescribeClusterRequest,
    DescribeClusterResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    MetadataRequest,
    MetadataResponse,
    PartitionListOffsetsRequest,
    TopicDescription,
)
from ..proto.broker_pb2_grpc import BrokerStub
from ..proto.controller_pb2 import DescribeQuorumRequest, DescribeQuorumResponse
from ..proto.controller_pb2_grpc import ControllerStub
from ..proto.identifiers import GRPC_MESSAGE_BYTES_MAX
from .layout import ClusterLayout, NodeSpec

CALL_SECONDS: Final = 2.0
LATEST_TIMESTAMP: Final = -1
CHANNEL_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),  # nodes of a local cluster are never behind a proxy
    ("grpc.use_local_subchannel_pool", 1),  # a new channel to a node that is back does not wait out an old back-off
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.max_receive_message_length", GRPC_MESSAGE_BYTES_MAX),
)

T = TypeVar("T")


class ClusterObserver:
    """Asks the nodes of one cluster; may be used from several threads."""

    def __init__(self, layout: ClusterLayout, is_running: Callable[[NodeSpec], bool]) -> None:
        self._layout = layout
        self._is_running = is_running
        self._channels: dict[str, grpc.Channel] = {}

    def __enter__(self) -> ClusterObserver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections."""
        for name in list(self._channels):
            self.forget(name)

    def forget(self, name: str) -> None:
        """Drops the connection to a node that goes down, so that its next start is met by a fresh one."""
        channel = self._channels.pop(name, None)
        if channel is not None:
            channel.close()

    def ask_broker(self, spec: NodeSpec, timeout_s: float = CALL_SECONDS) -> DescribeClusterResponse | None:
        """The cluster as this broker sees it; None if it does not answer."""
        call = BrokerStub(self._channel(spec)).DescribeCluster
        return _answer(lambda: call(DescribeClusterRequest(), timeout=timeout_s))

    def ask_controller(self, spec: NodeSpec, timeout_s: float = CALL_SECONDS) -> DescribeQuorumResponse | None:
        """The quorum as this controller sees it; None if it does not answer."""
        call = ControllerStub(self._channel(spec)).DescribeQuorum
        return _answer(lambda: call(DescribeQuorumRequest(), timeout=timeout_s))

    def cluster(self) -> DescribeClusterResponse | None:
        """The cluster as the broker sees it that has replayed most of the metadata."""
        answers = (self.ask_broker(spec) for spec in self._running(self._layout.brokers))
        return max(_present(answers), key=lambda answer: answer.metadata_end_offset, default=None)

    def quorum(self) -> DescribeQuorumResponse | None:
        """The quorum as the controller of the newest epoch sees it, the active one first."""
        answers = (self.ask_controller(spec) for spec in self._running(self._layout.controllers))
        return max(
            _present(answers),
            key=lambda answer: (answer.controller_epoch, answer.controller_id == answer.active_controller_id),
            default=None,
        )

    def metadata(self, topics: Sequence[str] | None = None) -> MetadataResponse | None:
        """Topics (all if None) as the broker sees them that has replayed most of the metadata."""
        request = MetadataRequest(topics=topics or (), all_topics=topics is None)

        def ask(spec: NodeSpec) -> MetadataResponse | None:
            return _answer(lambda: BrokerStub(self._channel(spec)).GetMetadata(request, timeout=CALL_SECONDS))

        answers = (ask(spec) for spec in self._running(self._layout.brokers))
        return max(_present(answers), key=lambda answer: answer.metadata_end_offset, default=None)

    def topic(self, name: str) -> TopicDescription | None:
        """One topic, if a broker answers and knows it."""
        answer = self.metadata([name])
        described = [topic for topic in answer.topics if topic.name == name] if answer else []
        return described[0] if described and described[0].error_code == 0 else None

    def high_watermarks(self, topic: TopicDescription) -> dict[int, int]:
        """The high watermark of each partition whose leader answers."""
        found: dict[int, int] = {}
        for leader_id in sorted({partition.leader_id for partition in topic.partitions if partition.leader_id >= 0}):
            spec = self._layout.node(leader_id)
            if not self._is_running(spec):
                continue
            request = ListOffsetsRequest(
                partitions=[
                    PartitionListOffsetsRequest(
                        topic=topic.name,
                        partition=partition.partition,
                        current_leader_epoch=-1,
                        timestamp=LATEST_TIMESTAMP,
                    )
                    for partition in topic.partitions
                    if partition.leader_id == leader_id
                ]
            )
            answer = self._list_offsets(spec, request)
            if answer is not None:
                found.update({p.partition: p.offset for p in answer.partitions if p.error_code == 0})
        return found

    def _list_offsets(self, spec: NodeSpec, request: ListOffsetsRequest) -> ListOffsetsResponse | None:
        return _answer(lambda: BrokerStub(self._channel(spec)).ListOffsets(request, timeout=CALL_SECONDS))

    def _running(self, specs: Iterable[NodeSpec]) -> list[NodeSpec]:
        return [spec for spec in specs if self._is_running(spec)]

    def _channel(self, spec: NodeSpec) -> grpc.Channel:
        if spec.name not in self._channels:
            self._channels[spec.name] = grpc.insecure_channel(spec.address, options=CHANNEL_OPTIONS)
        return self._channels[spec.name]


def _answer(call: Callable[[], T]) -> T | None:
    try:
        return call()
    except grpc.RpcError:
        return None  # down, paused or starting: the caller asks others, or again
    except ValueError:
        return None  # the connection was dropped meanwhile because its node went down


def _present(answers: Iterable[T | None]) -> list[T]:
    return [answer for answer in answers if answer is not None]
