"""Which leader each followed partition is copied from: one fetcher for each leader that is known and reachable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from ...cluster.broker import Endpoint
from ...cluster.image import MetadataImage
from ...proto.identifiers import GRPC_LISTENER, BrokerEpoch, BrokerId
from .fetcher import ReplicaFetcher
from .transport import ReplicaTransport

if TYPE_CHECKING:
    from ..partition import Partition


class Fetchers:
    """`follow` and `unfollow` take effect at once; fetchers are made and ended in `metadata_changed`."""

    def __init__(
        self,
        *,
        broker_id: BrokerId,
        broker_epoch: Callable[[], BrokerEpoch],
        transport: ReplicaTransport,
        random: Random,
        on_fatal: Callable[[Exception], None],
    ) -> None:
        self._broker_id = broker_id
        self._broker_epoch = broker_epoch
        self._transport = transport
        self._random = random
        self._on_fatal = on_fatal
        self._fetchers: dict[BrokerId, ReplicaFetcher] = {}
        self._followed: dict[Partition, BrokerId] = {}  # from whom, where a fetcher has it
        self._waiting: dict[Partition, None] = {}  # for a fetcher to be made

    def follow(self, partition: Partition) -> None:
        """The partition has a new leader or epoch, or started over."""
        if self._followed.get(partition) != partition.leader_id:
            self.unfollow(partition)
        if partition.leader_id is None:
            return
        fetcher = self._fetchers.get(partition.leader_id)
        if fetcher is None:
            self._waiting[partition] = None
        else:
            fetcher.follow(partition)
            self._followed[partition] = partition.leader_id

    def unfollow(self, partition: Partition) -> None:
        """This broker leads it, holds it no longer, or knows of no leader."""
        self._waiting.pop(partition, None)
        leader_id = self._followed.pop(partition, None)
        if leader_id is not None:
            self._fetchers[leader_id].unfollow(partition)

    async def metadata_changed(self, image: MetadataImage) -> None:
        """Ends fetchers that have nothing to do or whose leader moved; makes those that are wanted."""
        ended = [
            fetcher
            for fetcher in self._fetchers.values()
            if fetcher.empty or _endpoint(image, fetcher.leader_id) != fetcher.endpoint
        ]
        for fetcher in ended:
            del self._fetchers[fetcher.leader_id]
            for partition in fetcher.partitions:
                del self._followed[partition]
                self._waiting[partition] = None
        await asyncio.gather(*(fetcher.stop() for fetcher in ended))
        for partition in tuple(self._waiting):
            leader_id = partition.leader_id
            endpoint = None if leader_id is None else _endpoint(image, leader_id)
            if leader_id is None or endpoint is None:
                continue
            if leader_id not in self._fetchers:
                self._start(leader_id, endpoint)
            del self._waiting[partition]
            self.follow(partition)

    def _start(self, leader_id: BrokerId, endpoint: Endpoint) -> None:
        fetcher = ReplicaFetcher(
            broker_id=self._broker_id,
            leader_id=leader_id,
            endpoint=endpoint,
            broker_epoch=self._broker_epoch,
            transport=self._transport,
            random=self._random,
            on_fatal=self._on_fatal,
        )
        self._fetchers[leader_id] = fetcher
        fetcher.start()

    async def shutdown(self) -> None:
        """Ends all."""
        fetchers = list(self._fetchers.values())
        self._fetchers.clear()
        self._followed.clear()
        self._waiting.clear()
        await asyncio.gather(*(fetcher.stop() for fetcher in fetchers))


def _endpoint(image: MetadataImage, broker_id: BrokerId) -> Endpoint | None:
    broker = image.brokers.get(broker_id)
    return None if broker is None else broker.endpoints.get(GRPC_LISTENER)
