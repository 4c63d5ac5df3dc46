"""Who leads now: told with NOT_LEADER_OR_FOLLOWER and FENCED_LEADER_EPOCH, it saves a metadata request (KIP-951).

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...cluster.image import BrokerRegistration, MetadataImage
from ...proto.identifiers import KAFKA_LISTENER, NONE_ID, BrokerId
from .answer import NO_TAGS, AnswerWriter, tagged

_NO_TAGGED_FIELDS: Final = b"\0"


class LeaderHints:
    """The hints of one answer; it names the address of each leader once, at its end."""

    def __init__(self, image: MetadataImage) -> None:
        self._image = image
        self._leaders: dict[BrokerId, BrokerRegistration] = {}

    def current_leader_tag(self, tag: int, topic: str, number: int) -> bytes:
        """The tagged field CurrentLeader; empty for a partition that the image does not know."""
        found = self._image.topics.get(topic)
        if found is None or not 0 <= number < len(found.partitions):
            return b""
        partition = found.partitions[number]
        answer = AnswerWriter(True)
        answer.int32(NONE_ID if partition.leader is None else partition.leader)
        answer.int32(partition.leader_epoch)
        answer.raw(_NO_TAGGED_FIELDS)
        broker = None if partition.leader is None else self._image.brokers.get(partition.leader)
        if broker is not None and KAFKA_LISTENER in broker.endpoints:
            self._leaders[broker.broker_id] = broker
        return tagged(tag, answer.getvalue())

    def node_endpoints_tag(self, tag: int) -> Sequence[bytes]:
        """The tagged field NodeEndpoints, if any leader was named."""
        if not self._leaders:
            return NO_TAGS
        answer = AnswerWriter(True)
        answer.count(len(self._leaders))
        for broker_id, broker in self._leaders.items():
            endpoint = broker.endpoints[KAFKA_LISTENER]
            answer.int32(broker_id)
            answer.string(endpoint.host)
            answer.int32(endpoint.port)
            answer.nullable_string(broker.rack)
            answer.raw(_NO_TAGGED_FIELDS)
        return (tagged(tag, answer.getvalue()),)
