"""Leaders go back to where they belong: now and then the active controller elects preferred leaders by itself.

After a broker was away, others lead its partitions and go on leading when it is back. Kafka's KRaft controllers look
every `leader.imbalance.check.interval.seconds` and elect the preferred leader wherever that is possible, some at a
time; so does this.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from itertools import islice
from typing import Final, Protocol

from ..cluster.image import MetadataImage
from ..proto.command_pb2 import (
    ELECTION_PREFERRED,
    Command,
    CommandResponse,
    ElectLeadersCommand,
    TopicPartitionReference,
)
from ..proto.errors import ErrorCode
from ..proto.identifiers import TopicPartition

logger = logging.getLogger(__name__)

ELECTIONS_MAX: Final = 1_000
"""In one look, as in Kafka; the rest is for the next."""


class Balancer(Protocol):
    """What this needs of `ActiveController`."""

    @property
    def is_active(self) -> bool: ...

    @property
    def image(self) -> MetadataImage: ...

    async def propose(self, command: Command) -> CommandResponse: ...


def imbalanced(image: MetadataImage, limit: int = ELECTIONS_MAX) -> list[TopicPartition]:
    """Partitions whose preferred leader is fit to lead and does not, `limit` at most. Pure."""
    found = (
        TopicPartition(topic.name, partition.partition)
        for topic, partition in image.partitions()
        if partition.leader != partition.preferred_leader
        and partition.preferred_leader in partition.isr
        and image.is_active(partition.preferred_leader)
    )
    return list(islice(found, limit))


async def balance_once(controller: Balancer) -> int:
    """Proposes one election for all that is out of balance; returns for how many partitions."""
    wanted = imbalanced(controller.image) if controller.is_active else []
    if not wanted:
        return 0
    election = ElectLeadersCommand(
        election_type=ELECTION_PREFERRED,
        partitions=[TopicPartitionReference(topic=topic, partition=partition) for topic, partition in wanted],
    )
    response = await controller.propose(Command(request_id=uuid.uuid4().bytes, elect_leaders=election))
    logger.info("leaders_balanced partitions=%d error=%s", len(wanted), ErrorCode.of(response.error_code).name)
    return len(wanted)


async def keep_balanced(controller: Balancer, interval_s: float) -> None:
    """Looks every `interval_s` seconds, for ever; only the active controller acts."""
    while True:
        await asyncio.sleep(interval_s)
        await balance_once(controller)
