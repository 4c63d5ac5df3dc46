"""Which replica a consumer is sent to: one in its own rack, if that is as good as the leader (KIP-392). Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ..cluster.image import MetadataImage
from ..proto.identifiers import BrokerId, Offset
from .replication.leader import LeaderState
from .replication.offsets import UNKNOWN_OFFSET


def preferred_read_replica(
    image: MetadataImage,
    leader: LeaderState,
    log_starts: Mapping[BrokerId, Offset],
    rack: str,
    fetch_offset: Offset,
    listener: str,
) -> BrokerId | None:
    """A member of the ISR in the consumer's rack that holds `fetch_offset`; None: the leader is the one to ask.

    Of several the one furthest ahead, as Apache Kafka's RackAwareReplicaSelector chooses. One out of the ISR is never
    chosen: it may fall further and further behind. Nor is one whose log begins later (`log_starts` has those that are
    known): the consumer would be sent back and forth.
    """
    own = image.brokers.get(leader.broker_id)
    if own is not None and own.rack == rack:
        return None
    best: tuple[Offset, int, BrokerId] | None = None
    for follower in leader.followers.values():
        broker = image.brokers.get(follower.broker_id)
        if (
            follower.broker_id not in leader.isr.committed
            or not log_starts.get(follower.broker_id, UNKNOWN_OFFSET) <= fetch_offset <= follower.log_end_offset
            or broker is None
            or not broker.active
            or broker.rack != rack
            or listener not in broker.endpoints
        ):
            continue
        caught_up = -1 if follower.last_caught_up_ms is None else follower.last_caught_up_ms
        candidate = follower.log_end_offset, caught_up, follower.broker_id
        if best is None or candidate > best:
            best = candidate
    return None if best is None else best[2]
